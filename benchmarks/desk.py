"""One decider with a real store, handed its messages: all that a component does with them, less the broker."""

import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exhaust.broker.interface import Publication
from exhaust.messages import Batch, Codec
from exhaust.signing import Signer
from exhaust.store import Store
from exhaust.turn import Turn
from exhaust.worker import Decider

_MOST_UNMARKED = 256


class Desk:
    """Decodes, decides, encodes, signs and commits as a worker does: each call is one durable transaction.

    `committing` is the processor time, in seconds, that the commits have taken so far.
    """

    def __init__(self, decider: Decider, path: Path, opened: contextlib.ExitStack) -> None:
        self.decider = decider
        self.store = opened.enter_context(Store(path))
        self._signer = Signer(Ed25519PrivateKey.generate())
        self._seen: dict[str, float] = {}
        self._later: dict[str, bytes | None] = {}
        self._sent: list[int] = []
        self.committing = 0.0
        decider.recall(self.store.rows)

    def take(self, *bodies: bytes, now: float) -> list[Publication]:
        """Handle messages; return what was sent because of them."""
        messages = [Codec.decode(body) for body in bodies]
        own = [message.id for message in messages if not isinstance(message, Batch)]
        assert not (own and self.store.seen(own)), "a message comes twice"
        turn = Turn()
        for message in messages:
            turn.take(self.decider.handle(message, now), self._signer)
        self._seen |= dict.fromkeys(own, now)
        return self._commit(turn)

    def _commit(self, turn: Turn) -> list[Publication]:
        self._later |= turn.later
        send = turn.publications
        if turn.keep or send or len(self._seen) + len(self._later) >= _MOST_UNMARKED:
            began, keep = time.process_time(), {**self._later, **turn.keep}
            self._sent = self.store.commit(seen=self._seen, keep=keep, send=send, sent=self._sent)
            self._seen, self._later = {}, {}
            self.committing += time.process_time() - began
        return send


class Cost(NamedTuple):
    """Microseconds: of processor to decide, of processor altogether, and that passed."""

    deciding: float
    cpu: float
    wall: float


class Stopwatch:
    """Use with `with`; afterwards `of(n)` is what each of n messages cost that were handed to these desks."""

    def __init__(self, *desks: Desk) -> None:
        self._desks = desks

    def __enter__(self) -> Self:
        self._began = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._passed = [after - before for before, after in zip(self._began, self._now(), strict=True)]

    def of(self, messages: int) -> Cost:
        committing, cpu, wall = (1e6 * seconds / messages for seconds in self._passed)
        return Cost(cpu - committing, cpu, wall)

    def _now(self) -> tuple[float, float, float]:
        return sum(desk.committing for desk in self._desks), time.process_time(), time.perf_counter()
