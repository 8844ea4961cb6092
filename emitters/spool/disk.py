"""The disk as the spool sees it: so few operations that a test can give one that loses, tears and refuses."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

QUARANTINE = "quarantine"


class File(Protocol):
    """An open file. Every method raises OSError."""

    def write(self, data: bytes, at: int) -> None:
        """Write all of it; it may be lost, wholly or in part, until `sync` has returned."""

    def read(self, size: int, at: int) -> bytes:
        """Return up to `size` bytes, fewer only where the file ends."""

    def sync(self) -> None: ...

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """One folder with files, and a folder `quarantine` in it. Every method raises OSError."""

    def sizes(self, folder: str = "") -> Mapping[str, int]:
        """Return the names of the files, with their sizes in bytes."""

    def open(self, name: str) -> File: ...

    def create(self, name: str) -> File:
        """Make an empty file, also where there is one already."""

    def rename(self, name: str, to: str) -> None: ...

    def unlink(self, name: str) -> None: ...

    def sync(self) -> None:
        """Make what was created, renamed and removed in the folder itself durable."""


class _File:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes, at: int) -> None:
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self._descriptor, rest, at)
            rest, at = rest[done:], at + done

    def read(self, size: int, at: int) -> bytes:
        parts = []
        while size > 0 and (part := os.pread(self._descriptor, size, at)):
            parts.append(part)
            size, at = size - len(part), at + len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        os.close(self._descriptor)


class Folder:
    """A Disk: a folder of a real file system, made where it is missing, nobody else's to read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / QUARANTINE).mkdir(mode=0o700, exist_ok=True)

    def sizes(self, folder: str = "") -> Mapping[str, int]:
        with os.scandir(self._path / folder) as entries:
            return {one.name: one.stat().st_size for one in entries if one.is_file(follow_symlinks=False)}

    def open(self, name: str) -> File:
        return _File(os.open(self._path / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))

    def create(self, name: str) -> File:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        return _File(os.open(self._path / name, flags, 0o600))

    def rename(self, name: str, to: str) -> None:
        (self._path / name).rename(self._path / to)

    def unlink(self, name: str) -> None:
        (self._path / name).unlink()

    def sync(self) -> None:
        folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
