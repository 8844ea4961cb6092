"""Probes of dns: one question over UDP by hand (RFC 1035), so that the answer is of the server that is asked."""

import re
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from emitters.probing.attempt import Attempt, ProbeError
from emitters.probing.plain import exchange
from emitters.probing.probe import Place, question

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
_NAMES = {number: name for name, number in TYPES.items()}
_CODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_HEAD = struct.Struct(">6H")
_RECORD = struct.Struct(">HHIH")
_IN, _IS_ANSWER, _RECURSION, _CODE = 1, 0x8000, 0x0100, 0x000F
_MOST_ANSWERS = 16
_MOST_RECORDS = 100  # that are looked at
_MOST_JUMPS = 20
_LONGEST_NAME = 255
_NAMESERVER = re.compile(r"^nameserver[ \t]+([0-9A-Fa-f.:]+)", re.MULTILINE)


async def dns(attempt: Attempt) -> None:
    """Ask, and read the answer; `outcome` dns where the server says no, or has no record of that type."""
    probe = attempt.probe
    asked = question(probe.dns)
    number = (zlib.crc32(probe.name.encode()) + attempt.number) & 0xFFFF
    message = query(number, asked.name, TYPES[probe.query])
    server = await attempt.connect(asked.server or first_server(), socket.SOCK_DGRAM)
    try:
        code, found = answers(await exchange(attempt, server, message), number)
    except ValueError as exc:
        raise ProbeError("protocol", f"the answer is not DNS: {exc}") from exc
    if code:
        raise ProbeError("dns", _CODES.get(code, f"code {code}"))
    texts = [text for kind, text in found if kind == probe.query]
    attempt.found["answers"] = texts[:_MOST_ANSWERS]
    if not texts:
        raise ProbeError("dns", f"no record of type {probe.query}")
    if isinstance(probe.expect, str) and probe.expect not in texts:
        raise ProbeError("body", "what is expected is not among the answers")


def first_server(path: Path = Path("/etc/resolv.conf")) -> Place:
    """Return the server that the host asks first."""
    try:
        found = _NAMESERVER.search(path.read_text(errors="replace"))
    except OSError:
        found = None
    return Place(found[1] if found else "127.0.0.1", 53)  # as resolv.conf(5) has it


def query(number: int, name: str, kind: int) -> bytes:
    """Return a question as a datagram."""
    labels = [label.encode() for label in name.removesuffix(".").split(".")]
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEAD.pack(number, _RECURSION, 1, 0, 0, 0) + encoded + struct.pack(">HH", kind, _IN)


def answers(data: bytes, number: int) -> tuple[int, list[tuple[str, str]]]:
    """Return an answer's code, and its records as type and text. Raises ValueError where it is none to `number`."""
    try:
        replied, flags, questions, records, _, _ = _HEAD.unpack_from(data)
        if replied != number or not flags & _IS_ANSWER:
            raise ValueError("it answers another question")
        place = _HEAD.size
        for _ in range(min(questions, _MOST_RECORDS)):
            place = _name(data, place)[1] + 4
        return flags & _CODE, list(_records(data, place, records))
    except (struct.error, IndexError) as exc:
        raise ValueError("it is cut short") from exc


def _records(data: bytes, place: int, count: int) -> Iterator[tuple[str, str]]:
    for _ in range(min(count, _MOST_RECORDS)):
        _, place = _name(data, place)
        kind, _, _, length = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        if len(data) - place < length:
            raise ValueError("a record is cut short")
        if kind in _NAMES:
            yield _NAMES[kind], _text(_NAMES[kind], data, place, place + length)
        place += length


def _text(kind: str, data: bytes, start: int, end: int) -> str:
    if kind in ("A", "AAAA"):
        if end - start != (4 if kind == "A" else 16):
            raise ValueError("an address has a wrong length")
        return socket.inet_ntop(socket.AF_INET if kind == "A" else socket.AF_INET6, data[start:end])
    if kind == "TXT":
        return _strings(data[start:end])
    if kind == "MX":
        return f"{int.from_bytes(data[start : start + 2], 'big')} {_name(data, start + 2)[0]}"
    return _name(data, start)[0]


def _strings(data: bytes) -> str:
    text, place = b"", 0
    while place < len(data):
        text += data[place + 1 : place + 1 + data[place]]
        place += 1 + data[place]
    return text[:_LONGEST_NAME].decode(errors="backslashreplace")


def _name(data: bytes, place: int) -> tuple[str, int]:
    """Return a name and the place after it. A reference leads only further back, so that none leads in a circle."""
    labels, after, least, jumps = [], 0, place, 0
    while length := data[place]:
        if length >= 0xC0:
            after = after or place + 2
            place = (length & 0x3F) << 8 | data[place + 1]
            jumps += 1
            if place >= least or jumps > _MOST_JUMPS:
                raise ValueError("a name leads in circles")
            least = place
        elif length < 64:
            labels.append(data[place + 1 : place + 1 + length].decode(errors="backslashreplace"))
            place += 1 + length
            if len(labels) > _LONGEST_NAME // 2:
                raise ValueError("a name is too long")
        else:
            raise ValueError("a name has a label of unknown kind")
    return ".".join(labels) or ".", after or place + 1
