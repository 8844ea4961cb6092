"""A private RabbitMQ node for tests, benchmarks and trying things out: own ports, own data, gone when its owner is."""

import argparse
import atexit
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

# The script in Debian's /usr/sbin changes directory and user first; the one behind it is the server's own.
_HOMES = ("/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/sbin", "/usr/sbin")
_STOPS_WITHIN = 5.0
_HELLO = b"AMQP\x00\x00\x09\x01"
_STARTED = b"\x01\x00\x00"  # a method frame on channel 0: Connection.Start, which a booting node does not send yet
# Waits for its standard input to end, which it does however the owner dies; then ends the group that it was given and
# removes what was temporary.
_WATCHDOG = 'read -r _; kill -KILL "-$1"; [ -z "$2" ] || { sleep 1; rm -rf "$2"; }'
# Else a command that finds our epmd gone leaves a daemon of its own behind.
_DISTRIBUTION = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"


class NodeError(Exception):
    """The node cannot be run; the text is one line that says what to do."""


def home() -> Path:
    """Return the folder of RabbitMQ's own scripts."""
    for folder in map(Path, _HOMES):
        if (folder / "rabbitmq-server").exists() and shutil.which("epmd"):
            return folder
    raise NodeError("RabbitMQ is not installed: apt-get install rabbitmq-server (3.10 or newer)")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Group:
    """A child with its own process group, and a watchdog that ends the group should we be killed."""

    def __init__(
        self, command: list[str], env: dict[str, str], folder: Path, output: IO[bytes], temporary: str = ""
    ) -> None:
        self.process = subprocess.Popen(
            command,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self.process.pid), temporary],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    @property
    def stopped(self) -> bool:
        """Whether every thread of the leader has stopped, which takes each a moment after the signal."""
        stats = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)

    def end(self, gently: float = 0.0) -> None:
        """Ask the leader to stop and wait `gently` seconds for it; then kill all that is left of the group."""
        if gently and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(gently)
        # The watchdog goes first: once the leader is reaped, its number may be given to somebody else.
        self._watchdog.kill()
        self._watchdog.communicate()
        self.signal(signal.SIGKILL)
        self.process.wait()


class Node:
    """One RabbitMQ server on 127.0.0.1. Starting it again after `stop` or `kill` finds its queues as they were."""

    def __init__(self, folder: Path | None = None, *, port: int | None = None, erl_args: str = "") -> None:
        self._home = home()
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="exhaust-rabbitmq-"))
        self.port = port or free_port()
        self._distribution, self._epmd_port = free_port(), free_port()
        self._erl_args = erl_args
        self._name = f"exhaust-{secrets.token_hex(4)}@localhost"
        self._epmd: _Group | None = None
        self._server: _Group | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def pid(self) -> int | None:
        return self._server.process.pid if self._server else None

    def start(self, within: float = 60.0) -> None:
        """Boot, and return once it answers AMQP."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\nlog.file.level = warning\n")
        atexit.register(self.close)
        environment = self._environment()
        with (self.folder / "output.log").open("ab") as output:
            if self._epmd is None:
                # Without one of ours the Erlang machine leaves a daemon of its own behind.
                self._epmd = _Group(["epmd"], environment, self.folder, output)
            temporary = str(self.folder) if self._temporary else ""
            server = str(self._home / "rabbitmq-server")
            self._server = _Group([server], environment, self.folder, output, temporary)
        self._wait(within)

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(folder),  # where Erlang keeps its cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_DISTRIBUTION} {self._erl_args}",
            "RABBITMQ_CTL_ERL_ARGS": _DISTRIBUTION,
        }

    def _wait(self, within: float) -> None:
        end = time.monotonic() + within
        while not self.answers():
            if self._server is None or self._server.process.poll() is not None:
                raise NodeError(f"RabbitMQ ended while booting: see {self.folder}/output.log and {self.folder}/log")
            if time.monotonic() > end:
                raise NodeError(f"RabbitMQ did not answer within {within:.0f} s: see {self.folder}/log")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Tell whether it greets a client of AMQP now."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                probe.sendall(_HELLO)
                return probe.recv(3) == _STARTED
        except OSError:
            return False

    def stop(self) -> None:
        """Shut it down in order."""
        self._end(gently=20.0)

    def kill(self) -> None:
        """SIGKILL every process of it at once, as a crash would."""
        self._end()

    def _end(self, gently: float = 0.0) -> None:
        if self._server is not None:
            self._server.end(gently)
            self._server = None

    def suspend(self) -> None:
        """SIGSTOP it: connections stay open and nobody answers."""
        if self._server is not None:
            self._server.signal(signal.SIGSTOP)
            deadline = time.monotonic() + _STOPS_WITHIN
            while not self._server.stopped and time.monotonic() < deadline:
                time.sleep(0.01)

    def resume(self) -> None:
        if self._server is not None:
            self._server.signal(signal.SIGCONT)

    def rabbitmqctl(self, *args: str) -> str:
        """Run the node's administration command; return what it printed."""
        command = [str(self._home / "rabbitmqctl"), "--quiet", "--node", self._name, *args]
        done = subprocess.run(command, env=self._environment(), cwd=self.folder, capture_output=True, check=False)
        if done.returncode:
            raise NodeError(f"rabbitmqctl {' '.join(args)}: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    def settle(self) -> None:
        """Write the list of quorum queues to disk now.

        RabbitMQ keeps it in memory for some 3 s: a kill before that loses a queue just declared, with all in it, and
        leaves one that has no leader. Measured on 3.10.8.
        """
        self.rabbitmqctl("eval", "dets:sync(ra_directory_reverse).")

    def close(self) -> None:
        """Kill what is left and remove the data, unless the folder was given."""
        atexit.unregister(self.close)
        self.kill()
        if self._epmd is not None:
            self._epmd.end()
            self._epmd = None
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node", description=__doc__)
    parser.add_argument("--port", type=int, help="port of AMQP (default: a free one)")
    parser.add_argument("--data", type=Path, help="folder for its data, kept at the end (default: a temporary one)")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with Node(options.data, port=options.port) as node:
            print(node.url, flush=True)
            while True:
                signal.pause()
    except NodeError as error:
        print(error, file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
