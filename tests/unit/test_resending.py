"""What comes straight to a queue is taken only where the collector has re-sent it, as it was: the rest is as ever."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from exhaust.broker.interface import Delivery, Publication
from exhaust.errors import ForgeryError, MessageError
from exhaust.messages import AnyMessage, Codec, Order
from exhaust.resending import COUNT, RESENT, original, plain, resent
from exhaust.signing import Keys, Signer, Verifier
from exhaust.wire import pack, unpack

GOLDEN = Path(__file__).parent.parent / "golden" / "messages"
QUEUE = "exhaust.analyzers.telemetry"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


@pytest.fixture
def signer(keys: Keys) -> Signer:
    return keys.signer("collector")


@pytest.fixture
def verifier(keys: Keys) -> Verifier:
    return Verifier({RESENT: keys.public("collector"), "order/1": keys.public("collector")})


def golden(name: str) -> AnyMessage:
    return Codec.decode((GOLDEN / f"{name}.json").read_bytes())


def came(out: Publication, queue: str = QUEUE) -> Delivery:
    return Delivery(out.exchange, out.key, out.id, out.type, out.body, out.time, out.headers, queue, 1)


def again(name: str, signer: Signer, queue: str = QUEUE) -> Delivery:
    """What a queue gets when a message is sent to it again."""
    return came(resent(came(pack(golden(name), signer), queue), 1, signer), queue)


@pytest.mark.parametrize("name", ["Batch", "Fact", "Watch", "Order"])
def test_what_was_sent_again_is_read_as_what_it_was(name: str, signer: Signer, verifier: Verifier) -> None:
    delivery = again(name, signer)
    assert (delivery.exchange, delivery.key) == ("", QUEUE)
    assert unpack(delivery, verifier) == golden(name)


def test_what_a_broker_adds_to_it_does_no_harm(signer: Signer, verifier: Verifier) -> None:
    delivery = again("Batch", signer)
    assert unpack(replace(delivery, headers={**delivery.headers, "x-anything": 7}), verifier) == golden("Batch")


@pytest.mark.parametrize("name", ["Batch", "Fact", "Watch", "Sighting", "Decision"])
def test_what_a_stranger_puts_straight_into_a_queue_is_refused(name: str, signer: Signer, verifier: Verifier) -> None:
    out = pack(golden(name), signer)
    claims: dict[str, str | int] = {
        "x-resent-exchange": out.exchange,
        "x-resent-key": out.key,
        "x-resent": "AAAA",
        COUNT: 1,
    }
    for headers in (out.headers, {**out.headers, **claims}, {**out.headers, **claims, "x-resent": 7}):
        for reader in (None, verifier):
            with pytest.raises(MessageError):
                unpack(replace(came(out), exchange="", key=QUEUE, headers=headers), reader)


def test_who_does_not_know_the_collectors_key_takes_nothing_this_way(signer: Signer) -> None:
    with pytest.raises(ForgeryError, match="nobody may sign"):
        unpack(again("Fact", signer), Verifier({}))


def test_another_role_of_the_installation_cannot_re_send(keys: Keys, verifier: Verifier) -> None:
    with pytest.raises(ForgeryError, match="wrong or missing"):
        unpack(again("Fact", keys.signer("agent")), verifier)


@pytest.mark.parametrize(
    "changed",
    [
        lambda one: replace(one, queue="exhaust.collector.telemetry"),
        lambda one: replace(one, body=one.body.replace(b"web-1", b"web-2")),
        lambda one: replace(one, id="another"),
        lambda one: replace(one, type="fact/1"),
        lambda one: replace(one, time=one.time + 1),
        lambda one: replace(one, headers={**one.headers, "seq": 18}),
        lambda one: replace(one, headers={**one.headers, "x-resent-key": "web-2.service.state"}),
        lambda one: replace(one, headers={**one.headers, "x-resent-exchange": "exhaust.backlog"}),
        lambda one: replace(one, headers={**one.headers, "more": 1}),
    ],
)
def test_a_seal_is_good_for_nothing_else(
    changed: Callable[[Delivery], Delivery], signer: Signer, verifier: Verifier
) -> None:
    with pytest.raises(ForgeryError):
        unpack(changed(again("Batch", signer)), verifier)


def test_a_forged_batch_that_a_person_sends_again_is_still_no_order(signer: Signer, verifier: Verifier) -> None:
    order = golden("Order")
    assert isinstance(order, Order)
    bare = replace(came(pack(order, signer)), body=Codec.encode(order), exchange="exhaust.knowledge")
    with pytest.raises(MessageError, match="misattributed"):
        unpack(came(resent(bare, 1, signer)), verifier)
    with pytest.raises(MessageError, match="no signed envelope"):
        unpack(came(resent(replace(bare, exchange="exhaust.control"), 1, signer)), verifier)


def test_the_body_and_the_key_that_it_came_by_must_still_agree(signer: Signer, verifier: Verifier) -> None:
    batch = replace(came(pack(golden("Batch"))), key="web-2.service.state")
    with pytest.raises(MessageError, match="misattributed"):
        unpack(came(resent(batch, 1, signer)), verifier)


def test_sent_again_and_again_it_is_counted_and_nothing_else_of_it_changes(signer: Signer, verifier: Verifier) -> None:
    first = came(pack(golden("Batch")))
    delivery = first
    for count in (1, 2, 3):
        out = resent(delivery, count, signer)
        assert out.headers[COUNT] == count
        delivery = original(came(out), verifier)
        assert delivery == first
    assert plain(out.headers) == first.headers


def test_an_exchange_is_never_looked_behind(signer: Signer) -> None:
    delivery = came(pack(msgspec.structs.replace(golden("Fact"), host="web-2")))
    assert original(delivery, None) is delivery
