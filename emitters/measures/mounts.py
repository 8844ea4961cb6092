"""What is mounted, and which of it counts as a file system that can fill up."""

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

# These hold nothing that could fill a disk.
_PSEUDO = frozenset(
    b"autofs binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs fuse.gvfsd-fuse "
    b"fuse.lxcfs fuse.portal fusectl hugetlbfs mqueue nfsd nsfs proc pstore ramfs resctrl rootfs rpc_pipefs securityfs "
    b"selinuxfs smackfs sysfs tracefs".split()
)
_IMAGES = frozenset(b"cramfs erofs fuse.snapfuse iso9660 romfs squashfs".split())  # full from the day they were made
# Below these stand file systems of the kernel, of containers and of services, that come and go with them.
_OTHERS = re.compile(
    rb"/(proc|sys|run/credentials|run/containerd|run/docker|var/lib/(containers|docker|kubelet/pods))/.+", re.DOTALL
)
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo (see proc_pid_mountinfo(5)). `number` tells file systems apart, not mounts."""

    id: int
    parent: int
    number: bytes
    root: bytes
    path: bytes
    type: bytes
    device: bytes
    read_only: bool
    options: bytes = b""

    @property
    def mountpoint(self) -> str:
        return text(self.path)


def text(name: bytes) -> str:
    """Return a name that may be of any bytes as text, different names as different text."""
    return name.decode(errors="backslashreplace")


def parse(lines: Iterable[bytes]) -> Iterator[Mount]:
    """Read the lines of mountinfo. Read-only is the file system as a whole; one mount of it may be so by itself."""
    for line in lines:
        fields = line.split(b" ")
        type_, device, options = fields[fields.index(b"-", 6) + 1 :][:3]
        root, path, type_, device = (_ESCAPED.sub(_byte, field) for field in (fields[3], fields[4], type_, device))
        read_only = b"ro" in options.split(b",")
        yield Mount(int(fields[0]), int(fields[1]), fields[2], root, path, type_, device, read_only, fields[5])


def _byte(escaped: re.Match[bytes]) -> bytes:
    return bytes((int(escaped[1], 8),))


def in_sight(mounts: Sequence[Mount]) -> list[Mount]:
    """Leave out what others cover: its path leads to them."""
    known = {mount.id: mount for mount in mounts}
    places = {(mount.parent, mount.path) for mount in mounts}

    def covered(mount: Mount) -> bool:
        # Whatever lies on the same mount, further up, came later: otherwise this one would lie on it.
        if any((mount.parent, above) in places for above in _above(mount.path)):
            return True
        parent = known.get(mount.parent, mount)
        return parent is not mount and covered(parent)

    return [mount for mount in mounts if (mount.id, mount.path) not in places and not covered(mount)]


def _above(path: bytes) -> Iterator[bytes]:
    while path != b"/":
        path = path[: path.rindex(b"/")] or b"/"
        yield path


def chosen(mounts: Iterable[Mount], patterns: Sequence[str]) -> list[Mount]:
    """Return the mounts that are named by glob; if none is, each real file system once, where most of it is seen."""
    if patterns:
        return [one for one in mounts if any(fnmatchcase(one.mountpoint, pattern) for pattern in patterns)]
    best: dict[bytes, Mount] = {}
    for mount in mounts:
        if _is_real(mount):
            best[mount.number] = min(mount, best.get(mount.number, mount), key=_depth)
    return list(best.values())


def _is_real(mount: Mount) -> bool:
    if mount.type == b"overlay":  # elsewhere it is a container's, and its files lie on a file system that is told of
        return mount.path == b"/"
    return mount.type not in _PSEUDO and mount.type not in _IMAGES and not _OTHERS.fullmatch(mount.path)


def _depth(mount: Mount) -> tuple[bool, int, bytes]:
    return mount.root != b"/", len(mount.path), mount.path
