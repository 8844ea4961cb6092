"""What only the embedded broker promises: a confirm means that the consumers are done, and nothing takes time."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from exhaust.broker.embedded import Embedded, matches, words_of
from exhaust.broker.handling import DEAD_QUEUE
from exhaust.broker.interface import ACKNOWLEDGE, REDELIVER, Binding, Delivery, Disposition, Publication, Queue, Reject
from exhaust.errors import BrokerError, UncertainError

TELEMETRY = Queue("telemetry", (Binding("x", "#"),))
LEDGER = Queue("ledger", (Binding("x", "#"),))


def publication(key: str = "a", **options: float) -> Publication:
    return Publication("x", key, "id", "t/1", b"", 0.0, {}, options.get("expires"))


async def accept(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
    return [ACKNOWLEDGE] * len(deliveries)


async def turns(count: int = 20) -> None:
    """Let everything that can run do so: the broker never waits for time to pass."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_publication_is_confirmed_once_all_consumers_have_acknowledged() -> None:
    async with Embedded() as broker:
        await broker.declare(["x"], [TELEMETRY, LEDGER])
        sent = asyncio.ensure_future(broker.publish(publication()))
        async with broker.consume(TELEMETRY, accept):
            await turns()
            assert not sent.done()
            async with broker.consume(LEDGER, accept):
                await turns()
                assert sent.done()


async def test_publication_without_a_consumer_waits_until_the_end() -> None:
    async with Embedded() as broker:
        await broker.declare(["x"], [TELEMETRY])
        sent = asyncio.ensure_future(broker.publish(publication()))
        await turns()
        assert not sent.done()
    with pytest.raises(UncertainError):
        await sent


async def test_dead_letter_counts_as_accepted() -> None:
    async def reject(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        return [Reject("bad")] * len(deliveries)

    async with Embedded() as broker:
        await broker.declare(["x"], [TELEMETRY])
        async with broker.consume(TELEMETRY, reject):
            await asyncio.wait_for(broker.publish(publication()), 1)


async def test_where_somebody_reads_the_dead_letters_they_are_accepted_only_then() -> None:
    async def reject(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        return [Reject("bad")] * len(deliveries)

    go_on = asyncio.Event()

    async def keep(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        await go_on.wait()
        return [ACKNOWLEDGE] * len(deliveries)

    async with Embedded() as broker:
        await broker.declare(["x"], [TELEMETRY])
        async with broker.consume(TELEMETRY, reject):
            async with broker.consume(DEAD_QUEUE, keep):
                first, direct = (
                    asyncio.ensure_future(broker.publish(one))
                    for one in (publication(), replace(publication(), exchange="exhaust.dead"))
                )
                await turns()
                before = first.done(), direct.done()
                go_on.set()
                await asyncio.wait_for(asyncio.gather(first, direct), 1)
                assert before == (False, False)
            second = asyncio.ensure_future(broker.publish(publication()))
            await turns()
            assert not second.done(), "the reader is away, and comes back"
            async with broker.consume(DEAD_QUEUE, keep):
                await asyncio.wait_for(second, 1)


async def test_of_too_many_dead_letters_the_oldest_are_lost_and_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exhaust.broker.embedded.MOST_DEAD", 2)
    async with Embedded() as broker:
        async with broker.consume(DEAD_QUEUE, accept):
            pass
        sent = [asyncio.ensure_future(broker.publish(Publication("exhaust.dead", "q", str(n), "t", b"", 0.0)))
                for n in range(4)]  # fmt: skip
        await turns()
        assert [one.done() for one in sent] == [True, True, False, False]
        for one in sent:
            one.cancel()


async def test_redelivery_delays_the_confirm() -> None:
    attempts: list[int] = []

    async def second_time(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        attempts.extend(delivery.attempt for delivery in deliveries)
        return [ACKNOWLEDGE if delivery.attempt > 1 else REDELIVER for delivery in deliveries]

    async with Embedded() as broker:
        await broker.declare(["x"], [TELEMETRY])
        async with broker.consume(TELEMETRY, second_time):
            await asyncio.wait_for(broker.publish(publication()), 1)
    assert attempts == [1, 2]


async def test_expired_message_is_confirmed_by_whoever_reads_where_it_went() -> None:
    commands = Queue("commands", (Binding("x", "host"),), leader=False, expires_to=("x", "result"))
    results = Queue("results", (Binding("x", "result"),))
    async with Embedded() as broker:
        await broker.declare(["x"], [commands, results])
        sent = asyncio.ensure_future(broker.publish(publication("host", expires=0.0)))
        await asyncio.sleep(0.01)
        assert not sent.done()
        async with broker.consume(results, accept):
            await asyncio.wait_for(sent, 1)


async def test_message_in_a_handler_does_not_expire() -> None:
    go_on = asyncio.Event()

    async def slow(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        await go_on.wait()
        return [ACKNOWLEDGE] * len(deliveries)

    async with Embedded() as broker:
        await broker.declare(["x"], [TELEMETRY])
        async with broker.consume(TELEMETRY, slow):
            sent = asyncio.ensure_future(broker.publish(publication(expires=0.01)))
            await asyncio.sleep(0.03)
            go_on.set()
            await asyncio.wait_for(sent, 1)


async def test_consumer_may_publish_to_itself_without_starving_others() -> None:
    ran = asyncio.Event()

    async with Embedded() as broker:

        async def echo(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
            if not ran.is_set():
                broker.publish(publication())
            return [ACKNOWLEDGE] * len(deliveries)

        await broker.declare(["x"], [TELEMETRY])
        async with broker.consume(TELEMETRY, echo):
            broker.publish(publication())
            asyncio.get_running_loop().call_later(0.01, ran.set)
            await asyncio.wait_for(ran.wait(), 1)


async def test_hop_takes_microseconds() -> None:
    async with Embedded() as broker:
        await broker.declare(["x"], [TELEMETRY])
        async with broker.consume(TELEMETRY, accept):
            loop = asyncio.get_running_loop()
            took = []
            for _ in range(200):
                began = loop.time()
                await broker.publish(publication())
                took.append(loop.time() - began)
    assert sorted(took)[100] < 0.01


async def test_binding_to_an_unknown_exchange_is_refused() -> None:
    async with Embedded() as broker:
        with pytest.raises(BrokerError, match="unknown exchange"):
            await broker.declare([], [TELEMETRY])


async def test_later_binding_counts_for_keys_that_were_routed_before() -> None:
    async with Embedded() as broker:
        await broker.declare(["x"], [TELEMETRY])
        async with broker.consume(TELEMETRY, accept):
            await broker.publish(publication())
            await broker.declare(["x"], [LEDGER])
            sent = asyncio.ensure_future(broker.publish(publication()))
            await turns()
            assert not sent.done()


@pytest.mark.parametrize(
    ("pattern", "key", "wanted"),
    [("", "", True), ("#", "", True), ("*", "", False), ("#.#", "", True), ("#.*.#", "a.b", True), ("*.*", "a", False)],
)
def test_patterns_at_their_edges(pattern: str, key: str, *, wanted: bool) -> None:
    assert matches(words_of(pattern), words_of(key)) is wanted
