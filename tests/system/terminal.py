"""A terminal beside a scratch copy of the examples: lines are typed there as they are printed, and run by a shell."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.node import free_port
from exhaust.processes import Process

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
_LOOK_AGAIN = 0.05


class Done(NamedTuple):
    """How a line ended."""

    code: int
    out: str
    err: str


class Terminal:
    """Where lines are typed. `config` is what they work on unless they say; `words` in a line stand for something else.

    What they print is kept from a terminal: it goes into pipes.
    """

    def __init__(self, folder: Path, config: Path, words: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.config = config
        self.words = dict(words or {})

    @property
    def state(self) -> Path:
        return self.config / "state"

    def typed(self, line: str) -> Done:
        """Run a line to its end."""
        with self._begun(line, subprocess.PIPE) as process:
            out, err = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, out, err)

    def left(self, line: str, shows: str, number: signal.Signals, within: float) -> tuple[int, str]:
        """Run a line that does not end by itself until it has shown something, then send a signal.

        Return its exit code and all that it printed. Raises TimeoutExpired where it has not ended `within` seconds.
        """
        with self._begun(line, subprocess.STDOUT) as process:
            printed = _until_shown(process, shows)
            (typed,) = psutil.Process(process.pid).children()
            typed.send_signal(number)
            rest, _ = process.communicate(timeout=within)
        return process.returncode, printed + rest

    @contextlib.contextmanager
    def _begun(self, line: str, errors: int) -> Iterator["subprocess.Popen[str]"]:
        for word, meant in self.words.items():
            line = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda _, meant=meant: meant, line)  # type: ignore[misc]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "EXHAUST_CONFIG": str(self.config)}
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"{line}\nexit $?"],  # thus the shell stays, and the command is its child
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                _kill_all(process)


def _until_shown(process: "subprocess.Popen[str]", shows: str) -> str:
    assert process.stdout is not None
    printed, end = "", time.monotonic() + PATIENCE
    while shows not in printed:
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        part = os.read(process.stdout.fileno(), 1 << 16).decode() if readable else ""
        if not part:
            raise AssertionError(f"it has not shown {shows!r} but {printed!r}")
        printed += part
    return printed


def _kill_all(process: "subprocess.Popen[str]") -> None:
    """Kill what is left of a line, with what it has started."""
    if process.poll() is None:
        for one in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()


@contextlib.contextmanager
def quickstart(folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """Open a terminal at a copy of the examples: the quickstart's ports are free ones, its web server ends with it.

    `changes` are further texts of its exhaust.yaml and what stands there instead.
    """
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("state", "__pycache__"))
    config = folder / "examples" / "quickstart"
    put(config / "exhaust.yaml", {"8640": str(free_port()), **(changes or {})})
    put(config / "services.yaml", {"8765": str(free_port()), "every: 10s": "every: 1s"})
    (config / "policy.yaml").chmod(0o600)
    terminal = Terminal(folder, config, {"/etc/exhaust": str(config)})
    try:
        yield terminal
    finally:
        for service in kept(terminal):
            with contextlib.suppress(ProcessLookupError):
                os.kill(service.pid, signal.SIGKILL)


def put(file: Path, changes: Mapping[str, str]) -> None:
    """Change a file; each text to be changed has to stand there once."""
    text = file.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{file} holds {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    file.write_text(text)


def kept(terminal: Terminal) -> list[Process]:
    """Return the kept services that run."""
    found = [json.loads(path.read_text()) for path in (terminal.state / "services").glob("*.json")]
    processes = [Process(one["pid"], one["started"]) for one in found if one["pid"]]
    return [process for process in processes if process.alive]


@contextlib.contextmanager
def up(terminal: Terminal) -> Iterator[None]:
    """Keep `exhaust up` running at a terminal: it is well, and keeps its service, when this is entered."""
    log = terminal.folder / "up.log"
    argv = [str(Path(sys.executable).with_name("exhaust")), "up", "--config", str(terminal.config)]
    with log.open("wb") as file, subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file) as process:
        try:
            until(lambda: bool(kept(terminal)) and terminal.typed("exhaust status").code == 0, log)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def until(holds: Callable[[], bool], log: Path) -> None:
    """Wait for what tells no event of its own."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, log.read_text()
        time.sleep(_LOOK_AGAIN)
