"""The commands of this host: what people type into their shells, and what programs the kernel executes.

What is typed comes from hooks in the shells, by a unix socket that says who wrote. What is executed the kernel's audit
tells whole; without it, the process connector says which process it was, and /proc the rest if it still runs.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec

from emitters.commands import audited
from emitters.commands.audited import Audited
from emitters.commands.before import Before
from emitters.commands.observed import Observed
from emitters.commands.scrubber import PatternError, Scrubber
from emitters.commands.shells import Shells, Typed
from emitters.kernel import connector
from emitters.measures.users import Users
from exhaust.clock import Clock
from exhaust.errors import ExhaustError
from exhaust.plugins import Emitter, Fields, Lost, Record, Settings

log = logging.getLogger(__name__)

COMMAND: Fields = {
    "source": "string: shell (somebody typed it, and it has ended) or exec (the kernel executed a program)",
    "evidence": "string: who tells: bash, zsh (their hooks), audit, connector (the kernel)",
    "command": "string: the line as it was typed; of exec the arguments with spaces between, the first one included",
    "argv": "list: of exec the arguments, each a string",
    "program": "string: of exec the path of what was executed, or was to be",
    "name": "string: of exec what the kernel calls it, at most 15 bytes",
    "cwd": "string: the working directory: where it was typed, or executed",
    "pid": "int: the process: the shell, or the one that executes the program",
    "ppid": "int: its parent",
    "tty": "string: its controlling terminal, such as pts/0; missing if it has none",
    "uid": "int: whose rights it has, the real user id",
    "user": "string: that user, by /etc/passwd; the number where that has no name for it",
    "gid": "int: of exec its real group id",
    "login_uid": "int: as whom the one behind it logged in, whoever that has become since; missing if nobody did",
    "login_user": "string: that user",
    "began": "timestamp: of shell when the line was typed; the record's own time is when it ended",
    "elapsed_seconds": "double: of shell how long it took, seconds",
    "exit": "int: of shell its exit status",
    "error": "string: of exec by audit why it was not executed, such as EACCES; missing if it was",
    "complete": "bool: whether all is here; false where the process had ended before it was looked up",
    "scrubbed": "bool: whether something of it was replaced by ***",
    "cut": "bool: whether it was too long and its end is missing; missing if not",
}

_MOST_CHARACTERS = 64 << 10
_AGAIN = 0.5  # seconds until what is incomplete is looked at again
_REFRESH = 5.0  # seconds between looks at whether users have changed

Pattern = Annotated[str, msgspec.Meta(min_length=1)]


class Cli(Settings, frozen=True):
    """Where shells tell what was typed, and how to learn what is executed.

    Shells write to the unix socket at `socket`; without one none is listened to. Their hooks are files of the package
    emitters/commands: source hook.bash at the end of ~/.bashrc or /etc/bash.bashrc, hook.zsh from ~/.zshrc or
    /etc/zsh/zshrc (`python3 -c 'import emitters.commands as c; print(*c.__path__)'` says where they are), with the
    path in EXHAUST_SOCKET if it is another. `executed` is whether to tell what the kernel executes. With `audit` it
    is asked by a rule of its audit, which is for the host as a whole and needs root; at the end the rule is taken
    away, and audit is off again if it was. `state` is the installation's state directory: there it is kept what was
    found, so that it is put back by the next start if this one was killed; without it that stays until the next boot.
    With `scrub` what looks like a secret is replaced by ***, and so is what the regular expressions (RE2) in
    `secrets` find: their groups, or of one without groups all of it.
    """

    socket: str = "/run/exhaust/commands.sock"
    executed: bool = True
    audit: bool = False
    scrub: bool = True
    secrets: tuple[Pattern, ...] = ()
    state: str = ""

    def __post_init__(self) -> None:
        if self.socket and not self.socket.startswith("/"):
            raise ValueError(f"'socket' is an absolute path, or empty for none, not '{self.socket}'")
        try:
            Scrubber(self.secrets, known=False)
        except PatternError as exc:
            raise ValueError(f"'secrets': {exc}") from exc
        if self.secrets and not self.scrub:
            raise ValueError("'secrets' are only looked for with 'scrub'")


class _Commands:
    """All that is typed and executed, made into records. Open it with `open`."""

    def __init__(self, settings: Cli, clock: Clock, news: asyncio.Event) -> None:
        self._settings = settings
        self._clock = clock
        self._news = news
        self._scrubber = Scrubber(settings.secrets, known=settings.scrub)
        self._users, self._refreshed = Users(), 0.0
        self._shells: Shells | None = None
        self._executed: Audited | Observed | None = None
        self._again: asyncio.TimerHandle | None = None

    async def open(self, opened: AsyncExitStack) -> None:
        """Open what the settings allow and this host has; the rest is done without."""
        if self._settings.socket:
            shells = Shells(Path(self._settings.socket), self._clock, self._news.set)
            try:
                await shells.open()
            except OSError as exc:
                log.warning("shells cannot be listened to", extra={"path": self._settings.socket, "error": str(exc)})
            else:
                self._shells = shells
                opened.push_async_callback(shells.close)
        note = Path(self._settings.state) / "audit.json" if self._settings.state else None
        Before.put_back_noted(note)
        ways: dict[str, Callable[[], Audited | Observed]] = {"observed": lambda: Observed(self._news.set)}
        if self._settings.audit:
            ways = {"audited": lambda: Audited(self._news.set, note), **ways}
        for by, way in ways.items() if self._settings.executed else ():
            try:
                self._executed = way()
            except (OSError, ExhaustError) as exc:
                log.warning("executions cannot be told", extra={"by": by, "error": str(exc)})
                continue
            opened.callback(self._executed.close)
            log.info("source of executions", extra={"by": by})
            break

    def take(self) -> Iterator[Record | Lost]:
        """Yield what has come."""
        now = self._clock.now()
        if not self._refreshed <= now < self._refreshed + _REFRESH:
            self._refreshed = now
            self._users.refresh()
        if self._shells is not None:
            for typed in self._shells.take():
                yield typed if isinstance(typed, Lost) else self._typed(typed)
        if (executed := self._executed) is not None:
            for found in executed.take(now):
                yield self._execution(found)
            if executed.waiting and self._again is None:
                self._again = asyncio.get_running_loop().call_later(_AGAIN, self._look_again)
            if lost := executed.lost():
                yield Lost("kernel", lost)

    def _look_again(self) -> None:
        self._again = None
        self._news.set()

    def _typed(self, typed: Typed) -> Record:
        command, cut = _cut(typed.command)
        command, scrubbed = self._scrubber.text(command)
        fields = {
            "source": "shell",
            "evidence": typed.shell,
            "command": command,
            "cwd": _cut(typed.cwd)[0],
            **self._named(typed.session),
            "began": typed.began,
            "elapsed_seconds": round(max(0.0, typed.ended - typed.began), 6),
            "exit": typed.exit,
            "complete": bool(command),
            "scrubbed": scrubbed,
        }
        return Record(typed.ended, fields | ({"cut": True} if cut else {}))

    def _execution(self, found: dict[str, Any]) -> Record:
        time, argv = found.pop("time"), found.pop("argv", None)
        fields = {"source": "exec", **self._named(found)}
        if argv is not None:
            words, cut = _shortened(argv)
            words, scrubbed = self._scrubber.words(words)
            fields |= {"command": " ".join(words), "argv": words, "scrubbed": scrubbed}
            fields |= {"cut": True, "complete": False} if cut else {}
        return Record(round(time, 6), fields)

    def _named(self, found: dict[str, Any]) -> dict[str, Any]:
        for known, name in (("uid", "user"), ("login_uid", "login_user")):
            if known in found:
                found[name] = self._users.name(found[known])
        return found


async def emit(settings: Cli, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record | Lost]:
    news = asyncio.Event()
    async with AsyncExitStack() as opened:
        commands = _Commands(settings, clock, news)
        await commands.open(opened)
        while True:
            await news.wait()
            news.clear()
            for found in commands.take():
                yield found


def _cut(text: str) -> tuple[str, bool]:
    return text[:_MOST_CHARACTERS], len(text) > _MOST_CHARACTERS


def _shortened(words: list[str]) -> tuple[list[str], bool]:
    """Leave out what is too long together."""
    room, kept = _MOST_CHARACTERS, []
    for word in words:
        kept.append(word[:room])
        room -= len(word) + 1
        if room <= 0:
            return kept, len(kept) < len(words) or room < -1
    return kept, False


def sources() -> Mapping[str, str]:
    """Try the ways to learn of a command."""
    folder = Path(Cli().socket).parent
    place = folder if folder.is_dir() else folder.parent
    shells = "" if os.access(place, os.W_OK | os.X_OK) else f"'{place}' is not ours to write: see 'socket'"
    return {"shell": shells, "audit": audited.why_not(), "connector": _connector()}


def _connector() -> str:
    try:
        opened = connector.listen(connector.EXEC)
        connector.ignore(opened)
        opened.close()
    except (OSError, ExhaustError) as exc:
        return f"the kernel refuses it: {getattr(exc, 'strerror', None) or exc}"
    return ""


EMITTER = Emitter("cli", Cli, emit, {"command": COMMAND}, sources=sources, keeps="audit")
