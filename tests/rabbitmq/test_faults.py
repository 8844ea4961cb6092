"""What becomes of our side when RabbitMQ is killed, stopped, short of memory, or takes something away."""

import asyncio
import logging
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.node import Node
from exhaust.broker.interface import ACKNOWLEDGE, Binding, Delivery, Disposition, Publication, Queue
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.errors import BrokerError, UncertainError, UnreachableError, UnroutableError

WITHIN = 20.0
SCRIPT = Path(__file__).with_name("leaver.py")


@pytest.fixture(scope="module")
def own(node: Node) -> Iterator[Node]:
    with Node() as another:
        assert another.port != node.port
        yield another


@pytest.fixture
def victim(own: Node) -> Iterator[Node]:
    """The node of this file, up and answering whatever the test before did to it."""
    own.resume()
    if own.pid is None:
        own.start()
    yield own
    own.resume()


class Reader:
    """Keeps the ids of what it acknowledges."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        self.ids += [delivery.id for delivery in deliveries]
        return [ACKNOWLEDGE] * len(deliveries)


async def until(true: Callable[[], bool], within: float = WITHIN) -> None:
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def outcome(sent: asyncio.Future[None]) -> BaseException | None:
    await asyncio.wait((sent,), timeout=WITHIN)
    return sent.exception()


class Trial:
    """A broker client with one exchange and one queue of its own."""

    def __init__(self, node: Node, broker: RabbitMQ) -> None:
        self.node = node
        self.broker = broker
        self.exchange = secrets.token_hex(4)
        self.queue = Queue(f"{self.exchange}.q", (Binding(self.exchange, "#"),))

    def publish(self, identity: str, body: bytes = b"", **options: str) -> asyncio.Future[None]:
        exchange = options.get("exchange", self.exchange)
        return asyncio.ensure_future(self.broker.publish(Publication(exchange, "a", identity, "t/1", body, 0.0)))

    async def confirmed(self, identity: str) -> None:
        """Publish again and again, as an outbox would, until it is confirmed."""
        async with asyncio.timeout(WITHIN):
            while await outcome(self.publish(identity)) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.fixture
async def trial(victim: Node) -> AsyncIterator[Trial]:
    async with RabbitMQ(victim.url, name="faults", confirm_within=0.5, ping_every=0.2) as broker:
        made = Trial(victim, broker)
        await broker.wait_connected(WITHIN)
        await broker.declare([made.exchange], [made.queue])
        yield made


async def test_kill_loses_nothing_that_was_confirmed_and_flow_resumes(trial: Trial) -> None:
    reader, stop = Reader(), asyncio.Event()
    confirmed: list[str] = []

    async def flood() -> None:
        while not stop.is_set():
            ids = [f"m{len(confirmed)}-{n}-{secrets.token_hex(3)}" for n in range(20)]
            sent = [trial.publish(identity) for identity in ids]
            ended = await asyncio.wait_for(asyncio.gather(*sent, return_exceptions=True), WITHIN)
            confirmed.extend(identity for identity, error in zip(ids, ended, strict=True) if error is None)
            await asyncio.sleep(0.01)

    await asyncio.to_thread(trial.node.settle)
    async with trial.broker.consume(trial.queue, reader):
        flooding = asyncio.create_task(flood())
        await until(lambda: len(reader.ids) > 500)
        trial.node.kill()
        await until(lambda: not trial.broker.connected)
        began = time.monotonic()
        assert isinstance(await outcome(trial.publish("while down")), BrokerError)
        assert time.monotonic() - began < 1.0
        await asyncio.to_thread(trial.node.start)
        assert not trial.broker.stuck.is_set(), "a broker that is down is not stuck"
        began, before = time.monotonic(), len(reader.ids)
        await until(lambda: trial.broker.connected and len(reader.ids) > before, within=10)
        print(f"resumed {time.monotonic() - began:.2f} s after the port answered")
        stop.set()
        await flooding
        await until(lambda: set(confirmed) <= set(reader.ids))


async def test_connections_closed_by_the_server_come_back(trial: Trial) -> None:
    reader = Reader()
    async with trial.broker.consume(trial.queue, reader):
        await asyncio.to_thread(trial.node.rabbitmqctl, "close_all_connections", "maintenance")
        await until(lambda: not trial.broker.connected or trial.broker.last_error is not None)
        await trial.broker.wait_connected(WITHIN)
        await trial.confirmed("after")
        await until(lambda: "after" in reader.ids)


async def test_queue_deleted_under_its_consumer_is_made_again(trial: Trial) -> None:
    reader = Reader()
    async with trial.broker.consume(trial.queue, reader):
        await trial.confirmed("before")
        await asyncio.to_thread(trial.node.rabbitmqctl, "delete_queue", trial.queue.name)
        await trial.confirmed("after")
        await until(lambda: reader.ids == ["before", "after"])


async def test_publishing_to_a_missing_exchange_does_not_disturb_for_long(trial: Trial) -> None:
    assert isinstance(await outcome(trial.publish("1", exchange="missing")), UnroutableError)
    await trial.confirmed("2")


async def test_stopped_broker_leaves_publications_uncertain_and_may_deliver_them(trial: Trial) -> None:
    reader = Reader()
    async with trial.broker.consume(trial.queue, reader):
        trial.node.suspend()
        began = time.monotonic()
        assert isinstance(await outcome(trial.publish("x")), UncertainError)
        assert 0.4 < time.monotonic() - began < 2
        trial.node.resume()
        await trial.confirmed("x")
        await until(lambda: reader.ids == ["x", "x"])


async def test_stopped_broker_is_noticed_as_stuck(trial: Trial) -> None:
    trial.node.suspend()
    await asyncio.wait_for(trial.broker.stuck.wait(), WITHIN)
    assert trial.broker.connected


async def test_memory_alarm_blocks_publishing_but_not_consuming(trial: Trial) -> None:
    reader = Reader()
    await trial.confirmed("before")
    await asyncio.to_thread(trial.node.rabbitmqctl, "set_vm_memory_high_watermark", "0")
    try:
        async with asyncio.timeout(WITHIN):
            # The broker looks at its memory only now and then.
            while (error := await outcome(trial.publish("during"))) is None:
                pass
        assert isinstance(error, UncertainError)
        assert trial.broker.blocked
        async with trial.broker.consume(trial.queue, reader):
            await until(lambda: "before" in reader.ids)
            seen = reader.ids.count("during")
            await asyncio.to_thread(trial.node.rabbitmqctl, "set_vm_memory_high_watermark", "0.6")
            await until(lambda: reader.ids.count("during") > seen)
            assert not trial.broker.stuck.is_set()
        await until(lambda: not trial.broker.blocked)
    finally:
        await asyncio.to_thread(trial.node.rabbitmqctl, "set_vm_memory_high_watermark", "0.6")


async def test_what_a_stopped_broker_does_not_read_is_bounded(trial: Trial) -> None:
    trial.node.suspend()
    sent = [trial.publish(f"m{n}", bytes(1_000_000)) for n in range(40)]
    assert isinstance(await outcome(sent[-1]), BrokerError)
    assert not isinstance(sent[-1].exception(), UncertainError), "it was never sent"
    assert isinstance(await outcome(sent[0]), UncertainError)


async def test_stopped_broker_cannot_be_connected_to(victim: Node) -> None:
    victim.suspend()
    async with RabbitMQ(victim.url, name="late") as broker:
        with pytest.raises(UnreachableError, match="does not answer"):
            await broker.wait_connected(0.3)
        assert not broker.connected


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("guest:guest@", "guest:s3cret@"), "refuses the user 'guest'"),
        (("/", "/s3cret"), "refuses the connection: NOT_ALLOWED - vhost"),
        (("5", "1"), "does not answer"),
    ],
    ids=["password", "virtual host", "port"],
)
async def test_reason_is_told_without_the_password(
    victim: Node, caplog: pytest.LogCaptureFixture, change: tuple[str, str], text: str
) -> None:
    caplog.set_level(logging.DEBUG, "exhaust")
    url = {
        "guest:guest@": victim.url.replace(*change),
        "/": f"{victim.url}none",
        "5": "amqp://guest:s3cret@127.0.0.1:1/",
    }[change[0]]
    async with RabbitMQ(url, name="refused") as broker:
        await until(lambda: broker.last_error is not None)
        with pytest.raises(UnreachableError, match=text):
            await broker.wait_connected(0.01)
        assert "s3cret" not in f"{broker.last_error} {broker!r} {caplog.text} {[vars(r) for r in caplog.records]}"


@pytest.mark.parametrize("url", ["http://h/", "amqp://", "amqp://h:port/"])
async def test_url_that_is_none_of_a_broker_is_refused(url: str) -> None:
    with pytest.raises(UnreachableError, match="must be amqp"):
        RabbitMQ(url, name="x")


@pytest.mark.parametrize("state", ["alive", "killed", "stopped"])
async def test_process_with_a_consumer_exits_in_time(victim: Node, state: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", str(SCRIPT), victim.url, secrets.token_hex(4),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path.cwd(),
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert await asyncio.wait_for(child.stdout.readline(), WITHIN) == b"consuming\n"
        {"alive": lambda: None, "killed": victim.kill, "stopped": victim.suspend}[state]()
        began = time.monotonic()
        child.stdin.close()
        _, errors = await asyncio.wait_for(child.communicate(), 10)
        assert time.monotonic() - began < 6
        assert (child.returncode, errors) == (0, b"")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
