"""Where one message ends and the next begins on a stream: by a count of octets before it, or by a line end behind it.

RFC 6587 has both, and senders mix them. A count is believed only where it is complete: a number, a space, and a whole
priority; a line may begin with digits, too. The same octets give the same messages in whatever pieces they come.
"""

from typing import NamedTuple

from emitters.listening.priorities import PRIORITIES

_MOST_DIGITS = 8
_MOST_HEAD = _MOST_DIGITS + len(" <191>")
_PRIORITIES = frozenset(text.encode() for text in PRIORITIES)
_DIGITS = frozenset(b"123456789")


class Frame(NamedTuple):
    """A message; `cut` if there was more of it, which is gone."""

    data: bytes
    cut: bool


class Framing:
    """Takes what a connection brings, and keeps at most one message of `most` bytes that is not complete."""

    def __init__(self, most: int, *, counted: bool = True) -> None:
        self._most = most
        self._counted = counted
        self._buffer = bytearray()
        self._at = 0  # where in it the next message begins
        self._seen = 0  # up to where in it there is no line end
        self._octets = 0  # still to come of a message that was cut
        self._in_line = False  # what comes up to the next line end belongs to a message that was cut

    def feed(self, data: bytes) -> list[Frame]:
        """Return what is complete by now."""
        self._buffer += data
        frames: list[Frame] = []
        while self._step(frames):
            pass
        del self._buffer[: self._at]
        self._seen -= self._at
        self._at = 0
        return frames

    def end(self) -> list[Frame]:
        """Return what is left at the end of the connection: what was counted and did not come whole is cut."""
        count = self._count() if self._counted else None
        rest = bytes(self._buffer)
        self._buffer.clear()
        if self._octets or self._in_line or not rest:
            return []
        return [Frame(rest[count[0] :], True)] if count else _line(rest)

    def _step(self, frames: list[Frame]) -> bool:
        """Go on by one message, or what is left of one that was cut; tell whether that was possible."""
        if self._octets:
            return self._pass_octets()
        if self._in_line:
            return self._pass_line()
        if self._counted and self._at < len(self._buffer) and self._buffer[self._at] in _DIGITS:
            count = self._count()
            if count is None:
                return False
            if count:
                return self._take_octets(frames, *count)
        return self._take_line(frames)

    def _count(self) -> tuple[int, int] | tuple[()] | None:
        """Return how long the count is and what it counts; nothing if it is none, None if that cannot be told yet."""
        head = bytes(self._buffer[self._at : self._at + _MOST_HEAD])
        digits, _, behind = head.partition(b" ")
        if not digits.isdigit() or len(digits) > _MOST_DIGITS or digits[0] not in _DIGITS:
            return ()
        priority, close, _ = behind.partition(b">")
        if close:
            proven = priority + close in _PRIORITIES and int(digits) > len(priority)
            return (len(digits) + 1, int(digits)) if proven else ()
        if priority[:1] in (b"", b"<") and (priority[1:].isdigit() or len(priority) < 2) and len(head) < _MOST_HEAD:
            return None
        return ()

    def _take_octets(self, frames: list[Frame], before: int, octets: int) -> bool:
        begin = self._at + before
        end = begin + min(octets, self._most)
        if len(self._buffer) < end:
            return False
        frames.append(Frame(bytes(self._buffer[begin:end]), octets > self._most))
        self._octets = max(0, octets - self._most)
        self._at = self._seen = end
        return True

    def _take_line(self, frames: list[Frame]) -> bool:
        end = self._buffer.find(b"\n", max(self._seen, self._at), self._at + self._most + 1)
        if end >= 0:
            frames += _line(bytes(self._buffer[self._at : end]))
            self._at = self._seen = end + 1
            return True
        if len(self._buffer) - self._at <= self._most:
            self._seen = len(self._buffer)
            return False
        end = self._at + self._most
        frames.append(Frame(bytes(self._buffer[self._at : end]), True))
        self._at = self._seen = end
        self._in_line = True
        return True

    def _pass_octets(self) -> bool:
        passed = min(self._octets, len(self._buffer) - self._at)
        self._octets -= passed
        self._at = self._seen = self._at + passed
        return passed > 0

    def _pass_line(self) -> bool:
        end = self._buffer.find(b"\n", self._at)
        self._in_line = end < 0
        self._at = self._seen = len(self._buffer) if end < 0 else end + 1
        return end >= 0


def _line(data: bytes) -> list[Frame]:
    line = data.removesuffix(b"\r")
    return [Frame(line, False)] if line else []
