"""The processes of this host, each once it has ended: what it was, whose, how it ended, what it used.

The kernel's accounting file tells of all of them, also of those that ended while nobody read it. While it is not
written, root is told of the ends by the kernel's statistics, which otherwise go beside the file's record; everybody
else by the process connector, which knows little.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec

from emitters.exits import pacct, usage
from emitters.exits.pacct import UnusableError
from emitters.exits.switch import Switch, written
from emitters.exits.trail import Place, Trail
from emitters.exits.usage import Statistics, beside, whole
from emitters.exits.witnessed import Witnessed
from emitters.kernel import capabilities, connector, taskstats
from emitters.kernel.taskstats import Ended
from emitters.measures.users import Users
from exhaust.clock import Clock
from exhaust.errors import ExhaustError
from exhaust.plugins import Emitter, Fields, Lost, Record, Settings
from exhaust.settings import Duration

log = logging.getLogger(__name__)

PROCESS: Fields = {**pacct.FIELDS, **usage.FIELDS}

_FILES = tuple(map(Path, ("/var/log/account/pacct", "/var/account/pacct", "/var/log/pacct")))
_AGAIN = 60.0
_MOST = 20_000  # ends by the statistics that wait for their record in the file


class Accounting(Settings, frozen=True):
    """Where the kernel writes its accounting, and how often to look there.

    Without `file` it is where distributions have it: /var/log/account/pacct, /var/account/pacct, or /var/log/pacct.
    Reading begins at its end, and then goes on where it was left. `turn_on` lets this emitter turn accounting on where
    it is off, which is for the host as a whole and needs root; it turns it off again at its end, and puts a file of
    64 MiB away as NAME.1; what was left on by one that was killed is turned off also without `turn_on`. Accounting into
    a file that is at none of these places, or that the kernel has suspended for want of disk, looks as if it were off:
    do not let it be turned on there, as that would replace the file. Without `statistics` the kernel is not asked for
    what is not in the file.
    """

    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 1.0
    file: str = ""
    turn_on: bool = False
    statistics: bool = True

    def __post_init__(self) -> None:
        if self.file and not self.file.startswith("/"):
            raise ValueError(f"'file' is the absolute path of an accounting file, not '{self.file}'")


class _Ends:
    """All there is to see of processes' ends, by the best of the sources that tell of them just now."""

    def __init__(self, settings: Accounting, positions: Mapping[str, Any], now: float, opened: ExitStack) -> None:
        self._positions = positions
        self._opened = opened
        self._users, self._groups = Users(Path("/etc/passwd")), Users(Path("/etc/group"))
        self._path = Path(settings.file) if settings.file else next(filter(_readable, _FILES), _FILES[0])
        self._part = str(self._path)
        self._trail = Trail(self._path, positions.get(self._part))
        opened.callback(self._trail.close)
        self._switch = Switch(self._path)
        opened.callback(self._switch.turn_off)
        if settings.turn_on:
            _tried("process accounting cannot be turned on", lambda: self._switch.turn_on(_FILES))
        else:
            _tried("process accounting cannot be turned off", self._switch.turn_off_former)
        self._statistics = _tried("statistics", self._statistician) if settings.statistics else None
        self._witnessed: Witnessed | None = None
        self._details: OrderedDict[int, tuple[Ended, dict[str, Any]]] = OrderedDict()
        self._latest = 0.0  # end in the file; of later ones the statistics tell, should it be written no more
        self._dropped = 0  # of those
        self._live = self._written()
        self._looked = now
        self._source = ""

    def look(self, now: float) -> Iterator[Record | Lost]:
        """Yield what has come since the last look."""
        self._users.refresh()
        self._groups.refresh()
        with suppress(OSError):  # what cannot be read any more is found to be quiet
            for found in self._from_file():
                self._live, self._looked = True, now
                yield found
        if now - self._looked >= _AGAIN:
            self._examine(now)
        if self._live:
            self._tell("pacct")
            self._join()
        else:
            yield from self._from_kernel()

    def _from_file(self) -> Iterator[Record | Lost]:
        for data, place in self._trail.read():
            try:
                time, fields = pacct.decode(data, self._users, self._groups)
            except UnusableError:
                yield Lost("unusable", 1)
                continue
            self._latest, self._dropped = time, 0
            details = self._joined(fields["pid"], fields["began"])
            yield Record(time, {"source": "pacct", **fields, **details}, position=(self._part, place))

    def _joined(self, pid: int, began: int) -> dict[str, Any]:
        """Return what the statistics say of a process. They come before its record is written."""
        if pid not in self._details:
            self._join()
        if pid not in self._details or abs(self._details[pid][0].began - began) > 1:
            return {}
        return beside(self._details.pop(pid)[1])

    def _join(self) -> None:
        if self._statistics is None:
            return
        for thread, sums in self._statistics.take():
            self._details[thread.process] = thread, sums
            self._details.move_to_end(thread.process)
            if len(self._details) > _MOST:
                _, (oldest, _) = self._details.popitem(last=False)
                self._dropped += _end(oldest) >= self._latest
        self._dropped += self._statistics.lost()

    def _from_kernel(self) -> Iterator[Record | Lost]:
        if self._statistics is not None:
            self._tell("taskstats")
            owed = [one for one in self._details.values() if _end(one[0]) >= self._latest]
            self._details.clear()
            for thread, sums in owed + self._statistics.take():
                yield Record(_end(thread), whole(thread, sums, self._users, self._groups))
            lost, self._dropped = self._dropped + self._statistics.lost(), 0
        elif witnessed := self._witness():
            self._tell("connector")
            for time, fields in witnessed.take(self._users, self._groups):
                yield Record(round(time, 6), fields)
            lost = witnessed.lost()
        else:
            self._tell("none")
            lost = 0
        if lost:
            yield Lost("kernel", lost)

    def _examine(self, now: float) -> None:
        """See whether a file that is quiet is still written; and put it away if that is for us to do."""
        self._looked = now
        if self._live:
            self._live = self._written()
        safe = Place.of(self._positions.get(self._part))
        if safe is not None:
            _tried("the accounting file cannot be put away", lambda: self._switch.put_away(safe.inode))

    def _written(self) -> bool:
        return _readable(self._path) and written([self._path]) is not None

    def _statistician(self) -> Statistics:
        found = Statistics(lambda: None)
        self._opened.callback(found.close)
        return found

    def _witness(self) -> Witnessed | None:
        if self._witnessed is None and self._source != "none":
            with suppress(OSError, ExhaustError):
                self._witnessed = Witnessed(lambda: None)
                self._opened.callback(self._witnessed.close)
        return self._witnessed

    def _tell(self, source: str) -> None:
        if source != self._source:
            self._source = source
            log.info("source of processes' ends", extra={"source": source, "file": self._part})


async def emit(settings: Accounting, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record | Lost]:
    with ExitStack() as opened:
        ends = _Ends(settings, positions, clock.now(), opened)
        async for now in clock.every(settings.every):
            for found in ends.look(now):
                yield found


def sources() -> Mapping[str, str]:
    """Try the ways to learn of an end."""
    return {"pacct": _pacct(), "taskstats": _why(_try_taskstats), "connector": _why(_try_connector)}


def _pacct() -> str:
    readable = [path for path in _FILES if _readable(path)]
    if not readable and not capabilities.has(capabilities.SYS_PACCT):
        return "no accounting file is where distributions have it, or it is not ours to read: see 'file'"
    return (
        "" if written(readable) else "the kernel writes to no accounting file that is known: see 'file' and 'turn_on'"
    )


def _try_taskstats() -> None:
    opened, family = taskstats.listen()
    taskstats.ignore(opened, family)
    opened.close()


def _try_connector() -> None:
    opened = connector.listen(connector.EXIT)
    connector.ignore(opened)
    opened.close()


def _why(try_it: Callable[[], None]) -> str:
    try:
        try_it()
    except (OSError, ExhaustError) as exc:
        return f"the kernel refuses it: {getattr(exc, 'strerror', None) or exc}"
    return ""


def _tried(what: str, do: Callable[[], Any]) -> Any:
    """Do what this emitter can do without; log why it could not."""
    try:
        return do()
    except (OSError, ExhaustError) as exc:
        log.warning(what, extra={"error": str(exc)})
        return None


def _end(thread: Ended) -> float:
    return float(thread.began + int(thread.elapsed))


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


EMITTER = Emitter("accounting", Accounting, emit, {"process": PROCESS}, sources=sources, waits=True, keeps="audit")
