"""Messages on the wire: what comes back is what was sent, and nothing is taken under a false address."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exhaust.broker.interface import Delivery, Publication
from exhaust.errors import ForgeryError, MessageError
from exhaust.messages import AnyMessage, Codec, ExecutionEvent, kind_of
from exhaust.routing import ACTIVATIONS, BACKLOG, COMMANDS, CONTROL, KNOWLEDGE, RESULTS, TELEMETRY
from exhaust.signing import MOST_BYTES, MOST_PAYLOAD, SIGNED, Signer, Verifier
from exhaust.wire import pack, unpack, unsendable

GOLDEN = Path(__file__).parent.parent / "golden" / "messages"
KINDS = [kind.__name__ for kind in get_args(AnyMessage)]
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
SIGNER = Signer(KEY)
LARGEST: dict[str, Any] = {
    "summary": "s" * 300,
    "evidence": [{}] * 7 + [{"text": "e" * (4096 - 34)}],
    "labels": {**{f"{n:02}": "" for n in range(63)}, "long": "l" * (4096 - 515)},
    "value": "v" * (16_384 - 2),
}
VERIFIER = Verifier(
    {f"{name}/1": KEY.public_key() for name in ("activation", "command", "result", "order", "execution")}
)


def golden(name: str) -> AnyMessage:
    message = Codec.decode((GOLDEN / f"{name}.json").read_bytes())
    ended = isinstance(message, ExecutionEvent)
    return msgspec.structs.replace(message, task=None, state="succeeded") if ended else message


def packed(name: str) -> Publication:
    return pack(golden(name), SIGNER)


def delivered(sent: Publication, **fields: Any) -> Delivery:
    about = Delivery(sent.exchange, sent.key, sent.id, sent.type, sent.body, sent.time, sent.headers, "queue", 1)
    return replace(about, **fields)


@pytest.mark.parametrize("name", KINDS)
def test_a_message_comes_back_as_it_was_sent(name: str) -> None:
    message = golden(name)
    sent = packed(name)
    assert (sent.id, sent.type, sent.time) == (message.id, kind_of(message), message.time)
    assert unpack(delivered(sent), VERIFIER) == message


@pytest.mark.parametrize("name", KINDS)
def test_only_what_must_be_signed_is_sealed(name: str) -> None:
    sealed = b"payloadType" in packed(name).body
    assert sealed == isinstance(golden(name), SIGNED)


@pytest.mark.parametrize("name", ["Activation", "Command", "Order", "Result"])
def test_what_must_be_signed_is_not_sent_otherwise(name: str) -> None:
    with pytest.raises(TypeError, match="needs a signer"):
        pack(golden(name))


def test_a_batch_tells_the_ledger_all_in_its_headers() -> None:
    assert packed("Batch").headers == {
        "host": "web-1", "emitter": "service", "stream": "state", "epoch": 3, "seq": 17, "count": 1, "dropped": 2,
        "forgone": "2:40-41", "schema": 1,
    }  # fmt: skip


def test_headers_that_call_other_numbers_forgone_than_the_body_are_misattributed() -> None:
    sent = packed("Batch")
    for told in ("", "2:40-42"):
        with pytest.raises(MessageError, match="misattributed"):
            unpack(delivered(sent, headers={**sent.headers, "forgone": told}), VERIFIER)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "Batch"])
def test_only_batches_have_headers(name: str) -> None:
    assert packed(name).headers.keys() == ({"signature"} if name == "ExecutionEvent" else set())


@pytest.mark.parametrize("headers", [{}, {"signature": ""}, {"signature": "AAAA"}, {"signature": 7}])
def test_an_execution_event_without_its_signature_is_a_forgery(headers: dict[str, str | int]) -> None:
    with pytest.raises(ForgeryError, match="wrong or missing"):
        unpack(delivered(packed("ExecutionEvent"), headers=headers), VERIFIER)


def test_a_reader_that_only_shows_execution_events_needs_no_key() -> None:
    assert unpack(delivered(packed("ExecutionEvent"))) == golden("ExecutionEvent")


def test_a_key_longer_than_the_protocol_allows_is_refused_before_it_is_stored() -> None:
    with pytest.raises(MessageError, match="255 bytes"):
        pack(msgspec.structs.replace(golden("Fact"), host="h" * 250))


def sized(name: str, **fields: Any) -> Delivery:
    return delivered(pack(msgspec.structs.replace(golden(name), **fields)))


@pytest.mark.parametrize("name", ["Fact", "Prediction"])
@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("summary", "s" * 301, "the summary of a fact has 301 characters: at most 300"),
        ("evidence", [{}] * 9, "the evidence of a fact has 9 records: at most 8"),
        ("evidence", [{"text": "e" * 80_000}], "bytes: at most 32768"),
        ("evidence", [{"text": "e" * (4097 - 13)}], "the evidence of a fact has 4097 bytes: at most 4096"),
        ("labels", {str(n): "" for n in range(65)}, "the labels of a fact has 65 labels: at most 64"),
        ("labels", {"a": "l" * 4096}, "the labels of a fact has 4104 bytes: at most 4096"),
        ("value", "v" * 16_383, "the value of a fact has 16385 bytes: at most 16384"),
        ("detector", "d" * 32_768, "bytes: at most 32768"),
    ],
)
def test_a_fact_larger_than_an_activation_can_carry_is_refused(name: str, part: str, value: object, said: str) -> None:
    with pytest.raises(MessageError, match=said):
        unpack(sized(name, **{part: value}))


def test_the_largest_fact_is_taken_and_an_activation_carries_it_with_inputs() -> None:
    assert [len(msgspec.json.encode(LARGEST[part])) for part in ("evidence", "labels", "value")] == [4096, 4096, 16_384]
    fact = unpack(sized("Prediction", **LARGEST))
    activation = msgspec.structs.replace(golden("Activation"), cause=fact, inputs={"text": "i" * 16_384})
    assert unsendable(activation) == ""
    assert unpack(delivered(pack(activation, SIGNER)), VERIFIER) == activation


@pytest.mark.parametrize("name", ["Activation", "Command", "Order", "Result"])
def test_what_can_be_sealed_is_known_beforehand(name: str) -> None:
    field = {"Command": "params", "Result": "output"}.get(name, "inputs")
    message = golden(name)
    room = MOST_PAYLOAD - len(Codec.encode(msgspec.structs.replace(message, **{field: {"a": ""}})))
    fits, over = (msgspec.structs.replace(message, **{field: {"a": "x" * (room + more)}}) for more in (0, 1))
    assert unsendable(fits) == ""
    assert len(pack(fits, SIGNER).body) <= MOST_BYTES
    assert unsendable(over) == f"a {kind_of(over)} of 48641 bytes is too long: at most 48640"


def test_what_has_too_long_a_key_is_known_beforehand() -> None:
    assert "255 bytes" in unsendable(msgspec.structs.replace(golden("Command"), host="h" * 256))


def test_a_command_waits_no_longer_than_it_is_valid() -> None:
    assert packed("Command").expires == 30.0
    late = msgspec.structs.replace(golden("Command"), expires=0.0)
    assert pack(late, SIGNER).expires == 0.0
    assert packed("Result").expires is None


@pytest.mark.parametrize("name", KINDS)
def test_an_id_that_is_not_the_body_s_is_misattributed(name: str) -> None:
    with pytest.raises(MessageError, match="misattributed"):
        unpack(delivered(packed(name), id="other"), VERIFIER)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("key", ["", "#", "web-2", "web-2.service.state", "fact.web-2.service.down", "web-1.x"])
def test_a_key_that_is_not_the_body_s_is_misattributed(name: str, key: str) -> None:
    with pytest.raises(MessageError, match="misattributed"):
        unpack(delivered(packed(name), key=key), VERIFIER)


@pytest.mark.parametrize("name", ["Batch", "Fact", "Watch", "Sighting", "Decision", "ExecutionEvent"])
@pytest.mark.parametrize("exchange", [TELEMETRY, BACKLOG, KNOWLEDGE, "exhaust.journal", "exhaust.dead", ""])
def test_an_exchange_that_is_not_the_body_s_is_misattributed(name: str, exchange: str) -> None:
    sent = packed(name)
    if exchange not in (sent.exchange, BACKLOG if name == "Batch" else ""):
        with pytest.raises(MessageError, match="misattributed"):
            unpack(delivered(sent, exchange=exchange), VERIFIER)


@pytest.mark.parametrize("name", ["Activation", "Command", "Result"])
@pytest.mark.parametrize("exchange", [ACTIVATIONS, COMMANDS, RESULTS, CONTROL])
def test_a_signed_message_on_another_s_exchange_is_misattributed(name: str, exchange: str) -> None:
    sent = packed(name)
    if exchange != sent.exchange and (name, exchange) != ("Command", RESULTS):
        with pytest.raises(MessageError, match="misattributed"):
            unpack(delivered(sent, exchange=exchange), VERIFIER)


def test_what_a_spool_resends_comes_by_the_backlog() -> None:
    assert unpack(delivered(packed("Batch"), exchange=BACKLOG)) == golden("Batch")


def test_a_command_that_expired_comes_back_among_the_results() -> None:
    assert unpack(delivered(packed("Command"), exchange=RESULTS), VERIFIER) == golden("Command")


@pytest.mark.parametrize("name", ["Activation", "Command", "Result"])
@pytest.mark.parametrize("exchange", [ACTIVATIONS, COMMANDS, RESULTS, CONTROL])
def test_nothing_unsigned_is_taken_where_signatures_are_due(name: str, exchange: str) -> None:
    bare = delivered(packed(name), body=Codec.encode(golden(name)), exchange=exchange)
    with pytest.raises(MessageError, match="no signed envelope"):
        unpack(bare, VERIFIER)


@pytest.mark.parametrize("exchange", [ACTIVATIONS, COMMANDS, RESULTS, CONTROL])
def test_who_has_no_verifier_reads_nothing_signed(exchange: str) -> None:
    with pytest.raises(ForgeryError, match="nobody here reads"):
        unpack(delivered(packed("Command"), exchange=exchange))


@pytest.mark.parametrize("name", ["Activation", "Command", "Result"])
@pytest.mark.parametrize("exchange", [KNOWLEDGE, TELEMETRY, BACKLOG, "exhaust.journal"])
def test_a_command_without_signature_is_not_taken_by_another_road(name: str, exchange: str) -> None:
    bare = delivered(packed(name), body=Codec.encode(golden(name)), exchange=exchange)
    with pytest.raises(MessageError, match="misattributed"):
        unpack(bare, VERIFIER)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"null"])
def test_a_body_that_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(MessageError):
        unpack(delivered(packed("Fact"), body=body))
