"""Opening files where others may put symbolic links: one is followed only if root made it, or who owns its target."""

import errno
import os
import stat
from contextlib import ExitStack
from typing import Final

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS: Final = 40  # as the kernel has it


def opened(path: str, *, links: bool = True) -> int:
    """Open a file to be read, at an absolute path. Raises OSError.

    Of directories too a link is followed only if root made it, or who owns what it leads to; without `links`, what is
    at the path may be none at all. What was judged is what is opened, whatever is renamed meanwhile.
    """
    with ExitStack() as held:
        found = _Walk(held).to(path, links=links)
        return os.open(f"/proc/self/fd/{found}", _FLAGS)


class _Walk:
    """A path as the kernel goes it, name by name; what is opened on the way is closed with `held`."""

    def __init__(self, held: ExitStack) -> None:
        self._held = held
        self._followed = 0

    def to(self, path: str, start: int = -1, *, links: bool = True) -> int:
        """Return what is at a path that is absolute or begins in the directory `start`."""
        here = self._kept(os.open("/", _PATH)) if path.startswith("/") else start
        names = [name for name in path.split("/") if name not in ("", ".")]
        for number, name in enumerate(names, 1):
            before, here = here, self._kept(os.open(name, _PATH, dir_fd=here))
            if stat.S_ISLNK(os.fstat(here).st_mode):
                if not links and number == len(names):
                    raise OSError(errno.ELOOP, "it is a symbolic link")
                here = self._behind(here, before)
        return here

    def _behind(self, link: int, directory: int) -> int:
        """Return what a link leads to, if it may."""
        self._followed += 1
        if self._followed > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        found = self.to(os.readlink("", dir_fd=link), directory)
        whose, owner = os.fstat(link).st_uid, os.fstat(found).st_uid
        if whose not in (0, owner):
            raise PermissionError(errno.EACCES, f"a link of uid {whose} leads to what belongs to uid {owner}")
        return found

    def _kept(self, fd: int) -> int:
        self._held.callback(os.close, fd)
        return fd
