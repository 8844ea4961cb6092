"""Puts parcels into the log: one group is being written at a time, and what comes meanwhile forms the next."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from emitters.spool.book import Placed, Positions, Segment
from emitters.spool.forgone import Stretch
from emitters.spool.frames import Numbered
from emitters.spool.group import Group
from emitters.spool.numbering import Draft, Numbers
from emitters.spool.parcels import Parcel, merged
from emitters.spool.scribe import Scribe
from emitters.spool.segments import Log
from exhaust.broker.interface import Publication
from exhaust.errors import MessageError
from exhaust.ids import new_id
from exhaust.messages import Batch
from exhaust.wire import pack

log = logging.getLogger(__name__)

_NOTE_AFTER = 0.25
_TRY_AGAIN = 1.0
_PREPARE_AGAIN = 10.0


class _Written(NamedTuple):
    """A parcel that became a batch of a group."""

    parcel: Parcel
    placed: Placed
    publication: Publication
    forgone: Sequence[Stretch]


class Writer:
    """Everything that is written to the log in one epoch of one host, and what is done where the disk refuses.

    `stored` is told of each batch that is on disk, in order; `changed` whenever there may be room for more. What goes
    wrong otherwise than by the disk ends it: nothing is written any more, and `fault` says why.
    """

    def __init__(
        self,
        log: Log,
        scribe: Scribe,
        host: str,
        numbers: Numbers,
        stored: Callable[[Placed, Publication], None],
        changed: Callable[[], None],
    ) -> None:
        self._log = log
        self._scribe = scribe
        self._host = host
        self._numbers = numbers
        self._stored = stored
        self._changed = changed
        self._pending: deque[Parcel] = deque()
        self._owed: Positions = {}
        self.since: float | None = None  # when what is being written was begun, by the event loop's clock
        self._preparing = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.size = 0  # bytes of records that are not on disk yet
        self.refused = ""  # why the disk takes nothing; empty while it does
        self.fault: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether there is anything that is not on disk yet."""
        return self.since is not None or bool(self._pending)

    def put(self, parcels: Sequence[Parcel], moved: Positions) -> None:
        """Take parcels; `moved` is where their sources are after all of them."""
        self._pending.extend(parcels)
        self.size += sum(parcel.size for parcel in parcels)
        if moved or self._owed:
            self._owe(moved)
        self._write()

    def note(self) -> None:
        """See to it that what was confirmed, or is untold, is written down soon, also where no batch takes it along."""
        self._after(_NOTE_AFTER, "note", self._note)

    def recycle(self, segments: Sequence[Segment]) -> None:
        """Let go of the files of segments that nobody needs."""
        if segments:
            self._scribe.do(partial(self._log.recycle, segments), _ignore)

    def close(self) -> None:
        """Note what was confirmed and is untold, finish what was begun, and write nothing after that."""
        for timer in self._timers.values():
            timer.cancel()
        if self.since is None:
            self._note()
        self._scribe.close()

    def _owe(self, moved: Positions) -> None:
        """Let the last of what is pending carry these positions, or else whatever comes next."""
        self._owed = merged(self._owed, moved)
        if self._pending:
            last = self._pending[-1]
            last.moved, self._owed = merged(last.moved, self._owed), {}

    def _after(self, seconds: float, what: str, then: Callable[[], None]) -> None:
        """Do it then, unless it is going to be done already."""

        def due() -> None:
            del self._timers[what]
            then()

        if what not in self._timers:
            self._timers[what] = asyncio.get_running_loop().call_later(seconds, due)

    def _write(self) -> None:
        if self._pending and self.since is None and not self.refused:
            self._submit()

    def _note(self) -> None:
        if self._log.owes and self.since is None and not self.refused:
            self._submit()

    def _submit(self) -> None:
        if self.fault is not None:
            return
        try:
            group, draft, written = self._form()
        except Exception as exc:  # noqa: BLE001  handed on: nobody sees what a callback raises
            self._fail(exc)
            return
        self.since = asyncio.get_running_loop().time()
        # What was confirmed may get lost: it would only be sent once more.
        sync = group.changes is not None or bool(written)
        work = partial(self._log.write, group, sync=sync)
        self._scribe.do(work, partial(self._done, group, draft, written, sync))

    def _fail(self, error: BaseException) -> None:
        """Write nothing any more, and say why."""
        self.fault = self.fault or error
        self._changed()

    def _form(self) -> tuple[Group, Draft, list[_Written]]:
        """Make batches of what is pending, as many as a segment has room for."""
        group, draft = self._log.group(), self._numbers.draft()
        written: list[_Written] = []
        while self._pending:
            parcel = self._pending[0]
            number, told = draft.next(parcel.stream)
            forgone = [] if parcel.stream in draft.told else self._log.book.forgone.of(parcel.stream)
            publication = self._packed(parcel, number, told, forgone)
            placed = None if publication is None else self._place(group, parcel, number, publication)
            if publication is not None and placed is not None:
                written.append(_Written(self._pending.popleft(), placed, publication, forgone))
                draft.use(parcel.stream, number, told)
            elif publication is None or (group.opens and not written):
                self._drop(self._pending.popleft(), "too_big" if publication else "unusable")
            elif written:
                break
            else:
                group = self._log.rolled(group)
        return group, draft, written

    def _place(self, group: Group, parcel: Parcel, seq: int, publication: Publication) -> Placed | None:
        book, body = self._log.book, publication.body
        number = Numbered(*parcel.stream, book.epoch, seq)
        return group.batch(book.reached, body, parcel.time, len(parcel.records), parcel.moved, number)

    def _packed(self, parcel: Parcel, number: int, told: dict[str, int], forgone: list[Stretch]) -> Publication | None:
        batch = Batch(
            id=new_id(parcel.time),
            time=parcel.time,
            host=self._host,
            emitter=parcel.stream[0],
            stream=parcel.stream[1],
            epoch=self._log.book.epoch,
            seq=number,
            dropped=told,
            forgone=forgone,
            records=cast("list[dict[str, Any]]", parcel.records),  # encoded already, as the codec passes them on
        )
        try:
            return pack(batch)
        except MessageError as exc:
            log.error("a batch can go nowhere", extra={"stream": parcel.stream, "error": str(exc)})
            return None

    def _drop(self, parcel: Parcel, reason: str) -> None:
        """Count a parcel as lost; its source need not give it again."""
        self.size -= parcel.size
        self._numbers.drop(parcel.stream, reason, len(parcel.records))
        if self._pending:
            self._pending[0].moved = merged(parcel.moved, self._pending[0].moved)
        else:
            self._owed = merged(parcel.moved, self._owed)

    def _done(
        self, group: Group, draft: Draft, written: list[_Written], sync: bool, _: Any, error: BaseException | None
    ) -> None:
        self.since = None
        try:
            if error is None:
                self._accept(group, draft, written, sync=sync)
            elif isinstance(error, OSError):
                self._refuse(group, written, error)
            else:
                self._fail(error)
        except Exception as exc:  # noqa: BLE001  handed on: nobody sees what a callback raises
            self._fail(exc)
        self._write()
        if self._log.owes:  # it came meanwhile, or found no room
            self.note()
        self._changed()

    def _accept(self, group: Group, draft: Draft, written: list[_Written], *, sync: bool) -> None:
        self.recycle(self._log.accept(group, synced=sync))
        self._numbers.take(draft)
        if self.refused:
            self.refused = ""
            log.warning("the spool can be written again")
        for one in written:
            self.size -= one.parcel.size
            self._log.book.forgone.remove(one.parcel.stream, one.forgone)
            self._stored(one.placed, one.publication)
        self._prepare()

    def _refuse(self, group: Group, written: list[_Written], error: OSError) -> None:
        """Let those wait who can; drop the others."""
        self._log.reject(group)
        if not self.refused:
            log.error("the spool cannot be written, trying on", extra={"error": str(error)})
        self.refused = str(error)
        for one in reversed(written):
            if one.parcel.waits:
                self._pending.appendleft(one.parcel)
            else:
                self._drop(one.parcel, "disk_full")
        self._after(_TRY_AGAIN, "write", self._submit)

    def _prepare(self) -> None:
        """Have the next segment ready before it is needed, a step at a time."""
        if self._log.wants_spare and not self._preparing and "prepare" not in self._timers:
            self._preparing = True
            self._scribe.do(self._log.prepare, self._prepared)

    def _prepared(self, _: Any, error: BaseException | None) -> None:
        self._preparing = False
        if error is None:
            self._prepare()
        else:
            self._after(_PREPARE_AGAIN, "prepare", self._prepare)


def _ignore(_: Any, error: BaseException | None) -> None:
    """What could not be removed is found, and not needed, at the next start."""
