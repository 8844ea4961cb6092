"""Who asks and what they may: tokens in files, each of one person, and the scopes that they open."""

import contextlib
import hmac
import os
import secrets
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from exhaust.errors import ConfigurationError
from exhaust.people import LOCAL, Person

# What one may, and the scope that it is a part of.
SCOPES: Mapping[str, str] = {
    "read": "read",
    "trigger": "operate",
    "halt": "operate",
    "approve": "operate",
    "emit": "emit",
}
_SHORTEST = 32
_LONGEST = 4096


class Caller(NamedTuple):
    """Who has shown a token, and what that person may."""

    name: str
    may: frozenset[str]


def make_token(path: Path) -> str:
    """Return the token in a file that only its owner can read; it is made if there is none."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(32) + "\n")
        # Of several processes that try at once, the first one's stays, and nobody reads half a token.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
    token, fault = _read(path)
    if fault:
        raise ConfigurationError([f"{path}: {fault}, or remove it to have a new one"])
    return token.decode()


def _read(path: Path) -> tuple[bytes, str]:
    """Return the token in a file, or why there is none to use."""
    try:
        # Without waiting: what is no file may never have anything to read.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        return b"", f"cannot be read: {exc.strerror}"
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return b"", "is no file"
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            return b"", "others may read this token: chmod 600 it"
        token = os.read(descriptor, _LONGEST + 1).strip()
    except OSError as exc:
        return b"", f"cannot be read: {exc.strerror}"
    finally:
        os.close(descriptor)
    if len(token) < _SHORTEST:
        return b"", f"holds no token: at least {_SHORTEST} characters are needed"
    if len(token) > _LONGEST or not token.isascii() or len(token.split()) > 1:
        return b"", f"holds no token: one word of at most {_LONGEST} characters is needed"
    return token, ""


class _Key:
    """One person's token, read again whenever its file is another than before."""

    def __init__(self, path: Path, caller: Caller) -> None:
        self.caller = caller
        self._path = path
        self._mark: tuple[int, ...] = ()
        self._token = b""
        self._fault = "has not been read yet"

    def read(self) -> tuple[bytes, str]:
        """Return the token, empty where it grants nothing, and what is wrong with it."""
        mark = self._seen()
        if mark != self._mark or not mark:
            self._mark = mark
            self._token, fault = _read(self._path)
            self._fault = f"{self._path}: {fault}" if fault else ""
        return self._token, self._fault

    def _seen(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class People:
    """Everybody with a token: `local` with that of the state directory, who may do all, and who is configured."""

    def __init__(self, local: Path, people: Sequence[Person] = ()) -> None:
        self._local = _Key(local, Caller(LOCAL, frozenset(SCOPES)))
        self._others = [_Key(Path(one.token_file), Caller(one.name, frozenset(("read", *one.may)))) for one in people]

    def who(self, header: str) -> Caller | None:
        """Return who sends this `Authorization`. It takes as long whoever it is."""
        scheme, _, given = header.partition(" ")
        told = given.strip().encode("utf-8", "surrogateescape")
        found = None
        for key, token, fault in self._read():
            if hmac.compare_digest(told, token) and not fault:
                found = key.caller
        return found if scheme.lower() == "bearer" else None

    def faults(self) -> dict[str, str]:
        """Return, by name, whose token grants nothing, and why."""
        return {key.caller.name: fault for key, _, fault in self._read() if fault}

    def _read(self) -> Iterator[tuple[_Key, bytes, str]]:
        read = [(key, *key.read()) for key in (*self._others, self._local)]
        holders = Counter(token for _, token, fault in read if not fault)
        for key, token, fault in read:
            # Whose will it was must be beyond doubt; the command line's token goes on.
            shared = not fault and holders[token] > 1 and key is not self._local
            yield key, token, "somebody else has the same token" if shared else fault
