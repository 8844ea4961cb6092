"""A disk in memory that loses what was not synced, tears the last writes, and refuses when it is told to."""

import errno
from collections.abc import Callable, Mapping
from random import Random

Write = tuple[int, bytes | None]  # where and what; nothing means that the file was cut there


class Content:
    """What is in a file: as programs see it, and as the disk has it for certain, with the writes in between."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.safe = bytearray()
        self.unsure: list[Write] = []

    def write(self, write: Write) -> None:
        _apply(self.seen, write)
        self.unsure.append(write)

    def sync(self) -> None:
        for write in self.unsure:
            _apply(self.safe, write)
        self.unsure.clear()

    def crash(self, random: Random) -> None:
        """Each unsure write has reached the disk, or in part, or not at all."""
        for at, data in self.unsure:
            fate = random.randrange(4)
            if fate == 0 or (data is None and fate < 3):
                _apply(self.safe, (at, data))
            elif fate == 1 and data:
                _apply(self.safe, (at, data[: random.randrange(len(data))]))
            elif fate == 2 and data:
                start = random.randrange(len(data))
                _apply(self.safe, (at + start, data[start:]))
        self.unsure.clear()
        self.seen = bytearray(self.safe)


def _apply(content: bytearray, write: Write) -> None:
    at, data = write
    if data is None:
        content[at:] = bytes(max(0, at - len(content)))
    else:
        content[len(content) : at] = bytes(max(0, at - len(content)))
        content[at : at + len(data)] = data


class FaultyDisk:
    """A Disk. `failing` is the number of an error that every change meets while it is set, `hidden` of one for reads.

    At `scratched`, counted from the beginning of a file, nothing can be read.
    """

    def __init__(self) -> None:
        self.failing = 0
        self.hidden = 0
        self.scratched = -1
        self.names: dict[str, Content] = {}
        self._safe: dict[str, Content] = {}
        self._unsure: list[Callable[[dict[str, Content]], object]] = []

    def refuse(self) -> None:
        if self.failing:
            raise OSError(self.failing, errno.errorcode[self.failing])

    def sizes(self, folder: str = "") -> Mapping[str, int]:
        prefix = f"{folder}/" if folder else ""
        found = {name.removeprefix(prefix): content for name, content in self.names.items() if name.startswith(prefix)}
        return {name: len(content.seen) for name, content in found.items() if "/" not in name}

    def open(self, name: str) -> "FaultyFile":
        if name not in self.names:
            raise FileNotFoundError(errno.ENOENT, name)
        return FaultyFile(self, self.names[name])

    def create(self, name: str) -> "FaultyFile":
        self.refuse()
        content = Content()
        self._change(lambda names: names.__setitem__(name, content))
        return FaultyFile(self, content)

    def rename(self, name: str, to: str) -> None:
        self.refuse()
        self._change(lambda names: names.__setitem__(to, names.pop(name)) if name in names else None)

    def unlink(self, name: str) -> None:
        if name not in self.names:
            raise FileNotFoundError(errno.ENOENT, name)
        self._change(lambda names: names.pop(name, None))

    def sync(self) -> None:
        self.refuse()
        self._safe = dict(self.names)
        self._unsure.clear()

    def _change(self, change: Callable[[dict[str, Content]], object]) -> None:
        change(self.names)
        self._unsure.append(change)

    def crash(self, random: Random) -> None:
        """Lose power: the folder's changes are on disk up to some moment, the files' writes as it happens."""
        for change in self._unsure[: random.randrange(len(self._unsure) + 1)]:
            change(self._safe)
        self._unsure.clear()
        self.names = dict(self._safe)
        for content in self.names.values():
            content.crash(random)


class FaultyFile:
    """A File."""

    def __init__(self, disk: FaultyDisk, content: Content) -> None:
        self._disk = disk
        self._content = content

    def write(self, data: bytes, at: int) -> None:
        if self._disk.failing:
            self._content.write((at, data[: len(data) // 2]))
        self._disk.refuse()
        self._content.write((at, data))

    def read(self, size: int, at: int) -> bytes:
        if self._disk.hidden:
            raise OSError(self._disk.hidden, errno.errorcode[self._disk.hidden])
        if at <= self._disk.scratched < at + size:
            raise OSError(errno.EIO, "EIO")
        return bytes(self._content.seen[at : at + size])

    def sync(self) -> None:
        self._disk.refuse()
        self._content.sync()

    def truncate(self, size: int) -> None:
        self._content.write((size, None))

    def close(self) -> None:
        pass
