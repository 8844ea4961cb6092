"""A rehearsal of what a test writes down, and what only tests want: components that crash, and all that was said.

Agents and adapters are the test's to play.
"""

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from exhaust.configuration import load
from exhaust.main import CATALOGUE, deciders
from exhaust.messages import Activation, Batch, Codec, Decision, Fact
from exhaust.rehearsal.rehearsal import Rehearsal
from exhaust.worker import Effect

NOW = 1_800_000_000.0
HOST = "web-1"


class Harness(Rehearsal):
    """The deciders of the configuration `text`. All are started anew after each step whose number is in `crashes`."""

    def __init__(self, folder: Path, text: str, *, now: float = NOW) -> None:
        path = folder / "exhaust.yaml"
        path.write_text(text)
        self.steps = 0
        self.crashes: Container[int] = ()
        super().__init__(deciders(load(path, CATALOGUE)), now)

    def batch(self, stream: str, *records: Any, host: str = HOST) -> Batch:
        return super().batch(stream, *records, host=host)

    def restart(self, *names: str) -> None:
        """Start these components anew, or all. Their epoch stays, so that what they send can be compared."""
        self._start(names or tuple(self.desks))
        self._settle()

    def set_clock(self, jump: float, *, restart: bool) -> None:
        """Set it and start all anew; or let all notice it, at the latest when what was due next would have come."""
        left = min(desk.decider.due for desk in self.desks.values()) - self.now
        self.now += jump
        if restart:
            self.restart()
            return
        self.now += left
        for name, desk in self.desks.items():
            self._step(name, desk.decider.tick(self.now))
        self._settle()

    def digest(self) -> bytes:
        """Return the bytes of all facts, decisions and activations."""
        return b"\n".join(Codec.encode(one) for one in self.log if isinstance(one, Fact | Decision | Activation))

    def _step(self, name: str, effects: Iterable[Effect]) -> None:
        super()._step(name, effects)
        self.steps += 1
        if self.steps in self.crashes:
            self._start(self.desks)
