"""A spool between two sources, a disk that fails and a broker that may say anything; and what must hold of it."""

import asyncio
import errno
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, cast

import msgspec

from emitters.spool.disk import Disk
from emitters.spool.frames import BATCH, Frame, scan
from emitters.spool.parcels import Parcel
from emitters.spool.scribe import Then
from emitters.spool.segments import Log
from emitters.spool.spool import Spool
from exhaust.broker.interface import Broker, Publication
from exhaust.clock import VirtualClock
from exhaust.errors import BrokerError, UncertainError, UnroutableError
from exhaust.messages import Batch, Codec
from tests.faulty_disk import FaultyDisk

MOST = 256 << 10  # so segments are of 16 KiB
PAD = "x" * 1200
ANSWERS: Mapping[str, BrokerError | None] = {
    "confirmed": None,
    "uncertain": UncertainError("no confirm"),
    "lost": UncertainError("no confirm"),
    "refused": BrokerError("not published"),
    "unroutable": UnroutableError("no queue"),
}


class Turned(asyncio.SelectorEventLoop):
    """An event loop whose time is turned by hand."""

    moment = 0.0

    def time(self) -> float:
        return self.moment


class Steps:
    """A Scribe that does nothing until it is told to."""

    def __init__(self) -> None:
        self.work: list[tuple[Callable[[], Any], Then]] = []

    def do(self, work: Callable[[], Any], then: Then) -> None:
        self.work.append((work, then))

    def step(self) -> None:
        work, then = self.work.pop(0)
        try:
            result = work()
        except OSError as exc:
            then(None, exc)
        else:
            then(result, None)

    def close(self) -> None:
        while self.work:
            self.step()


class Far:
    """A broker that keeps everything it is asked to publish until a test answers for it."""

    connected = True

    def __init__(self) -> None:
        self.asked: list[tuple[Publication, asyncio.Future[None]]] = []
        self.got: dict[str, Batch] = {}
        self.tried: dict[str, Batch] = {}
        self.order: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked.append((publication, future))
        batch = cast("Batch", Codec.decode(publication.body))
        assert publication.headers["count"] == len(batch.records)
        assert publication.headers["seq"] == batch.seq
        if batch.id not in self.tried:
            self.order[publication.exchange, batch.stream].append((batch.epoch, batch.seq))
        self.tried[batch.id] = batch
        return future

    def answer(self, place: int, answer: str) -> None:
        publication, future = self.asked.pop(place % len(self.asked))
        if answer in ("confirmed", "uncertain"):
            self.got[publication.id] = self.tried[publication.id]
        if future.done():
            return
        if (error := ANSWERS[answer]) is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def die(self) -> None:
        """Forget who asked: they are gone."""
        for _, future in self.asked:
            future.cancel()
        self.asked.clear()


class World:
    """One folder's history. What is numbered comes from a source that can be read again from any place."""

    def __init__(
        self,
        seed: int,
        *,
        disk: Callable[[], FaultyDisk] = FaultyDisk,
        log: Callable[..., Log] = Log,
        spool: Callable[..., Spool] = Spool,
    ) -> None:
        self.random = Random(seed)
        self.loop = Turned()
        self.clock = VirtualClock()
        self.disk = disk()
        self.broker = Far()
        self._log, self._spool = log, spool
        self.reached = 0  # the highest position that was said to be durable
        self.read = 0
        self.metered = self.dropped = 0
        self.excused: set[str] = set()
        self.garbled = self.crashed = False
        self.open()

    def open(self) -> None:
        self.scribe = Steps()
        self.log = self._log(cast("Disk", self.disk), most=MOST)
        self.log.recover()
        before = self.log.book.epoch
        make = partial(self._spool, self.log, cast("Broker", self.broker), "h", self.clock, scribe=self.scribe)
        self.loop.run_until_complete(self._start(lambda: make(patience=(0.01,))))
        assert self.log.book.epoch > before
        self.position = self.spool.positions("tail")
        self.read = self.position.get("file", 0)
        if self.garbled:
            self.reached = self.read
        assert self.read >= self.reached, "what was durable is not there any more"

    async def _start(self, make: Callable[[], Spool]) -> None:
        self.spool = make()
        self.sending = asyncio.create_task(self.spool.run())

    def turn(self, seconds: float = 0.02) -> None:
        """Let the event loop turn, and time go by."""
        self.loop.moment += seconds
        self.clock.advance(seconds)
        for _ in range(8):
            self.loop.run_until_complete(asyncio.sleep(0))
        if self.sending.done():
            self.sending.result()
        self.reached = max(self.reached, self.position.get("file", 0))

    def work(self, steps: int) -> None:
        """Let the disk do some of what it is asked."""
        for _ in range(steps):
            if self.scribe.work:
                self._within(self.scribe.step)
            self.turn()

    def tail(self, counts: tuple[int, int]) -> None:
        """Read on in the numbered source, into two streams."""
        parcels = []
        for stream, count in zip("ab", counts, strict=True):
            numbers = range(self.read + 1, self.read + 1 + count)
            self.read += count
            parcels.append(self._parcel(("tail", stream), [*numbers], waits=True))
        self._put(parcels, {"tail": {"file": self.read}})

    def meter(self, count: int) -> None:
        """Take what is gone if it is not stored."""
        self.metered += count
        self._put([self._parcel(("meter", "m"), [0] * count, waits=False)], {})

    def _put(self, parcels: list[Parcel], moved: Mapping[str, Mapping[str, Any]]) -> None:
        self._within(lambda: self.spool.put(parcels, moved))

    def _within(self, act: Callable[[], object]) -> None:
        async def acting() -> None:
            act()

        self.loop.run_until_complete(acting())

    @staticmethod
    def _parcel(stream: tuple[str, str], numbers: list[int], *, waits: bool) -> Parcel:
        records = [msgspec.Raw(msgspec.json.encode({"time": 1.0, "n": n, "pad": PAD})) for n in numbers]
        return Parcel(stream, records, 1200 * len(records), waits)

    def crash(self) -> None:
        """Lose power in the middle of whatever is going on."""
        self.crashed = True
        self._die()
        self.disk.crash(self.random)
        self.open()

    def restart(self) -> None:
        """Stop as one does, and start again."""
        self._within(self.spool.close)
        self.turn()
        self.dropped += sum(self.spool.status()["dropped"].values())
        self.crashed = self.crashed or not self.spool.idle.is_set()  # what still waited is lost, as in a crash
        self._die()
        self.open()

    def _die(self) -> None:
        self.scribe.work.clear()
        self.broker.die()
        self.sending.cancel()
        self.loop.run_until_complete(asyncio.wait([self.sending]))

    def garble(self) -> None:
        """Change a byte that is on disk; what was in its frame, or behind it in a last write, may be gone."""
        names = sorted(name for name in self.disk.names if name.endswith(".log"))
        if not names:
            return
        name = self.random.choice(names)
        content = self.disk.names[name]
        place = self.random.randrange(len(content.seen)) if content.seen else 0
        start = int(name[:16], 16)
        frames = [one for one in scan(bytes(content.seen), start) if isinstance(one, Frame)]
        hit = [one for one in frames if one.position <= start + place < one.end]
        for one in frames:
            if one.kind == BATCH and any(one.position >= each.position and one.begun <= each.position for each in hit):
                batch = cast("Batch", Codec.decode(one.body))
                self.excused.add(batch.id)
                self.broker.tried.setdefault(batch.id, batch)  # it may be that nobody has seen it yet
        for data in (content.seen, content.safe):
            if place < len(data):
                data[place] ^= 1 + self.random.randrange(255)
        self.garbled = True

    def settle(self) -> None:
        """Mend everything, and let it come to an end."""
        self.disk.failing = 0
        for _ in range(400):
            self.work(4)
            while self.broker.asked:
                self.broker.answer(0, "confirmed")
            self.turn(0.3)
            if not self.scribe.work and not self.broker.asked and self.spool.idle.is_set() and self._done():
                return
        raise AssertionError(f"it does not come to an end: {self.spool.status()}")

    def _done(self) -> bool:
        return not self.log.book.unsent

    def check(self) -> None:
        """What was accepted has arrived, in its order and under its number; nothing else has that number."""
        got, tried = self.broker.got, self.broker.tried
        excused = {name: tried[name] for name in self.excused if name in tried}
        assert not [name for name in tried if name not in got and name not in excused], "a durable batch did not arrive"
        missing = {*range(1, self.reached + 1)} - self._numbers(got) - self._numbers(excused)
        assert not missing, "a position is ahead of its records"
        numbers: defaultdict[tuple[int, str], dict[int, str]] = defaultdict(dict)
        for name, batch in tried.items():
            assert numbers[batch.epoch, batch.stream].setdefault(batch.seq, name) == name, "a number was used twice"
        for (epoch, stream), used in numbers.items():
            assert sorted(used) == [*range(len(used))], f"a number of {stream} in {epoch} is missing"
        for order in self.broker.order.values():
            assert order == sorted(order), "batches of a stream left in another order than they were made"
        if not self.crashed and not self.garbled:
            arrived = sum(len(batch.records) for batch in got.values() if batch.stream == "m")
            dropped = self.dropped + sum(self.spool.status()["dropped"].values())
            assert arrived + dropped == self.metered, "records are unaccounted for"

    @staticmethod
    def _numbers(batches: Mapping[str, Batch]) -> set[int]:
        return {record["n"] for batch in batches.values() for record in batch.records}

    def close(self) -> None:
        self._die()
        self.loop.close()


ERRORS = (errno.ENOSPC, errno.EIO)
