"""An interactive shell in a terminal of its own, in which lines are typed."""

import os
import pty
import select
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

WITHIN = 30.0
_PROMPT = "\nready> "


class Shell:
    """Typed lines wait for the prompt. `rc` is what the shell reads when it starts."""

    def __init__(self, argv: list[str], home: Path, rc: str, env: dict[str, str]) -> None:
        name = {"bash": ".bashrc", "zsh": ".zshrc"}[Path(argv[0]).name]
        plain = "setopt no_prompt_sp\n" if name == ".zshrc" else ""
        home.joinpath(name).write_text(f"PS1=$'\\nready> '\n{plain}{rc}\n")
        self._argv, self._home = argv, home
        self._env = {
            "HOME": str(home),
            "ZDOTDIR": str(home),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            **env,
        }
        self.pid = self._fd = 0
        self.shown = ""

    def __enter__(self) -> Self:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(self._home)
            os.execve(self._argv[0], self._argv, self._env)
        self.shown = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    @property
    def tty(self) -> str:
        return str(Path(f"/proc/{self.pid}/fd/0").readlink()).removeprefix("/dev/")

    def type(self, line: str) -> str:
        """Type a line; return what is shown until the next prompt, the line itself included."""
        os.write(self._fd, f"{line}\r".encode())
        return self._read()

    def leave(self, line: str) -> None:
        """Type the line that ends the session."""
        os.write(self._fd, f"{line}\r".encode())
        self._read()

    def _read(self) -> str:
        found, end = "", time.monotonic() + WITHIN
        while not _plain(found).endswith(_PROMPT):
            ready, _, _ = select.select([self._fd], [], [], end - time.monotonic())
            assert ready, f"no prompt came after {found!r}"
            try:
                part = os.read(self._fd, 1 << 16)
            except OSError:  # it has ended
                break
            found += part.decode(errors="replace")
        return _plain(found)


def _plain(shown: str) -> str:
    """Leave out what only moves the cursor or tells the terminal how to treat what is pasted."""
    return shown.replace("\r", "").replace("\x1b[?2004h", "").replace("\x1b[?2004l", "")
