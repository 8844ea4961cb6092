"""What the helper has begun and what came of it: the reason why nothing is done twice."""

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from exhaust.store import Store

KEEP_FOR = 7 * 86400.0
"""How long keys are known, in seconds: far longer than any command is valid."""
MOST_KEYS = 100_000
KEEP_AT_LEAST = 86400.0
"""Of more keys than MOST_KEYS only those of the last day are known: no run that may ask again lasts so long."""
AT_ONCE = 1000
"""How many keys are forgotten in one transaction."""


class Started(msgspec.Struct, frozen=True):
    """An effect under way; `before` is what its action saw just before, if it `looked` with success."""

    key: str
    action: str
    params: dict[str, Any]
    time: float
    before: Any = None
    looked: bool = True


class Answer(msgspec.Struct, frozen=True):
    """What became of a command; `started` and `ended` are of this host's clock, None where nothing was started."""

    key: str
    state: Literal["succeeded", "failed", "refused", "indeterminate"]
    reason: str = ""
    started: float | None = None
    ended: float | None = None
    changed: bool = False
    output: Any = None


_encode = msgspec.json.Encoder().encode
_started = msgspec.json.Decoder(Started).decode
_answer = msgspec.json.Decoder(Answer).decode


def age(time: float, key: str) -> str:
    """Return the row that lets keys be found by their age."""
    return f"age/{time:017.6f}/{key}"


def aged(row: str) -> tuple[float, str]:
    """Return time and key of such a row."""
    _, time, key = row.split("/", 2)
    return float(time), key


def outdated(keys: int, now: float) -> float:
    """Return up to when keys are forgotten, of which there are so many."""
    return now - (KEEP_FOR if keys <= MOST_KEYS else KEEP_AT_LEAST)


class Journal:
    """What is begun or finished is on disk once its method returns; what comes at the same moment shares a commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = sum(1 for _ in store.rows("age/"))
        self._group: dict[str, bytes | None] = {}
        self._written: asyncio.Future[None] | None = None

    async def start(self, entry: Started) -> None:
        self._keys += 1
        await self._put({f"open/{entry.key}": _encode(entry), age(entry.time, entry.key): entry.action.encode()})

    async def finish(self, answer: Answer) -> None:
        await self._put(_finished(answer))

    def finish_now(self, answer: Answer) -> None:
        """Do the same for one who cannot wait."""
        self._group |= _finished(answer)
        if fault := self._flush():
            raise fault

    async def _put(self, rows: Mapping[str, bytes | None]) -> None:
        self._group |= rows
        if self._written is None:
            loop = asyncio.get_running_loop()
            self._written = loop.create_future()
            loop.call_soon(self._write)
        await asyncio.shield(self._written)

    def _write(self) -> None:
        """Commit the group at the end of the moment; where it fails and nobody waits for it, the loop is told."""
        waited_for = self._written is not None
        if (fault := self._flush()) and not waited_for:
            raise fault

    def _flush(self) -> Exception | None:
        """Commit the group, if there is one, and tell all who wait for it how that went; return why it did not."""
        group, written = self._group, self._written
        self._group, self._written = {}, None
        try:
            if group:
                self._store.commit(keep=group)
        except Exception as exc:  # noqa: BLE001  whatever it is, they must hear of it
            if written is not None:
                written.set_exception(exc)
                written.exception()  # all who wait for it may have gone
            return exc
        if written is not None:
            written.set_result(None)
        return None

    def answer(self, key: str) -> Answer | None:
        """Return what became of a key that is done with."""
        found = self._store.get(f"done/{key}")
        return None if found is None else _answer(found)

    def open(self) -> Iterator[Started]:
        """Yield what was begun and not finished."""
        for _, value in list(self._store.rows("open/")):
            yield _started(value)

    def starts(self, action: str, since: float) -> int:
        """Return how often an action was begun after a moment; what is begun just now is on disk first."""
        if fault := self._flush():
            raise fault
        count = 0
        for row, name in self._store.rows("age/", newest_first=True):
            if aged(row)[0] <= since:
                break
            count += name == action.encode()
        return count

    def prune(self, now: float) -> bool:
        """Forget some of the keys that are outdated; return whether there may be more."""
        before = outdated(self._keys, now)
        oldest = (row for row, _ in itertools.islice(self._store.rows("age/"), AT_ONCE))
        rows = list(itertools.takewhile(lambda row: aged(row)[0] <= before, oldest))
        if rows:
            self._store.commit(keep=dict.fromkeys([*rows, *(f"done/{aged(row)[1]}" for row in rows)]))
            self._keys -= len(rows)
        return len(rows) == AT_ONCE

    def booted(self, boot: str) -> bool:
        """Tell whether this is the first time that this boot of the machine is seen."""
        return self._store.get("boot") != boot.encode()

    def remember_boot(self, boot: str) -> None:
        self._store.commit(keep={"boot": boot.encode()})


def _finished(answer: Answer) -> dict[str, bytes | None]:
    return {f"open/{answer.key}": None, f"done/{answer.key}": _encode(answer)}
