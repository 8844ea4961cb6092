"""A fact to open, and rows as a store has them, for tests of what finds the one in the other."""

from collections.abc import Iterator
from typing import Any

import msgspec

from exhaust.messages import Fact, Prediction
from exhaust.worker import Keep
from tests.harness import HOST, NOW


class Disk:
    """Holds what it was given to write."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def write(self, *rows: Keep) -> None:
        for row in rows:
            if row.value is None:
                self.kept.pop(row.key, None)
            else:
                self.kept[row.key] = msgspec.json.encode(row.value)

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, body) for key, body in self.kept.items() if key.startswith(prefix)))


def fact(kind: type[Fact] = Fact, **given: Any) -> Fact:
    """Return an open fact, or a prediction, that has all that one can have."""
    about: dict[str, Any] = {"id": "m", "time": NOW, "name": "service.down", "host": HOST, "labels": {"service": "a"}}
    about |= {"state": "open", "reason": "asserted", "severity": "critical", "valid_until": NOW + 90, "since": NOW}
    about |= {"episode": "e", "summary": "is down", "evidence": [{"pid": 3}], "causes": ("b#1",), "detector": "d"}
    if kind is Prediction:
        about |= {"due": NOW + 60, "probability": 0.5, "horizon": 3600.0}
    return kind(**(about | given))
