"""What types of settings are made of beyond Python's own: durations, sizes, and forms that others define."""

import math
import re
from typing import Annotated, Any, ClassVar, Final, Protocol, TypeAlias

from exhaust.documents.nodes import At, Fault, Node, Scalar, Severity, got

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,9})([KMGT]?)(i?)B")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Invalid:
    """The only value of this type, INVALID, stands for what could not be bound; its faults have been told."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = Invalid()


class Context:
    """Where each path of one document stands, kept for faults that are found after binding.

    `names` are the variables that the entry which is being bound has given its expressions beyond those of their place.
    """

    def __init__(self) -> None:
        self.where: dict[str, At] = {}
        self.names: tuple[str, ...] = ()

    def fault(self, path: str, what: str, severity: Severity = "error") -> Fault:
        """Give a fault at a path that was bound, or at what holds it where the document leaves the path out."""
        known = path
        while known not in self.where and known:
            known = re.sub(r"(?:\.[\w-]+|\[(?:\d+|\"(?:[^\"\\]|\\.)*\")\]|^[\w-]+)$", "", known)
        return self.where.get(known, At("", 1, 1)).fault(what, path, severity)


class Form(Protocol):
    """What stands in `Annotated[T, form]` to bind a setting in its own way.

    It may also have `expected`, a phrase for messages, `takes`, the node types that it binds (all, if not given), and
    the `unit` of its limits, and a `schema`, what JSON Schema says of it.
    """

    def bind(self, node: Any, path: str, faults: list[Fault], context: Context) -> Any:
        """Give the value, or add faults and give INVALID."""


def wrong(node: Node, expected: str, path: str, faults: list[Fault], hint: str = "") -> Invalid:
    """Add the fault of a node that is not what was expected."""
    faults.append(node.at.fault(f"expected {expected}, got {got(node)}{hint}", path))
    return INVALID


def parse_duration(text: str) -> float | None:
    """Seconds of a duration such as `500ms` or `2h`; None if it is none."""
    found = _DURATION.fullmatch(text)
    return int(found[1]) * _SECONDS[found[2]] if found else None


def parse_size(text: str) -> int | None:
    """Bytes of a size such as `64MiB` or `10GB`; None if it is none."""
    found = _SIZE.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        return None
    return int(int(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2]])


class DurationForm:
    """Binds a duration to seconds."""

    expected = "a duration such as 30s"
    schema: ClassVar = {"type": "string", "pattern": f"^{_DURATION.pattern}$", "description": "such as 30s"}
    unit = "seconds"
    takes = (Scalar,)

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> float | Invalid:
        seconds = parse_duration(node.text)
        return wrong(node, self.expected, path, faults) if seconds is None else seconds


class SizeForm:
    """Binds a size to bytes."""

    expected = "a size such as 64MiB"
    schema: ClassVar = {"type": "string", "pattern": f"^{_SIZE.pattern}$", "description": "such as 64MiB"}
    unit = "bytes"
    takes = (Scalar,)

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> int | Invalid:
        size = parse_size(node.text)
        return wrong(node, self.expected, path, faults) if size is None else size


class ShareForm:
    """Binds a share such as `40%` to a fraction."""

    expected = "a share such as 40%"
    schema: ClassVar = {"type": "string", "pattern": f"^{_SHARE.pattern}$", "description": "such as 40%"}
    takes = (Scalar,)

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> float | Invalid:
        found = _SHARE.fullmatch(node.text)
        share = float(found[1]) / 100 if found else math.nan
        return share if 0 < share <= 1 else wrong(node, self.expected, path, faults)


Duration: TypeAlias = Annotated[float, DurationForm()]
Size: TypeAlias = Annotated[int, SizeForm()]
Share: TypeAlias = Annotated[float, ShareForm()]
