"""The paths that patterns match, looked up again only in directories that have changed."""

import fnmatch
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from emitters.following.complaints import Complaints

_MAGIC = re.compile(r"[*?\[]")
_SURE_AFTER = 2_000_000_000  # two changes within one tick of a file system's clock leave the same time behind
_MOST_DIRECTORIES = 4096


def parts_of(pattern: str) -> tuple[str, ...]:
    """Return a pattern's components. Raises ValueError where it is no absolute one.

    `*` and `?` stand for text within a name, `**` for any directories beneath; names with a leading dot are matched
    only by what has one, too.
    """
    parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
    if not pattern.startswith("/") or not parts or ".." in parts:
        raise ValueError(f"{pattern!r} is no absolute path or pattern")
    if wrong := next((part for part in parts if "**" in part and part != "**"), None):
        raise ValueError(f"{pattern!r}: '**' stands for whole directories, as in /**/, not within {wrong!r}")
    return parts


class _Listing(NamedTuple):
    stamp: tuple[int, int, int]
    sure: bool
    names: list[str]
    folders: list[str]
    links: list[str]  # symbolic links to directories, which `**` does not follow


_NOTHING = _Listing((0, 0, 0), False, [], [], [])


class Tree:
    """The files that may be meant by patterns, and the directories in which others could appear.

    With `siblings`, names that only begin as a pattern says matter too. With `beneath`, a directory stands for all
    that is in it.
    """

    def __init__(
        self, patterns: Sequence[str], complaints: Complaints, *, siblings: bool = False, beneath: bool = False
    ) -> None:
        self.patterns = tuple(dict.fromkeys(patterns))
        self._parts = [(pattern, parts_of(pattern)) for pattern in self.patterns]
        self._complaints = complaints
        self._more = "*" if siblings else ""
        self._beneath = beneath
        self._listed: dict[str, _Listing] = {}
        self._listings: dict[str, _Listing] = {}
        self.directories: dict[str, list[re.Pattern[str]]] = {}

    def find(self) -> dict[str, str]:
        """Return the paths, each with the first pattern that matches it. One without wildcards need not exist."""
        self.directories = {}
        self._listed, self._listings = self._listings, {}
        found: dict[str, str] = {}
        for pattern, parts in self._parts:
            for path in self._walk("", parts):
                found.setdefault(path, pattern)
        self._listed = {}
        return found

    def matters(self, directory: str, name: str) -> bool:
        """Tell whether what happens to a name in a directory is of interest."""
        return any(known.match(name) for known in self.directories.get(directory, ()))

    def covers(self, path: str) -> str:
        """Return the first pattern that matches a path, whether it exists or not; empty if none does."""
        names = path.split("/")[1:]
        return next((pattern for pattern, parts in self._parts if self._covers(parts, names)), "")

    def _covers(self, parts: Sequence[str], names: Sequence[str]) -> bool:
        return _covers(parts, names) or (self._beneath and _covers([*parts, "**"], names))

    def names(self, directory: str) -> list[str]:
        """Return the names of what is no directory in one."""
        return self._list(directory).names

    def _walk(self, directory: str, parts: Sequence[str]) -> Iterator[str]:
        first, rest = parts[0], parts[1:]
        if first == "**":
            yield from self._walk(directory, rest or ("*",))
            self._note(directory, "*")
            for folder in self._list(directory or "/").folders:
                if not folder.startswith("."):
                    yield from self._walk(f"{directory}/{folder}", parts)
        elif rest:
            yield from self._descend(directory, first, rest)
        else:
            yield from self._leaves(directory, first)

    def _descend(self, directory: str, first: str, rest: Sequence[str]) -> Iterator[str]:
        if not _MAGIC.search(first):
            if Path(f"{directory}/{first}").is_dir():
                yield from self._walk(f"{directory}/{first}", rest)
            else:
                self._note(directory, first)
            return
        self._note(directory, first)
        listing = self._list(directory or "/")
        for folder in [*listing.folders, *listing.links]:
            if _matches(first, folder):
                yield from self._walk(f"{directory}/{folder}", rest)

    def _leaves(self, directory: str, name: str) -> Iterator[str]:
        self._note(directory, name + self._more)
        if _MAGIC.search(name):
            yield from (f"{directory}/{one}" for one in self._list(directory or "/").names if _matches(name, one))
        elif self._beneath and Path(f"{directory}/{name}").is_dir():
            yield from self._walk(f"{directory}/{name}", ("**",))
        else:
            yield f"{directory}/{name}"

    def _note(self, directory: str, names: str) -> None:
        known = self.directories.setdefault(directory or "/", [])
        if (expression := _expression(names)) not in known:
            known.append(expression)

    def _list(self, directory: str) -> _Listing:
        """Return what is in a directory: what is known of it still, where its time says that nothing has changed."""
        known = self._listings.get(directory) or self._listed.get(directory)
        if len(self._listings) >= _MOST_DIRECTORIES and directory not in self._listings:
            self._complaints.about("too many directories", directory, f"only {_MOST_DIRECTORIES} are looked into")
            return _NOTHING
        try:
            self._listings[directory] = self._fresh(directory, known)
        except (FileNotFoundError, NotADirectoryError):
            return _NOTHING
        except OSError as exc:
            self._complaints.about("directory cannot be read", directory, exc.strerror or str(exc))
            return _NOTHING
        self._complaints.withdraw("directory cannot be read", directory)
        return self._listings[directory]

    @staticmethod
    def _fresh(directory: str, known: _Listing | None) -> _Listing:
        status = Path(directory).stat()
        stamp = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if known is not None and known.sure and known.stamp == stamp:
            return known
        sure = time.time_ns() - status.st_mtime_ns > _SURE_AFTER
        listing = _Listing(stamp, sure, [], [], [])
        with os.scandir(directory) as entries:
            for entry in entries:
                kind = listing.names
                if entry.is_dir(follow_symlinks=False):
                    kind = listing.folders
                elif entry.is_symlink() and entry.is_dir():
                    kind = listing.links
                kind.append(entry.name)
        return listing


def regular(path: str) -> os.stat_result | None:
    """Return the status of a regular file, also behind symbolic links; None of what is none. Raises OSError."""
    status = os.stat(path)  # noqa: PTH116  of hundreds at each look: a Path costs more than the call
    return status if stat.S_ISREG(status.st_mode) else None


@cache
def _expression(names: str) -> re.Pattern[str]:
    hidden = "" if names.startswith(".") else r"(?!\.)"
    return re.compile(hidden + fnmatch.translate(names))


def _matches(names: str, name: str) -> bool:
    return _expression(names).match(name) is not None


def _covers(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not parts or not names:
        return not parts and not names
    if parts[0] != "**":
        return _matches(parts[0], names[0]) and _covers(parts[1:], names[1:])
    below = len(names) > 1 and not names[0].startswith(".") and _covers(parts, names[1:])
    return below or _covers(parts[1:] or ("*",), names)
