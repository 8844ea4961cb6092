"""Which files were there when a pattern was first followed, and are read only from where they ended then."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from emitters.following.places import Place

log = logging.getLogger(__name__)

_Kept = dict[str, list[Place]]


class Beginnings:
    """A file that each use of the emitter changes for its own patterns. Without a path, none is kept.

    No record goes with a file that is not read, so no position can say that its lines are not wanted.
    """

    def __init__(self, path: Path | None, patterns: Sequence[str]) -> None:
        self._path = path
        self._patterns = patterns
        kept = self._read()
        self.known: Mapping[str, list[Place]] = {one: kept[one] for one in patterns if one in kept}

    def places(self) -> list[Place]:
        return [place for places in self.known.values() for place in places]

    def keep(self, places: Iterable[tuple[str, Place]]) -> None:
        """Write down which files of which pattern are not read before these places."""
        mine: _Kept = {pattern: [] for pattern in self._patterns}
        for pattern, place in places:
            mine[pattern].append(place)
        if self._path is None or mine == self.known:
            return
        self.known = mine
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.encode(self._read() | mine))
        except OSError as exc:
            log.warning("where files were first followed cannot be kept", extra={"path": self._path, "error": str(exc)})

    def _read(self) -> _Kept:
        if self._path is None:
            return {}
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as exc:
            log.warning("where files were first followed is unknown", extra={"path": self._path, "error": str(exc)})
            return {}


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place at once, readable only for its owner: after a crash it is the old or the new one."""
    draft = path.with_name(f"{path.name}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    draft.replace(path)
