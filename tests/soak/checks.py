"""What must hold whatever was done to an installation, checked from ledgers outside it; each violation says why."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.soak.ledgers import Effect, Numbers, Range, Start, Stream, count

MEMORY = 256 << 20
FILES = 256
TASKS = 64
_MOST_LINES = 5

Kind = Literal["lost", "unexplained", "effect", "memory", "files", "tasks", "late"]


@dataclass(frozen=True)
class Violation:
    """One thing that must not be: what, and the lines of the ledgers that show it."""

    kind: Kind
    what: str
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join((f"{self.kind}: {self.what}", *(f"    {line}" for line in self.lines)))


@dataclass(frozen=True)
class Sample:
    """What one process of the installation held at one moment: bytes of memory, open files, tasks of the kernel."""

    name: str
    pid: int
    memory: int
    files: int
    tasks: int


def arrived(stream: Stream) -> bool:
    """Tell whether all that was accepted has come, both to the analyzers and to who listens at the broker."""
    return not list(lost("", stream))


def lost(name: str, stream: Stream) -> Iterator[Violation]:
    """Every accepted number reaches the witness and the listener, or a batch says that it was dropped, and why."""
    told = sum(stream.dropped.values())
    for who, seen in (("the analyzers", stream.witnessed), ("a queue of the exchanges", stream.heard)):
        missing = stream.missing(seen)
        if count(missing) > told:
            what = f"{count(missing)} of {count(stream.accepted)} accepted numbers of stream {name} never reached {who}"
            yield Violation("lost", f"{what}; {told} were told as dropped", _spelled(missing))


def unexplained(name: str, stream: Stream) -> Iterator[Violation]:
    """Nothing comes that was never yielded, and no batch ever holds anything else."""
    for who, seen in (("the analyzers", stream.witnessed), ("a queue of the exchanges", stream.heard)):
        if seen.highest > stream.yielded or seen.lowest < 1:
            what = f"stream {name} brought {seen.lowest} to {seen.highest} to {who}"
            yield Violation("unexplained", f"{what}, and only 1 to {stream.yielded} were ever yielded")
    if stream.conflicts:
        yield Violation("unexplained", f"batches of stream {name} changed", tuple(stream.conflicts[:_MOST_LINES]))


def left_out(name: str, stream: Stream) -> Iterator[Violation]:
    """Once all is over, every sequence number below an epoch's highest has come, or a batch says that it never will."""
    epochs: dict[int, Numbers] = {}
    for epoch, seq in stream.batches:
        epochs.setdefault(epoch, Numbers()).add(seq + 1)
    for epoch, forgone in stream.forgone.items():
        for first, last in forgone.ranges:
            epochs.setdefault(epoch, Numbers()).add(first, last)
    gaps = [
        f"epoch {epoch} seq {first - 1} to {last - 1}"
        for epoch, seqs in sorted(epochs.items())
        for first, last in seqs.missing(seqs.highest)
    ]
    if gaps:
        yield Violation("lost", f"batches of stream {name} never came", tuple(gaps[:_MOST_LINES]))


def repeated(effects: Sequence[Effect]) -> Iterator[Violation]:
    """No effect is done twice."""
    often = {key for key, times in Counter(effect.key for effect in effects).items() if times > 1}
    lines = [f"{one.key} by pid {one.pid} at {one.time:.6f}" for one in effects if one.key in often]
    if often:
        yield Violation("effect", f"{len(often)} effects were done more than once", tuple(lines[:_MOST_LINES]))


def restarted(starts: Sequence[Start], deaths: Collection[int]) -> Iterator[Violation]:
    """The service is started when its process was killed, once for each death, and never otherwise.

    `deaths` are the processes of the service that were killed.
    """
    for before, start in itertools.pairwise(starts):
        if before.pid not in deaths:
            lines = (f"pid {before.pid} started at {before.time}", f"pid {start.pid} started at {start.time}")
            yield Violation("effect", "the service was started although nobody had killed it", lines)


def alone(alive: Sequence[int]) -> Iterator[Violation]:
    """No two processes of the service run at once."""
    if len(alive) > 1:
        yield Violation("effect", "the service runs more than once", tuple(f"pid {pid}" for pid in alive))


def grown(samples: Iterable[Sample]) -> Iterator[Violation]:
    """No process holds more than it may."""
    for one in samples:
        who = f"{one.name} (pid {one.pid})"
        if one.memory > MEMORY:
            yield Violation("memory", f"{who} held {one.memory / 2**20:.0f} MiB, more than {MEMORY >> 20}")
        if one.files > FILES:
            yield Violation("files", f"{who} had {one.files} files open, more than {FILES}")
        if one.tasks > TASKS:
            yield Violation("tasks", f"{who} had {one.tasks} tasks, more than {TASKS}")


def _spelled(missing: Sequence[Range]) -> tuple[str, ...]:
    return tuple(f"{first} to {last}" for first, last in missing[:_MOST_LINES])
