"""Who is logged in: by the files of systemd's logind, or by utmp."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOGIND = Path("/run/systemd/sessions")
_UTMP = (Path("/run/utmp"), Path("/var/run/utmp"))


@dataclass(frozen=True, slots=True)
class Session:
    """One login of a user, and what else is known of it."""

    user: str
    known: dict[str, Any]


Sessions = Callable[[], Sequence[Session] | None]
"""Returns the sessions there are; None where the host does not keep that."""


def sessions(logind: Path = _LOGIND, utmp: Sequence[Path] = _UTMP) -> Sequence[Session] | None:
    """Return the sessions of people, by the best source that there is."""
    if logind.is_dir():
        return list(_of_logind(logind))
    return list(_of_utmp()) if any(path.exists() for path in utmp) else None


def _of_logind(folder: Path) -> Iterator[Session]:
    for path in sorted(folder.iterdir()):
        if path.suffix:  # the pipes beside them end in .ref
            continue
        try:
            text = path.read_text(errors="backslashreplace")
        except OSError:  # it has just ended
            continue
        said = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
        if said.get("CLASS", "user").startswith("user") and said.get("STATE") != "closing" and "USER" in said:
            yield Session(said["USER"], _known(said))


def _known(said: dict[str, str]) -> dict[str, Any]:
    known: dict[str, Any] = {"terminal": said.get("TTY") or said.get("DISPLAY"), "from": said.get("REMOTE_HOST")}
    if said.get("REALTIME", "").isdecimal():
        known["since"] = int(said["REALTIME"]) / 1e6
    if said.get("LEADER", "").isdecimal():
        known["pid"] = int(said["LEADER"])
    return {name: value for name, value in known.items() if value}


def _of_utmp() -> Iterator[Session]:
    import psutil

    for one in psutil.users():
        known = {"terminal": one.terminal, "from": one.host, "since": one.started, "pid": one.pid}
        yield Session(one.name, {name: value for name, value in known.items() if value})


def why_not(logind: Path = _LOGIND, utmp: Sequence[Path] = _UTMP) -> str:
    """Say why nobody can be seen to be logged in here; empty where people can."""
    return "" if logind.is_dir() or any(path.exists() for path in utmp) else "there is neither logind nor utmp"
