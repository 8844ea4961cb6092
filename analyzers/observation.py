"""One record as the analyzers see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exhaust.expressions import Timestamp
from exhaust.messages import Batch

_AHEAD = 5.0


@dataclass(frozen=True, slots=True)
class Observation:
    """`time` is the record's own, at most 5 s ahead of `received`; `id` is `<batch>#<n>`."""

    id: str
    stream: str
    fields: Mapping[str, Any]
    time: float
    received: float
    host: Mapping[str, Any]

    @classmethod
    def of(cls, batch: Batch, number: int, received: float, host: Mapping[str, Any]) -> "Observation | None":
        """Return a record of a batch; None where its time is none."""
        fields = batch.records[number]
        told = fields.get("time")
        try:
            time = min(batch.time if told is None else float(told), received + _AHEAD)
            Timestamp.from_seconds(time)
        except (TypeError, ValueError, OverflowError):
            return None
        return cls(f"{batch.id}#{number}", f"{batch.emitter}.{batch.stream}", fields, time, received, host)

    def variables(self, lists: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of the names that an analyzer's expressions may use, in the order of `language.ANALYZER`."""
        return (self.fields, Timestamp.from_seconds(self.time), self.host, lists)

    def labelled(self, labels: Mapping[str, str], text: Any) -> bool:
        """Whether the record carries these labels, as fields of its own or under its `labels`."""
        own = self.fields.get("labels") or {}
        return all(text(self.fields.get(name, own.get(name))) == value for name, value in labels.items())
