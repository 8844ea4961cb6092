"""What each operator and each function takes, and the kind of what it gives, kind by kind.

`operators.py` and `functions.py` decide; a test asks them with values of every kind whether this table says the same.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from exhaust.expressions.shape import ALL, Kinds
from exhaust.expressions.times import PARTS

_GENERAL: Final[dict[str, Kinds]] = {"any": ALL, "number": frozenset({"int", "double"})}


class Signature(NamedTuple):
    """One way to be called: the kinds of each argument, of which the last may stand `repeated`, and of the result."""

    takes: tuple[Kinds, ...]
    gives: Kinds
    repeated: bool = False

    def fits(self, arguments: Sequence[Kinds]) -> bool:
        """Whether arguments of these kinds can be what it takes."""
        takes = self.takes + self.takes[-1:] * (len(arguments) - len(self.takes)) if self.repeated else self.takes
        return len(takes) == len(arguments) and not any(map(Kinds.isdisjoint, takes, arguments))


def given(signatures: Sequence[Signature], arguments: Sequence[Kinds]) -> Kinds:
    """The kinds of the result; none where no signature fits, so that the result is never known."""
    return Kinds().union(*(signature.gives for signature in signatures if signature.fits(arguments)))


def wanted(signatures: Sequence[Signature], position: int) -> Kinds:
    """The kinds that the argument at `position` may be of in any signature."""
    takes = [one.takes for one in signatures if one.repeated or position < len(one.takes)]
    return Kinds().union(*(kinds[min(position, len(kinds) - 1)] for kinds in takes))


def _kinds(text: str) -> Kinds:
    return Kinds().union(*(_GENERAL.get(word, Kinds({word})) for word in text.split("|")))


def _signatures(*texts: str) -> tuple[Signature, ...]:
    """Of `int|double string -> bool`; three dots after the last argument say that there can be more of it."""
    found = []
    for text in texts:
        takes, _, gives = text.partition(" -> ")
        words = takes.removesuffix("...").split()
        found.append(Signature(tuple(map(_kinds, words)), _kinds(gives), takes.endswith("...")))
    return tuple(found)


_OF_NUMBERS: Final = ("int int -> int", "double number -> double", "number double -> double")
_COMPARED: Final = _signatures("any any -> bool")
_ORDERED: Final = _signatures(
    "bool bool -> bool",
    "number number -> bool",
    "string string -> bool",
    "timestamp timestamp -> bool",
    "duration duration -> bool",
)
_EXTREME: Final = _signatures("number... -> number", "list -> number")
_SPANS: Final = ("getHours", "getMinutes", "getSeconds", "getMilliseconds")

OPERATORS: Final[dict[str, tuple[Signature, ...]]] = {
    "+": _signatures(
        *_OF_NUMBERS,
        "string string -> string",
        "list list -> list",
        "timestamp duration -> timestamp",
        "duration timestamp -> timestamp",
        "duration duration -> duration",
    ),
    "-": _signatures(
        *_OF_NUMBERS,
        "timestamp timestamp -> duration",
        "timestamp duration -> timestamp",
        "duration duration -> duration",
    ),
    "*": _signatures(*_OF_NUMBERS),
    "/": _signatures("int int -> number", *_OF_NUMBERS[1:]),
    "%": _signatures("int int -> int"),
    "==": _COMPARED,
    "!=": _COMPARED,
    "<": _ORDERED,
    "<=": _ORDERED,
    ">": _ORDERED,
    ">=": _ORDERED,
    "in": _signatures("any list -> bool", "any map -> bool"),
}
NEGATIVE: Final = _signatures("int -> int", "double -> double")
INDEX: Final = _signatures("map string|number -> any", "list number -> any")

# `default` is not here: what it takes is anything, and what it gives is one of its arguments.
FUNCTIONS: Final[dict[str, tuple[Signature, ...]]] = {
    "int": _signatures("number|string|timestamp -> int"),
    "double": _signatures("number|string -> double"),
    "string": _signatures("bool|number|string|timestamp|duration -> string"),
    "bool": _signatures("bool|string -> bool"),
    "timestamp": _signatures("timestamp|string|number -> timestamp"),
    "duration": _signatures("duration|string -> duration"),
    "quantity": _signatures("string -> int"),
    "size": _signatures("string|list|map -> int"),
    "contains": _signatures("string string -> bool"),
    "startsWith": _signatures("string string -> bool"),
    "endsWith": _signatures("string string -> bool"),
    "matches": _signatures("string string -> bool"),
    "in_cidrs": _signatures("string list -> bool"),
    "math.least": _EXTREME,
    "math.greatest": _EXTREME,
    **{name: _signatures("timestamp -> int", "timestamp string -> int") for name in PARTS},
    **{name: _signatures("timestamp|duration -> int", "timestamp|duration string -> int") for name in _SPANS},
}
