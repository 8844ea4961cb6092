"""Hostile syslog.

Whatever comes by datagram or stream becomes records of known fields that fit into a batch, in time, and the pieces in
which a stream comes change nothing; what is no record of the kernel's log and no entry of a journal is told as such.
"""

import contextlib
import time

import msgspec

from emitters.listening.framing import Frame, Framing
from emitters.listening.journal import entry_of
from emitters.listening.kernel_log import line_of
from emitters.listening.message import read
from emitters.syslog import MESSAGE

NOW = 1_800_000_000.0
MOST_JSON = 256 << 10
MOST_SECONDS = 0.05  # instrumented, it takes many times as long as it does otherwise
MOST = 64


def one_message(data: bytes, *, cut: bool, local: bool) -> None:
    """Read it as a message."""
    began = time.process_time()
    found = read(data, NOW, cut=cut, local=local)
    took = time.process_time() - began
    assert set(found.fields) <= set(MESSAGE), found
    assert len(msgspec.json.encode(found.fields)) < MOST_JSON - 4096, len(data)
    assert took < MOST_SECONDS, f"{took:.3f} s for {len(data)} bytes"


def frames(pieces: list[bytes], *, counted: bool) -> list[Frame]:
    framing = Framing(MOST, counted=counted)
    return [frame for piece in pieces for frame in framing.feed(piece)] + framing.end()


def stream(data: bytes, width: int, *, counted: bool) -> None:
    """Take it apart as a stream, whole and in pieces."""
    once = frames([data], counted=counted)
    assert all(0 < len(frame.data) <= MOST for frame in once), once
    pieces = [data[at : at + width] for at in range(0, len(data), width)]
    assert frames(pieces, counted=counted) == once, (data, width)


def one_input(data: bytes) -> None:
    """Try it as everything that it may be; the first byte says how."""
    how, data = data[0] if data else 0, data[1:]
    one_message(data, cut=bool(how & 1), local=bool(how & 2))
    stream(data, 1 + (how >> 3), counted=bool(how & 4))
    with contextlib.suppress(ValueError):
        assert set(line_of(data).fields) <= set(MESSAGE)
    with contextlib.suppress(ValueError):
        assert set(entry_of(data).fields) <= set(MESSAGE)
