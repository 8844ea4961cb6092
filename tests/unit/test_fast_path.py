"""Batches read by whole stretches give just what reading record by record gives: the same messages, the same rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.absence import Absence, AbsenceSettings
from analyzers.condition import ConditionSettings, Judge
from analyzers.inference import Analysis, Inference
from analyzers.series import Series
from exhaust.language import define
from exhaust.messages import Batch, Codec, Fact, Message, Watch
from exhaust.plugins import Judgement, Method
from exhaust.worker import Effect, Keep

NOW = 1_800_000_000.0
HOSTS = ("web-1", "web-2")
DEVICES = ("a", "b", "c", 1, 1.0, True, None, "x" * 2000)
VALUES = (0, 50, 50.5, 95, 99.5, None, "text")

CONDITIONS: list[dict[str, Any]] = [
    {"fact": "high", "when": "record.value > 90"},
    {"fact": "high.device", "when": "record.value > 90", "by": ["device"], "summary": "${{ record.name }}!"},
    {"fact": "between", "when": "record.value > 90", "until": "record.value < 10", "by": ["device"], "refresh": "7s"},
    {"fact": "slow", "when": "record.value > 90", "for": "4s", "keep": "3s", "by": ["device"]},
    {"fact": "kept", "when": "record.value > 90", "keep": "2s"},
    {"fact": "event", "when": "record.value > 90", "expires": "12s"},
    {"fact": "some", "when": "record.value < 60", "where": "record.ok", "by": {"id": "record.name + host.name"}},
    {"fact": "timed", "when": 'time - timestamp("2027-01-15T08:00:00Z") > duration("9s")', "by": ["device", "name"]},
    {"fact": "few", "when": "record.value > 90", "by": ["device", "name"], "most": 3},
]
SILENCES: list[dict[str, Any]] = [
    {"fact": "lost", "for": "5s", "by": ["device"], "summary": "${{ record.name }}"},
    {"fact": "lost.at.all", "for": "15s", "where": "record.ok"},
]


class OneByOne:
    """A method that can only judge one record after the other."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self.silence = method.silence

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        return self._method.judge(record, time, host)


def analyses(wrap: Callable[[Method], Method]) -> list[Analysis]:
    made = []
    for entry in CONDITIONS:
        condition = define(ConditionSettings, {"use": "condition", "on": "custom.*", **entry})
        made.append(Analysis(entry["fact"], condition.value, wrap(Judge(condition.value, {})), condition.hash))
    for entry in SILENCES:
        silence = define(AbsenceSettings, {"use": "absence", "on": "custom.*", **entry})
        made.append(Analysis(entry["fact"], silence.value, wrap(Absence(silence.value, {})), silence.hash))
    return made


QUICK, SLOW = analyses(lambda method: method), analyses(OneByOne)


class World:
    """Analyzers, what they keep and what they say."""

    def __init__(self, analyses: Sequence[Analysis]) -> None:
        self._analyses = analyses
        self.now = NOW
        self.kept: dict[str, bytes] = {}
        self.said: list[Message] = []
        self.sent: list[Batch] = []
        self.decider = self._make()

    def _make(self) -> Inference:
        return Inference(self._analyses, lambda host: {"name": host, "labels": {}, "known": True}, {})

    def _rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, body) for key, body in self.kept.items() if key.startswith(prefix)))

    def take(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Message):
                self.said.append(Codec.decode(Codec.encode(effect)))
            elif isinstance(effect, Keep) and effect.value is not None:
                self.kept[effect.key] = msgspec.json.encode(effect.value)
            elif isinstance(effect, Keep):
                self.kept.pop(effect.key, None)

    def restart(self) -> None:
        self.decider = self._make()
        self.decider.recall(self._rows)
        self.take(self.decider.resume(self.now))

    def rows(self) -> dict[str, Any]:
        """Return what is kept, with what is remembered of a series in the open."""
        found = {key: msgspec.json.decode(body) for key, body in self.kept.items()}
        for key, row in found.items():
            if key.startswith("series/"):
                row["recent"] = msgspec.json.decode(self.kept[key], type=Series).seen
        return found


class Step:
    def do(self, world: World) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Records(Step):
    """A batch, whose records are there so many times; their times are from now, and in order unless `mixed`."""

    host: str
    stream: str
    records: list[dict[str, Any]]
    times: list[Any]
    again: int
    mixed: bool
    skip: int

    def do(self, world: World) -> None:
        records = [record for record in self.records for _ in range(self.again)]
        times = (self.times * len(records))[: len(records)] if self.times else []
        numbers = [time for time in times if isinstance(time, float)]
        if not self.mixed:
            numbers.sort()
        rest = iter(numbers)
        told = [world.now + next(rest) if isinstance(time, float) else time for time in times]
        timed = [{**record, "time": time} for record, time in zip(records, told, strict=False)]
        seq = len(world.sent) + self.skip
        about: dict[str, Any] = {"emitter": "custom", "stream": self.stream, "epoch": 1, "seq": seq}
        batch = Batch(id=f"batch-{len(world.sent)}", time=world.now, host=self.host, records=timed, **about)
        world.sent.append(batch)
        world.take(world.decider.handle(batch, world.now))


@dataclass(frozen=True)
class Again(Step):
    """One of the batches comes once more."""

    which: int

    def do(self, world: World) -> None:
        if world.sent:
            world.take(world.decider.handle(world.sent[self.which % len(world.sent)], world.now))


@dataclass(frozen=True)
class Pass(Step):
    """Time passes; or the clock is set back."""

    seconds: float

    def do(self, world: World) -> None:
        until = world.now + self.seconds
        while world.decider.due <= until:
            world.now = max(world.now, world.decider.due)
            world.take(world.decider.tick(world.now))
        world.now = until


@dataclass(frozen=True)
class Restart(Step):
    def do(self, world: World) -> None:
        world.restart()


@dataclass(frozen=True)
class Ask(Step):
    """A watch: of the episode of the fact that was told last but some, or of a stream's records."""

    which: int
    fields: dict[str, Any] = field(default_factory=dict)

    def do(self, world: World) -> None:
        facts = [one for one in world.said if isinstance(one, Fact)]
        given = {"after": world.now - 1, "until": world.now + 40} | self.fields
        if "on" not in given:
            given["episode"] = facts[self.which % len(facts)].episode if facts else "none"
        watch = Watch(id=f"watch-{len(world.said)}", time=world.now, execution=f"x{self.which}", host=HOSTS[0], **given)
        world.take(world.decider.handle(watch, world.now))


RECORD = st.fixed_dictionaries(
    {
        "value": st.sampled_from([50, 95]) | st.sampled_from(VALUES),
        "device": st.sampled_from(["a", "a", "b"]) | st.sampled_from(DEVICES),
        "ok": st.sampled_from([True, True, False, None]),
    },
    optional={"name": st.sampled_from(["n", "m", 5])},
)
USUAL = st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0])
ODD = st.sampled_from([-1.0, -30.0, 100.0, 4, None, "soon", "12.5"])
BATCH = st.builds(
    Records,
    host=st.sampled_from(HOSTS),
    stream=st.sampled_from(["one", "one", "two"]),
    records=st.lists(RECORD, max_size=12),
    times=st.lists(USUAL, min_size=1, max_size=12) | st.lists(USUAL | ODD, min_size=1, max_size=12),
    again=st.sampled_from([1, 1, 1, 3, 30]),
    mixed=st.booleans(),
    skip=st.sampled_from([0, 0, 0, 0, 7, -1]),
)
OTHER = st.one_of(
    st.builds(Pass, st.sampled_from([0.5, 6.0, 20.0, 100.0, 700.0, -50.0, -50.0])),
    st.builds(Again, st.integers(0, 9)),
    st.builds(Restart),
    st.builds(
        Ask,
        st.integers(0, 5),
        st.sampled_from([
            {}, {"samples": 2}, {"clock": "received", "hold": 2.0}, {"after": None},
            {"on": "custom.one", "when": "record.value < 60", "labels": {"name": "n"}},
        ]),
    ),
)  # fmt: skip
STEPS = st.lists(st.one_of(BATCH, BATCH, st.builds(Pass, st.sampled_from([2.0, 3.0])), OTHER), max_size=14)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_both_ways_say_and_keep_the_same(steps: list[Step]) -> None:
    quick, slow = World(QUICK), World(SLOW)
    for step in steps:
        step.do(quick)
        step.do(slow)
        assert quick.said == slow.said
        assert quick.rows() == slow.rows()
    assert quick.decider.status() == slow.decider.status()
