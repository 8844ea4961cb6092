"""The records of a batch as the analyzers see them, one by one and in columns."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from exhaust.expressions import Timestamp
from exhaust.messages import Batch

if TYPE_CHECKING:
    from analyzers.selection import Selection

_AHEAD = 5.0


class Observation(NamedTuple):
    """One record. `time` is its own, at most 5 s ahead of `received`; `number` is its place in the batch."""

    batch: str
    number: int
    stream: str
    fields: Mapping[str, Any]
    time: float
    received: float
    host: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.batch}#{self.number}"

    def variables(self, lists: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of the names that an analyzer's expressions may use, in the order of `language.ANALYZER`."""
        return (self.fields, Timestamp.from_seconds(self.time), self.host, lists)

    def labelled(self, labels: Mapping[str, str], text: Any) -> bool:
        """Whether the record carries these labels, as fields of its own or under its `labels`."""
        own = self.fields.get("labels") or {}
        return all(text(self.fields.get(name, own.get(name))) == value for name, value in labels.items())


class Sheet:
    """One batch. A record whose time is none has None in `times`; `usable` are the numbers of the others."""

    def __init__(self, batch: Batch, received: float, host: Mapping[str, Any]) -> None:
        self.batch = batch.id
        self.stream = f"{batch.emitter}.{batch.stream}"
        self.records = batch.records
        self.received = received
        self.host = host
        self.selections: dict[str, Selection] = {}
        self._own = batch.time
        self._latest = latest = received + _AHEAD
        self._odd = False
        self.times: list[Any] = [
            told if type(told := record.get("time")) is float and 0.0 <= told <= latest else self._time(told)
            for record in batch.records
        ]

    def _time(self, told: Any) -> float | None:
        """Return the time of a record that tells none, or not one of the usual kind."""
        try:
            time = min(self._own if told is None else float(told), self._latest)
            Timestamp.from_seconds(time)
        except (TypeError, ValueError, OverflowError):
            self._odd = True
            return None
        return time

    @cached_property
    def usable(self) -> Sequence[int]:
        whole = range(len(self.records))
        return [number for number in whole if self.times[number] is not None] if self._odd else whole

    def observation(self, number: int) -> Observation:
        """Return a usable record."""
        fields, time = self.records[number], self.times[number]
        return Observation(self.batch, number, self.stream, fields, time, self.received, self.host)
