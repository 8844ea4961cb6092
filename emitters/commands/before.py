"""How audit was before we changed it: put back at the end, or by the next start after one of us was killed."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from emitters.kernel import audit
from emitters.kernel.audit import Status

log = logging.getLogger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Before(msgspec.Struct, frozen=True):
    """What audit was like, and the rules that are ours, in the boot of that id. Without a path there is no note of it.

    A note is of the boot that it was written in: with the next one all is as if we had never been there.
    """

    boot: str
    enabled: int
    pid: int
    backlog_limit: int
    patience: int
    rules: tuple[bytes, ...]

    @classmethod
    def of(cls, found: Status, rules: list[bytes]) -> Self:
        return cls(_BOOT.read_text(), found.enabled, found.pid, found.backlog_limit, found.patience, tuple(rules))

    @classmethod
    def put_back_noted(cls, path: Path | None) -> None:
        """Put back what somebody has left who had no time to do so."""
        if path is None:
            return
        try:
            left = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as exc:
            log.warning("how audit was before cannot be read", extra={"path": str(path), "error": str(exc)})
            return
        if left.boot == _BOOT.read_text():
            left.put_back(path)
            log.info("audit put back as it was before we were killed", extra={"path": str(path)})

    def note(self, path: Path | None) -> None:
        """Write it down. Raises OSError."""
        if path is not None:
            new = path.with_name(path.name + ".new")
            new.write_bytes(msgspec.json.encode(self))
            new.replace(path)

    def due(self, now: Status) -> list[dict[str, int]]:
        """Return what is to be set up again; nothing where a daemon has come, which has set all up its own way."""
        if now.pid and not self.pid:
            return []
        off = [{"enabled": 0}] if not self.enabled and now.enabled == 1 else []
        return off if self.pid else [*off, {"backlog": self.backlog_limit, "patience": self.patience}]

    def put_back(self, path: Path | None) -> None:
        """Let audit be as it was, and the note be gone."""
        with suppress(OSError):
            for change in self.due(audit.status()):
                audit.set_up(**change)
        for rule in self.rules:
            with suppress(OSError):
                audit.delete(rule)
        if path is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)
