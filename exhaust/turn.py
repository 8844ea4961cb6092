"""What follows from a message: things to remember, work to do, messages to send; and all of it in one transaction."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from exhaust.broker.interface import Publication
from exhaust.messages import Command, Fact, Message
from exhaust.routing import JOURNAL
from exhaust.signing import Signer
from exhaust.wire import pack


@dataclass(frozen=True, slots=True)
class Keep:
    """Remember `value` under `key` across restarts; None forgets it.

    What may `wait` is written with the next turn that is written anyway, at the latest after a second: after a crash
    the value before it may be there.
    """

    key: str
    value: Any
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Perform:
    """Work that takes time: its outcome comes back to the decider. After a restart `resume` asks for it again."""

    work: Any


Effect = Message | Keep | Perform
Unsent = Callable[[Message, Exception], None]
Rows = Callable[[str], Iterator[tuple[str, bytes]]]
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Turn:
    """All that one transaction is to hold."""

    seen: dict[str, float] = field(default_factory=dict)
    keep: dict[str, bytes | None] = field(default_factory=dict)
    later: dict[str, bytes | None] = field(default_factory=dict)
    send: list[Publication] = field(default_factory=list)
    tell: list[Publication] = field(default_factory=list)
    perform: list[Perform] = field(default_factory=list)

    def take(self, effects: Iterable[Effect], signer: Signer | None, unsent: Unsent | None = None) -> None:
        """Add them all, or none where one of them cannot be encoded.

        Where `unsent` is given, it is told of each message that cannot be, and the others are added.
        """
        encoded = []
        for effect in effects:
            try:
                encoded.append(_encoded(effect, signer))
            except Exception as exc:
                if unsent is None or isinstance(effect, Keep | Perform):
                    raise
                unsent(effect, exc)
        for one in encoded:
            match one:
                case Keep(key, value, wait):
                    (self.later if wait and key not in self.keep else self.keep)[key] = value
                case Perform():
                    self.perform.append(one)
                case Publication():
                    (self.tell if one.exchange == JOURNAL else self.send).append(one)

    @property
    def publications(self) -> list[Publication]:
        """What others wait for first, then what is only written down for people to read."""
        return [*self.send, *self.tell]


def _encoded(effect: Effect, signer: Signer | None) -> Keep | Perform | Publication:
    match effect:
        case Keep(key, value, wait):
            return Keep(key, None if value is None else _encode(value), wait)
        case Perform():
            return effect
    publication, subject = pack(effect, signer), _subject(effect)
    return publication if subject is None else replace(publication, subject=subject)


def _subject(message: Message) -> str | None:
    """Return what a message is the newest word on, where the newest says all: that a fact still holds, a command."""
    match message:
        case Fact(state="open") if message.id != message.episode:
            return f"fact/{message.episode}"
        case Command():
            return f"command/{message.key}"
    return None
