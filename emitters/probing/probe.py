"""What is to be probed: the settings of one probe, and its target taken apart."""

import string
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from exhaust.plugins import Settings
from exhaust.settings import Duration

KINDS = ("tcp", "http", "tls", "dns", "udp")
_HOST = frozenset(string.ascii_letters + string.digits + ".-_:")
_NAME = frozenset(string.ascii_letters + string.digits + ".-_*")
_LONGEST = 2000
_PORTS = {"http": 80, "https": 443}
_BELONGS = {"send": ("tcp", "udp"), "query": ("dns",), "verify": ("tls", "http"), "ca": ("tls", "http")}

Query = Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"]


class Place(NamedTuple):
    """Where to connect to; the host is a name or an address."""

    host: str
    port: int


class Url(NamedTuple):
    """A URL taken apart; `target` is what stands in the request line, `authority` what in Host."""

    place: Place
    secure: bool
    authority: str
    target: str


class Question(NamedTuple):
    """A name to ask for, and the server to ask; None is the first of /etc/resolv.conf."""

    name: str
    server: Place | None


def place(text: str, port: int = 0) -> Place:
    """Take `host:port` or `[address]:port` apart; `port` is for one without. Raises ValueError."""
    host, colon, number = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, colon, number = text, "", ""
    elif not colon:
        host, number = text, ""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare and bare == host:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, as in [::1]:443")
    if not bare or not _HOST.issuperset(bare) or len(bare) > 253:
        raise ValueError(f"{text!r} names no host; expected host:port, such as localhost:443")
    if number.isdecimal() and len(number) <= 5:
        port = int(number)
    elif colon:
        port = 0
    if not 1 <= port <= 65535:
        raise ValueError(f"{text!r} has no port; expected host:port, such as localhost:443")
    return Place(bare, port)


def url(text: str) -> Url:
    """Take a URL of http or https apart. Raises ValueError."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is no URL: characters such as spaces are written as %20")
    found = urlsplit(text)
    if found.scheme not in _PORTS or not found.netloc:
        raise ValueError(f"{text!r} is no URL; expected http://host/path or https://host/path")
    if "@" in found.netloc:
        raise ValueError("a URL with a password in it cannot be probed: records show their target to everybody")
    target = (found.path or "/") + (f"?{found.query}" if found.query else "")
    return Url(place(found.netloc, _PORTS[found.scheme]), found.scheme == "https", found.netloc, target)


def question(text: str) -> Question:
    """Take `name` or `name@server` apart. Raises ValueError."""
    name, at, server = text.partition("@")
    labels = name.removesuffix(".").split(".")
    if not _NAME.issuperset(name) or not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise ValueError(f"{text!r} names no name to ask for; expected name or name@server, such as localhost@[::1]:53")
    return Question(name, place(server, 53) if at else None)


class Probe(Settings, frozen=True):
    """One thing to be tried every so often: one of `tcp` (host:port), `http` (a URL), `tls` (host:port), `dns` (a name,
    or name@server) and `udp` (host:port).

    `expect` is the list of statuses that are well for `http` (without it, 200 to 399), or text that must be in the
    answer: the body's first MiB, one of the records of `dns`, what `tcp` or `udp` say after `send`, if anything, was
    sent to them. Certificates are verified against the host's authorities, or those in the file `ca`, unless `verify`
    is false.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    tcp: str = ""
    http: str = ""
    tls: str = ""
    dns: str = ""
    udp: str = ""
    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 60.0
    timeout: Annotated[Duration, msgspec.Meta(ge=0.01, le=300.0)] = 5.0
    expect: tuple[Annotated[int, msgspec.Meta(ge=100, le=599)], ...] | str = ()
    send: str = ""
    query: Query = "A"
    verify: bool = True
    ca: str = ""
    labels: dict[str, str] = {}

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind))

    @property
    def target(self) -> str:
        return str(getattr(self, self.kind))

    def __post_init__(self) -> None:
        given = [kind for kind in KINDS if getattr(self, kind)]
        if len(given) != 1:
            raise ValueError(f"a probe has one target; give one of {', '.join(KINDS)}")
        kind = given[0]
        if len(self.target) > _LONGEST:
            raise ValueError(f"a target has at most {_LONGEST} characters")
        {"http": url, "dns": question}.get(kind, place)(self.target)
        for key, kinds in _BELONGS.items():
            if kind not in kinds and getattr(self, key) != _default(key):
                raise ValueError(f"{key!r} belongs to probes of {' and '.join(kinds)}")
        if kind == "tls" and self.expect:
            raise ValueError("a probe of tls expects nothing but a certificate")
        if kind != "http" and self.expect and not isinstance(self.expect, str):
            raise ValueError(f"a probe of {kind} expects text; statuses are of http")


def _default(key: str) -> object:
    return next(field.default for field in msgspec.structs.fields(Probe) if field.name == key)
