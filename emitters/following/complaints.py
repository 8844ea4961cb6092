"""What cannot be followed is told once, and again only once it could be in between."""

import logging
import os
import re

log = logging.getLogger(__name__)

_MOST = 1000


class Complaints:
    """What was told of which path; of too many, all may be told again."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], str] = {}

    def about(self, what: str, path: str, reason: str, level: int = logging.WARNING) -> None:
        """Log that something is the matter with a path, unless just that was told already."""
        if self._told.get((what, path)) == reason:
            return
        if len(self._told) >= _MOST:
            self._told.clear()
        self._told[what, path] = reason
        log.log(level, what, extra={"path": shown(path), "reason": shown(reason)})

    def withdraw(self, what: str, path: str) -> None:
        self._told.pop((what, path), None)


def shown(path: str) -> str:
    r"""Return a path as text that can be sent: bytes that are no UTF-8 as \xNN."""
    return path if path.isascii() else path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def hidden(text: str) -> str:
    """Return the path that is shown as this text."""
    encoded = text.encode(errors="surrogateescape")
    return os.fsdecode(re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), encoded))
