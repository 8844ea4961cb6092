"""The last versions of each catalogued file, with copies of their content, kept on disk for a later restore."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from emitters.following.beginnings import write_whole
from emitters.following.complaints import Complaints, hidden, shown
from emitters.following.version import Version

MOST_VERSIONS: Final = 3
MOST_BYTES: Final = 64 << 20

_YOUNG: Final = 60.0  # seconds within which another use of the emitter has written down a version that it stored


class Kept(msgspec.Struct):
    """The versions of one path, oldest first."""

    path: str
    versions: list[Version]


class _Copy(NamedTuple):
    path: Path
    size: int
    young: bool


class Versions:
    """A directory: `paths/` has a file about each path, `copies/` the contents by their sha256, readable for its owner.

    Without a directory nothing is kept. What cannot be kept is told once, and observing goes on. Several uses of the
    emitter may share one: each counts what all have stored, and leaves alone what may be about to be written down.
    """

    def __init__(self, root: Path | None, complaints: Complaints, most: int = MOST_BYTES) -> None:
        self._root = root
        self._complaints = complaints
        self._most = most
        self._used: int | None = None  # of the room, as far as that was counted since others may have taken some
        self._fresh: set[str] = set()  # the sums of what is stored, but not yet written down as a version
        self._own: set[str] = set()  # the sums of all that was stored here and is there still

    def settle(self) -> None:
        """Note that all versions are written down that ever will be of those that were stored."""
        self._fresh.clear()
        self._used = None

    def load(self, mine: Callable[[str], bool]) -> dict[str, list[Version]]:
        """Return what is known of paths that are one's own."""
        return {hidden(kept.path): kept.versions for kept in self._all() if mine(hidden(kept.path))}

    def patterns(self) -> set[str]:
        """Return the patterns whose files are all known."""
        if self._root is None:
            return set()
        try:
            return set(msgspec.json.decode((self._root / "patterns.json").read_bytes(), type=list[str]))
        except FileNotFoundError:
            return set()
        except (OSError, msgspec.MsgspecError) as exc:
            self._complaints.about("catalogue cannot be read", str(self._root), str(exc))
            return set()

    def add_patterns(self, patterns: Sequence[str]) -> None:
        known = self.patterns()
        if self._root is not None and not known.issuperset(patterns):
            with self._told(str(self._root)):
                write_whole(_made(self._root) / "patterns.json", msgspec.json.encode(sorted(known.union(patterns))))

    def store(self, path: str, version: Version, content: bytes) -> None:
        """Keep the content of a version that is going to be written down."""
        if self._root is not None:
            with self._told(path):
                self._fresh.add(version.sha256)
                self._copy(_made(self._root / "copies") / version.sha256, content)

    def keep(self, path: str, versions: Sequence[Version]) -> None:
        """Write down a path's versions."""
        if self._root is None:
            return
        with self._told(path):
            kept = Kept(shown(path), list(versions))
            write_whole(_made(self._root / "paths") / _name(path), msgspec.json.encode(kept))

    def forget(self, path: str) -> None:
        """Let go of all versions of a path."""
        if self._root is not None:
            with self._told(path):
                (self._root / "paths" / _name(path)).unlink(missing_ok=True)

    def copy(self, version: Version) -> str:
        """Return where the content of a version is kept; empty where it is not."""
        path = self._root / "copies" / version.sha256 if self._root and version.sha256 else None
        return str(path) if path is not None and path.exists() else ""

    def tidy(self, needed: int = 0) -> None:
        """Delete copies of versions that are forgotten; and, until there is room for so much, those replaced first."""
        current: dict[str, float] = {}
        former: dict[str, float] = {}
        for kept in self._all():
            *before, newest = kept.versions or [Version(since=0.0)]
            current[newest.sha256] = newest.since
            former |= {version.sha256: version.since for version in before}
        copies = sorted(self._copies(), key=lambda one: former.get(one.path.name, 0.0))
        self._used = sum(one.size for one in copies)
        self._own &= {one.path.name for one in copies}
        spared = current.keys() | self._fresh
        spared |= {one.path.name for one in copies if one.young and one.path.name not in former.keys() | self._own}
        for path, size, _ in copies:
            fits = self._used + needed <= self._most
            if path.name not in spared and not (fits and path.name in former):
                path.unlink(missing_ok=True)
                self._used -= size

    def _copy(self, path: Path, content: bytes) -> None:
        if path.exists():
            return
        if self._room < len(content):
            self.tidy(len(content))
        if self._room < len(content):
            self._complaints.about("no room for copies", "", f"they would take more than {self._most >> 20} MiB")
            return
        self._own.add(path.name)
        write_whole(path, content)
        self._used = self._most - self._room + len(content)

    @property
    def _room(self) -> int:
        if self._used is None:
            self._used = sum(one.size for one in self._copies())
        return self._most - self._used

    def _all(self) -> Iterator[Kept]:
        if self._root is None:
            return
        for path in sorted((self._root / "paths").glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Kept)
            except FileNotFoundError:  # another use has forgotten it meanwhile
                continue
            except (OSError, msgspec.MsgspecError) as exc:
                self._complaints.about("catalogue cannot be read", str(path), str(exc))

    def _copies(self) -> Iterator[_Copy]:
        if self._root is None or not (self._root / "copies").is_dir():
            return
        for entry in os.scandir(self._root / "copies"):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                age = time.time() - status.st_mtime
                yield _Copy(Path(entry.path), status.st_size, young=-_YOUNG < age < _YOUNG)

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Tell of what cannot be written: a full disk is no reason to stop observing."""
        try:
            yield
        except OSError as exc:
            self._complaints.about("versions cannot be kept", path, exc.strerror or str(exc))


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _name(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32] + ".json"
