"""A real syslog-ng for one test, which hears on a unix socket of its own and sends on to where it is told."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "/usr/sbin/syslog-ng"
PATIENCE = 20.0
CONFIGURATION = """@version: 3.38
options {{ keep-hostname(yes); stats-freq(0); flush-lines(1); }};
source heard {{ unix-dgram("{folder}/in"); }};
rewrite told {{ set("a ] \\" \\\\ é" value(".SDATA.shop@1.k")); set("$PID" value(".SDATA.shop@1.n")); }};
destination lines {{ network("127.0.0.1" port({tcp}) transport("tcp") flags(syslog-protocol) persist-name("lines")); }};
destination counted {{ syslog("127.0.0.1" port({tcp}) transport("tcp") persist-name("counted")); }};
destination datagrams {{ syslog("127.0.0.1" port({udp}) transport("udp")); }};
log {{ source(heard); rewrite(told); destination(lines); destination(counted); destination(datagrams); }};
"""


class SyslogNg:
    """The program as a child, with configuration and state in a folder; `socket` is where it hears."""

    def __init__(self, folder: Path, *, tcp: int, udp: int) -> None:
        self.socket = str(folder / "in")
        self._log = folder / "log"
        (folder / "conf").write_text(CONFIGURATION.format(folder=folder, tcp=tcp, udp=udp))
        files = {"-f": "conf", "-R": "persist", "-c": "control", "-p": "pid"}
        argv = [
            PROGRAM,
            "-F",
            "--no-caps",
            *(word for key, name in files.items() for word in (key, str(folder / name))),
        ]
        with self._log.open("w") as out:
            self._process = subprocess.Popen(argv, stdout=out, stderr=out, cwd=folder)
        deadline = time.monotonic() + PATIENCE
        while not all((folder / name).exists() for name in ("in", "control")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{PROGRAM} does not hear: {self._log.read_text()}")
            time.sleep(0.01)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


@contextmanager
def syslog_ng(*, tcp: int, udp: int) -> Iterator[SyslogNg]:
    if not os.access(PROGRAM, os.X_OK):
        raise RuntimeError(f"{PROGRAM} is needed: run tests/needs")
    with tempfile.TemporaryDirectory(prefix="sn", dir="/tmp") as folder:
        one = SyslogNg(Path(folder), tcp=tcp, udp=udp)
        try:
            yield one
        finally:
            one.close()
