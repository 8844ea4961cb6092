"""Does small measurements in a process of its own, as gently as it can, and prints each result as a line of JSON.

It is run by its path, with a JSON object of `tests`, `folder` and `peer`, and uses the standard library alone.
"""

import hashlib
import json
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

_LOOPS = 400_000  # some 40 ms of a processor of today
_HASHED = 8 << 20
_TRANSACTIONS = 50
_WRITTEN = 4 << 20
_SENT = 256 << 10
_LONGEST = 5.0  # seconds for any one of them
_PIECE = 1 << 16

Result = tuple[str, float, str, float]
"""Name, value, unit, and for how many seconds it was measured."""


def cpu(settings: dict[str, Any]) -> Iterator[Result]:
    """Measure by the processor's time: what others take of it meanwhile is not the processor's fault."""
    began = time.process_time()
    value = 1
    for number in range(_LOOPS):
        value = (value * 31 + number) & 0xFFFFFFFF
    seconds = time.process_time() - began
    yield "cpu.integer", _LOOPS / seconds, "loops/s", seconds
    block, digest = bytes(_PIECE), hashlib.sha256()
    began = time.process_time()
    for _ in range(_HASHED // _PIECE):
        digest.update(block)
    seconds = time.process_time() - began
    yield "cpu.sha256", _HASHED / seconds, "bytes/s", seconds


def sqlite(settings: dict[str, Any]) -> Iterator[Result]:
    """Measure transactions of one row each, every one of them safe on disk before the next."""
    path = os.path.join(settings["folder"], "trial.db")  # noqa: PTH118  this program starts without pathlib
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute("pragma synchronous = full")
        base.execute("create table row (number integer primary key, text text)")
        began, count = time.monotonic(), 0
        while count < _TRANSACTIONS and time.monotonic() - began < _LONGEST:
            base.execute("insert into row (text) values (?)", ("x" * 100,))
            count += 1
        seconds = time.monotonic() - began
    yield "sqlite.transactions", count / seconds, "transactions/s", seconds


def disk(settings: dict[str, Any]) -> Iterator[Result]:
    """Measure writing until it is safe, and reading back what is no longer in memory, where the system lets it go."""
    path = os.path.join(settings["folder"], "trial")  # noqa: PTH118  this program starts without pathlib
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        piece, began = os.urandom(_PIECE), time.monotonic()
        for _ in range(_WRITTEN // _PIECE):
            os.write(file, piece)
        os.fdatasync(file)
        seconds = time.monotonic() - began
        yield "disk.write", _WRITTEN / seconds, "bytes/s", seconds
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(file, 0, os.SEEK_SET)
        began, read = time.monotonic(), 0
        while text := os.read(file, _PIECE):
            read += len(text)
        seconds = time.monotonic() - began
        yield "disk.read", read / seconds, "bytes/s", seconds
    finally:
        os.close(file)


def network(settings: dict[str, Any]) -> Iterator[Result]:
    """Measure how long the peer takes to answer, and what goes to it and comes from it."""
    host, _, port = settings["peer"].rpartition(":")
    address = (host.strip("[]"), int(port))
    began = time.monotonic()
    with socket.create_connection(address, _LONGEST) as peer:
        connected = time.monotonic() - began
        yield "network.connect", connected, "s", connected
        began = time.monotonic()
        peer.sendall(b"up %d\n" % _SENT + bytes(_SENT))
        if _received(peer, 3) != 3:
            raise OSError("the peer has not taken it all")
        seconds = time.monotonic() - began
        yield "network.up", _SENT / seconds, "bytes/s", seconds
    with socket.create_connection(address, _LONGEST) as peer:
        began = time.monotonic()
        peer.sendall(b"down %d\n" % _SENT)
        if _received(peer, _SENT) != _SENT:
            raise OSError("the peer has not sent it all")
        seconds = time.monotonic() - began
        yield "network.down", _SENT / seconds, "bytes/s", seconds


def _received(peer: socket.socket, most: int) -> int:
    count, until = 0, time.monotonic() + _LONGEST
    while count < most and time.monotonic() < until and (text := peer.recv(min(_PIECE, most - count))):
        count += len(text)
    return count


TESTS: dict[str, Callable[[dict[str, Any]], Iterator[Result]]] = {
    "cpu": cpu,
    "sqlite": sqlite,
    "disk": disk,
    "network": network,
}


def run(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the results; of a test that fails, why it did."""
    for test in settings["tests"]:
        try:
            for name, value, unit, seconds in TESTS[test](settings):
                exact = {"value": round(value, 6), "unit": unit, "seconds": round(seconds, 6)}
                yield {"test": test, "name": name, "skipped": False} | exact
        except (OSError, ValueError, ZeroDivisionError, sqlite3.Error) as exc:
            yield {"test": test, "name": test, "skipped": True, "reason": str(exc)[:200] or type(exc).__name__}


if __name__ == "__main__":
    os.nice(19)
    for result in run(json.loads(sys.argv[1])):
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
