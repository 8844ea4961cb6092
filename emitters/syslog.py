"""What programs, hosts and the kernel tell by syslog: sockets of our own, systemd's journal, the kernel's log."""  # noqa: A005  an emitter's file is called as the emitter

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from emitters.kernel import capabilities
from emitters.listening import journal, kernel_log
from emitters.listening.connections import TcpConnections, UnixConnections
from emitters.listening.datagrams import UdpDatagrams, UnixDatagrams
from emitters.listening.intake import Arrival, Intake
from emitters.listening.journal import Journal
from emitters.listening.keeping import Keeping, Listener
from emitters.listening.kernel_log import KernelLog
from emitters.listening.message import read
from emitters.listening.places import address_of, path_of, unserved
from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Lost, Record, Settings
from exhaust.settings import Duration, Size

_LOG = "/dev/log"
_NONE = "none"
_PORT = 514
_FIRST = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

MESSAGE: Fields = {
    "message": "string: what it says, without what the other fields say; control characters as they came",
    "facility": "string: what it is about, as `logger -p` names it: kern, user, mail, daemon, auth, …, local7; "
    "missing, as the next three, of a message without a priority",
    "severity": "string: emerg, alert, crit, err, warning, notice, info or debug",
    "facility_code": "int: the facility's number, 0 to 23",
    "severity_code": "int: the severity's number, 0 (emerg) to 7 (debug)",
    "app_name": "string: the program that it says it is of; of OpenSSH sshd-session since 9.8 for what happens in a "
    "connection, before sshd",
    "proc_id": "string: the process that it says it is of, mostly a pid",
    "msg_id": "string: what kind of message it says it is",
    "structured_data": "map: by element the map of its parameters, text by name (a list where one is there twice); "
    "element journal is journald's own knowledge of the sender, kernel the device's",
    "hostname": "string: the host that it says it is of, which is its sender's word alone",
    "transport": "string: how it came: unix, unix_stream, udp, tcp, journal or kmsg; journal also of what programs "
    "write to /dev/log where that is journald's, as with systemd",
    "peer": "string: the address that it came from, by udp (which anybody can forge) or tcp",
    "peer_pid": "int: the process that sent it, as the kernel says; of journal as journald says, like the next two",
    "peer_uid": "int: the user of that process",
    "peer_gid": "int: the group of that process",
    "received": "timestamp: when it was read here",
    "message_time": "timestamp: the time that it carries, where that is more than a day from its receipt: then the "
    "record's own time is that of receipt, as it is where it carries none",
    "format": "string: what its header was read as: rfc5424, rfc3164 or none; missing of journal and kmsg",
    "escaped": "bool: true where bytes of it are no UTF-8, each of which stands as \\xNN",
    "cut": "bool: true where it was longer than 32 KiB, of which the rest is gone, or ended too early",
    "raw": "string: the first 4 KiB of it as they came, all but printable ASCII escaped, where not all could be read",
}


class Syslog(Settings, frozen=True):
    """Where to hear. `none` is nowhere.

    `unix` is the path of a datagram socket that everybody may write to; left out, it is /dev/log where nobody serves
    that and it may be bound. `unix_stream` is the path of a stream socket, `udp` and `tcp` are `host:port`. `journal`
    is followed by journalctl (`auto`: if journald runs), `kmsg` is the kernel's log, whose messages are then not taken
    from the journal as well; where neither was read before, both begin now. `receive_buffer` is asked for at the UDP
    socket; what the kernel drops there is counted. At most `connections` are open by tcp, as by unix_stream, a quarter
    of them by one address or user, each until it was `idle` for so long; of too many, the one that was silent for
    longest is ended. While nobody takes what is heard, whoever writes to a unix socket or by TCP waits.
    """

    unix: str = ""
    unix_stream: str = _NONE
    udp: str = _NONE
    tcp: str = _NONE
    journal: bool | Literal["auto"] = "auto"
    kmsg: bool = True
    receive_buffer: Annotated[Size, msgspec.Meta(ge=4096, le=1 << 30)] = 8 << 20
    connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 256
    idle: Annotated[Duration, msgspec.Meta(ge=1)] = 3600.0

    def __post_init__(self) -> None:
        for key in ("unix", "unix_stream"):
            _hold(key, path_of, getattr(self, key))
        for key in ("udp", "tcp"):
            _hold(key, address_of, getattr(self, key))
        if self.unix == self.unix_stream != _NONE:
            raise ValueError(f"'unix' and 'unix_stream' cannot both be {self.unix!r}: a path has one socket")


def _hold(key: str, reading: Any, value: str) -> None:
    if value in ("", _NONE) and (value or key == "unix"):
        return
    try:
        reading(value)
    except ValueError as exc:
        raise ValueError(f"'{key}': {exc}, or {_NONE}") from exc


def _listeners(settings: Syslog, positions: Mapping[str, Any], intake: Intake, clock: Clock) -> list[Listener]:
    found: list[Listener] = []
    if settings.unix != _NONE:
        found.append(UnixDatagrams(settings.unix or _LOG, intake, clock, wanted=bool(settings.unix)))
    most, idle = settings.connections, settings.idle
    if settings.unix_stream != _NONE:
        found.append(UnixConnections(settings.unix_stream, intake, clock, most=most, idle=idle))
    if settings.udp != _NONE:
        found.append(UdpDatagrams(settings.udp, settings.receive_buffer, intake, clock))
    if settings.tcp != _NONE:
        found.append(TcpConnections(settings.tcp, intake, clock, most=most, idle=idle))
    kernel = KernelLog(positions, intake, clock) if settings.kmsg else None
    if kernel is not None:
        found.append(kernel)
    if settings.journal is True or (settings.journal == "auto" and not journal.why_not()):
        wanted = settings.journal is True
        found.append(Journal(positions, lambda: bool(kernel and kernel.heard), intake, clock, wanted=wanted))
    return found


def record_of(arrival: Arrival) -> Record:
    """Return a message that came by a socket as a record."""
    local = arrival.origin["transport"] in ("unix", "unix_stream")
    time, fields = read(arrival.data, arrival.received, cut=arrival.cut, local=local)
    fields |= arrival.origin
    fields["received"] = arrival.received
    return Record(time, fields)


async def emit(settings: Syslog, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record | Lost]:
    intake = Intake()
    async with Keeping(_listeners(settings, positions, intake, clock), intake, clock):
        while True:
            await intake.some()
            while (item := intake.take()) is not None:
                yield record_of(item) if isinstance(item, Arrival) else item


def sources() -> Mapping[str, str]:
    """Return what there is to hear with, and why it cannot be used here."""
    port = _why_not_port()
    return {
        "unix": _why_not_log(),
        "journal": journal.why_not(),
        "kmsg": kernel_log.why_not(),
        "udp": port,
        "tcp": port,
    }


def _why_not_log() -> str:
    try:
        unserved(_LOG)
    except OSError as exc:
        return exc.strerror or str(exc)
    folder = str(Path(_LOG).parent)
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{_LOG}: {folder} may not be written to; other paths can be"


def _why_not_port() -> str:
    """Say why port 514 cannot be had, without having it for a moment: whoever sends to it would notice."""
    if _unprivileged() <= _PORT or capabilities.has(capabilities.NET_BIND_SERVICE):
        return ""
    return f"port {_PORT}: permission denied; those from {_unprivileged()} up can be used"


def _unprivileged() -> int:
    """Return the first port that is for everybody."""
    try:
        return int(_FIRST.read_text())
    except (OSError, ValueError):  # before Linux 4.11
        return 1024


EMITTER = Emitter("syslog", Syslog, emit, streams={"message": MESSAGE}, sources=sources, keeps="logs")
