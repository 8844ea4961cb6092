"""A collector's decider that listens in virtual time, hosts whose emitters send it signs of life, and a broker between
them that may be slow or away."""

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from collector.arrival import Arrival
from collector.letters import Letter
from collector.model import ReadModel
from exhaust.broker.interface import Delivery
from exhaust.messages import Batch, Fact
from exhaust.worker import Effect, Keep

START = 1_700_000_000.0
OWN = "control"
INVENTORY = frozenset((OWN, "web-01", "web-02"))
BEAT = 10.0
EPOCH = int(START * 1000) + 500


def arrival(seq: int, epoch: int = EPOCH, emitter: str = "service", **more: Any) -> Arrival:
    given = {"host": "web-01", "stream": "state", "count": 10, "time": START + seq, **more}
    name = f"{emitter}-{given['host']}-{epoch}-{seq}"
    return Arrival(**{"emitter": emitter, "epoch": epoch, "seq": seq, "id": name, **given})


class Listening:
    """What is told goes through the broker, `lag` seconds slow; while that is `away` all waits, while `held` probes do.

    `facts` are those that came through, `opened` the subjects of those that are open. `clocks` are how far hosts'
    clocks, and our own (`OWN`), are ahead.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.now = START
        self.lag = 0.0
        self.away = False
        self.held = False
        self.clocks: dict[str, float] = {}
        self.facts: list[Fact] = []
        self.waiting: list[Effect | Arrival] = []
        self._beats: dict[tuple[str, str], float] = {}
        self._numbers: dict[tuple[str, str, int], int] = {}
        self.epoch = EPOCH
        self._flying: list[tuple[float, int, Effect | Arrival]] = []
        self._order = 0
        self.start()

    # What is done

    def start(self) -> None:
        """Start the collector, anew from what was kept if it ran before."""
        self.model = ReadModel(host=OWN, inventory=INVENTORY)
        self.model.recall(self.rows)
        self._do(self.model.resume(self.here))

    def beat(self, host: str, *emitters: str) -> None:
        """From now on these send a sign of life every 10 seconds."""
        for emitter in emitters:
            self._beats[host, emitter] = self.now

    def stop(self, host: str, *emitters: str) -> None:
        """These send nothing more; all of the host where none is named."""
        for one in [key for key in self._beats if key[0] == host and (not emitters or key[1] in emitters)]:
            del self._beats[one]

    def begin_anew(self) -> None:
        """All emitters begin a new epoch, each with a sign of life."""
        self.epoch = int(self.now * 1000)
        self._beats = dict.fromkeys(self._beats, self.now)

    def tell(self, *arrivals: Arrival) -> None:
        for one in arrivals:
            self._publish(one)
        self.settle()

    def dead(self, one: Arrival, reason: str = "unusable") -> None:
        """A reader has refused this batch."""
        headers = {name: getattr(one, name) for name in ("host", "emitter", "stream", "epoch", "seq", "count")}
        headers |= {"dropped": sum(one.dropped.values()), "x-reason": reason, "x-queue": "exhaust.analyzers.telemetry"}
        key = f"{one.host}.{one.emitter}.{one.stream}"
        headers |= {"x-exchange": "exhaust.telemetry", "x-key": key}
        body = msgspec.json.encode({"dropped": one.dropped})
        about = (one.id, "batch/1", body, one.time, headers, "exhaust.dead", 1)
        self._do(self.model.handle(Delivery("exhaust.dead", "exhaust.analyzers.telemetry", *about), self.here))
        self.settle()

    def send_again(self, letter: Letter) -> None:
        """A dead letter was sent again, and its queue has it."""
        self._do(self.model.redeem(letter))

    def advance(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self._beat()
            self.settle()

    def settle(self) -> None:
        """Let everything happen that is due by now."""
        for _ in range(2):
            self._tick()
            self._deliver()

    @property
    def here(self) -> float:
        """The time by our own clock."""
        return self.now + self.clocks.get(OWN, 0.0)

    # What is seen

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, value) for key, value in self.kept.items() if key.startswith(prefix)))

    @property
    def opened(self) -> set[tuple[str, ...]]:
        """Return what is open: name, host, and labels' values."""
        found = {}
        for fact in self.facts:
            found[fact.name, fact.host or "-", *fact.labels.values()] = fact.state
        return {subject for subject, state in found.items() if state == "open"}

    def told(self, name: str) -> list[tuple[str, str]]:
        """Return what was said of facts of a name: state and reason."""
        return [(fact.state, fact.reason) for fact in self.facts if fact.name == name]

    def row(self, emitter: str = "service", host: str = "web-01") -> dict[str, Any]:
        """Return one row of the ledger."""
        table = self.model.telemetry.table(self.here)
        (row,) = [row for row in table if (row["host"], row["emitter"]) == (host, emitter)]
        return row

    # How it goes

    def _beat(self) -> None:
        for (host, emitter), due in self._beats.items():
            if due <= self.now:
                self._beats[host, emitter] = self.now + BEAT
                seq = self._numbers[host, emitter, self.epoch] = self._numbers.get((host, emitter, self.epoch), -1) + 1
                time = self.now + self.clocks.get(host, 0.0)
                self._publish(arrival(seq, self.epoch, emitter, host=host, time=time, count=0))

    def _tick(self) -> None:
        while self.model.due <= self.here:
            self._do(self.model.tick(self.here))

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in list(effects):
            match effect:
                case Keep(key, None):
                    self.kept.pop(key, None)
                case Keep(key, value):
                    self.kept[key] = msgspec.json.encode(value)
                case _:
                    self._publish(effect)

    def _publish(self, one: Effect | Arrival) -> None:
        if self.away or (self.held and isinstance(one, Batch)):
            self.waiting.append(one)
        else:
            self._order += 1
            heapq.heappush(self._flying, (self.now + self.lag, self._order, one))

    def _deliver(self) -> None:
        if self.away:
            return
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            self._publish(one)
        while self._flying and self._flying[0][0] <= self.now:
            self._arrive(heapq.heappop(self._flying)[2])

    def _arrive(self, one: Effect | Arrival) -> None:
        match one:
            case Arrival():
                self._do(self.model.handle(one, self.here))
            case Batch():
                told = Arrival(one.host, one.emitter, one.stream, one.epoch, one.seq, 0, one.time, one.id)
                self._do(self.model.handle(told, self.here))
            case Fact():
                self.facts.append(one)
                self._do(self.model.handle(one, self.here))


def settled() -> Listening:
    """Two hosts with two emitters each, a minute after the start."""
    listening = Listening()
    for host in ("web-01", "web-02"):
        listening.beat(host, "service", "performance")
    listening.advance(60)
    assert listening.facts == []
    return listening
