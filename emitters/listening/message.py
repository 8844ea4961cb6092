"""One message of syslog, as RFC 5424, RFC 3164 and their likes have it: read in linear time, and never refused."""

import codecs
from typing import Any, NamedTuple

from emitters.listening.moments import instant, legacy, placed
from emitters.listening.priorities import PRIORITIES, Priority
from emitters.listening.structured import structured

MOST_BYTES = 32 << 10
"""Of one message: as JSON, where a byte may take six, it is still far from the most that a record may have."""

_MOST_RAW = 4 << 10
_MOST_TOKEN = 255
_STAMP = len("Oct 11 22:14:15")


class Content(NamedTuple):
    """What a message says: its time, or that of receipt where it tells none that can be believed; and its fields."""

    time: float
    fields: dict[str, Any]


class _Headed(NamedTuple):
    """A message less its priority; `sound` is whether all of it could be read."""

    moment: float | None
    fields: dict[str, Any]
    sound: bool = True


class Tag(NamedTuple):
    """Who wrote a line, by its beginning such as `sshd[312]: `, and what follows that."""

    app_name: str
    proc_id: str
    rest: str


def read(data: bytes, received: float, *, cut: bool = False, local: bool = False) -> Content:
    """Read a message. `cut`: there was more of it; `local`: it came by a unix socket, where no host names itself."""
    cut = cut or len(data) > MOST_BYTES
    data = data[:MOST_BYTES] if cut else _unended(data)
    text, escaped = _decoded(data, whole=not cut)
    end = text.find(">", 1, 5) + 1
    priority = PRIORITIES.get(text[:end])
    if priority is None:
        headed, fields = _Headed(None, {"message": text, "format": "none"}), {}
    else:
        headed, fields = _read(text, end, received, local), told(priority)
    fields |= headed.fields
    time, apart = placed(headed.moment, received)
    if apart is not None:
        fields["message_time"] = apart
    if escaped:
        fields = _escaped(fields)
        fields["escaped"] = True
    if cut:
        fields["cut"] = True
    if not headed.sound:
        fields["raw"] = data[:_MOST_RAW].decode("latin-1").encode("unicode_escape").decode()
    return Content(time, fields)


def told(priority: Priority) -> dict[str, Any]:
    """Return a priority as fields."""
    return priority._asdict()


def tag(text: str) -> Tag | None:
    """Return who wrote a line, where it begins with a word that ends in a colon, or has a number in brackets."""
    end = text.find(" ", 0, _MOST_TOKEN + 1)
    word = text[:end] if end >= 0 else text
    if len(word) > _MOST_TOKEN:
        return None
    if word.endswith((":", "]")):
        rest = text[end + 1 :] if end >= 0 else ""
    elif (close := word.find("]:")) > 0:
        word, rest = word[: close + 1], text[close + 2 :]
    else:
        return None
    name, bracket, number = word.removesuffix(":").partition("[")
    if not name or (bracket and not number.endswith("]")) or (not bracket and not word.endswith(":")):
        return None
    return Tag(name, number.removesuffix("]"), rest)


def written(text: str) -> dict[str, Any]:
    """Return a line as fields: who wrote it, where it says so, and the message."""
    found = tag(text)
    if found is None:
        return {"message": text}
    fields = {"app_name": found.app_name, "proc_id": found.proc_id, "message": found.rest}
    return fields if found.proc_id else {name: value for name, value in fields.items() if name != "proc_id"}


def _unended(data: bytes) -> bytes:
    """Return a message less the one NUL and the one line end that senders put behind it."""
    return data.removesuffix(b"\0").removesuffix(b"\n")


def _decoded(data: bytes, *, whole: bool) -> tuple[str, bool]:
    """Return the text, and whether bytes of it are no UTF-8, which stand as surrogates then."""
    try:
        return codecs.utf_8_decode(data, "strict", whole)[0], False
    except UnicodeDecodeError:
        return codecs.utf_8_decode(data, "surrogateescape", whole)[0], True


def _escaped(found: Any) -> Any:
    """Return fields with the bytes that are no UTF-8 as `\\xNN`; each step is one pass of the interpreter's own."""
    if isinstance(found, str):
        if found.isascii():
            return found
        marked = found.replace("\\ud", "\ud800").encode("utf-8", "backslashreplace")  # so that `\\ud` in it stays
        return marked.replace(b"\\udc", b"\\x").replace(b"\\ud800", b"\\ud").decode()
    if isinstance(found, dict):
        return {_escaped(name): _escaped(value) for name, value in found.items()}
    return [_escaped(value) for value in found] if isinstance(found, list) else found


def _read(text: str, at: int, received: float, local: bool) -> _Headed:
    headed = _rfc5424(text, at) if text.startswith("1 ", at) else None
    headed = headed or _rfc3164(text, at, received, local)
    return headed or _Headed(None, {"message": text[at:], "format": "none"}, sound=False)


def _rfc5424(text: str, at: int) -> _Headed | None:
    """Read what follows `<PRI>`; None where that is no such header. Of structured data that is wrong it is all text."""
    words = text[at:].split(" ", 6)
    if len(words) < 7 or not all(0 < len(word) <= _MOST_TOKEN for word in words[1:6]):
        return None
    _, stamp, *names, rest = words
    moment = None if stamp == "-" else instant(stamp)
    if moment is None and stamp != "-":
        return None
    named = zip(("hostname", "app_name", "proc_id", "msg_id"), names, strict=True)
    fields: dict[str, Any] = {name: word for name, word in named if word != "-"}
    fields["format"] = "rfc5424"
    if rest == "-" or rest.startswith("- "):
        fields["message"] = rest[2:].removeprefix("\ufeff")
        return _Headed(moment, fields)
    found = structured(rest)
    if found is None:
        fields["message"] = rest
        return _Headed(moment, fields, sound=False)
    fields["structured_data"], message = found
    fields["message"] = message.removeprefix("\ufeff")
    return _Headed(moment, fields)


def _rfc3164(text: str, at: int, received: float, local: bool) -> _Headed | None:
    """Read what follows `<PRI>`: a time, of either RFC, the host unless it is told of itself, and who wrote it."""
    end = at + _STAMP
    moment = legacy(text[at:end], received) if text[end : end + 1] in (" ", "") and end <= len(text) else None
    if moment is None:
        end = text.find(" ", at, at + _MOST_TOKEN)
        moment = instant(text[at:end]) if end > 0 else None
    if moment is None:
        return None
    rest = text[end + 1 :]
    host, space, behind = rest.partition(" ")
    if not space or not host or len(host) > _MOST_TOKEN or tag(rest) is not None or (local and tag(behind) is None):
        return _Headed(moment, {**written(rest), "format": "rfc3164"})
    return _Headed(moment, {"hostname": host, **written(behind), "format": "rfc3164"})
