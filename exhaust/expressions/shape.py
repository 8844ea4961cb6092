"""What is known beforehand of a value: the kinds that it may be of, and what a map or a list of it holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final

from exhaust.expressions.values import KINDS

Kinds = frozenset[str]

ALL: Final[Kinds] = frozenset(KINDS.values()) - {"unknown"}
_ORDER: Final = ("null", "bool", "timestamp", "duration", "int", "double", "number", "string", "list", "map")
_NUMBER: Final[Kinds] = frozenset({"int", "double"})


@dataclass(frozen=True, slots=True)
class Shape:
    """A value is of one of `kinds`, or unknown, and any field or item may be missing.

    `fields` are those of a map, which has no others; without them any key is allowed. `items` is what a list holds,
    and a map whose fields are not known; None where that can be anything.
    """

    kinds: Kinds
    fields: Mapping[str, "Shape"] | None = None
    items: "Shape | None" = None

    def __str__(self) -> str:
        """How messages call it: `an int`, `a string or a list`."""
        if self.kinds >= PRESENT.kinds:
            return "anything"
        kinds = self.kinds - _NUMBER | {"number"} if self.kinds >= _NUMBER else self.kinds
        *others, last = [_with_article(kind) for kind in sorted(kinds, key=_ORDER.index)] or ["nothing"]
        return f"{', '.join(others)} or {last}" if others else last

    def may_be(self, kinds: Iterable[str]) -> bool:
        return not self.kinds.isdisjoint(kinds)

    def only(self, kinds: Iterable[str]) -> bool:
        return self.kinds.issubset(kinds)

    @property
    def open(self) -> bool:
        """Whether it may be something whose keys or numbers nobody knows beforehand."""
        return "list" in self.kinds or ("map" in self.kinds and self.fields is None)

    @property
    def item(self) -> "Shape":
        """What is found under a key or a number that is known only when it runs."""
        if self.open and self.items is None:
            return DYNAMIC
        return either(*(self.fields or {}).values(), *([self.items] if self.items else []))


def _with_article(kind: str) -> str:
    return kind if kind == "null" else f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def of_kinds(*kinds: str) -> Shape:
    return Shape(frozenset(kinds))


BOOL: Final = of_kinds("bool")
INT: Final = of_kinds("int")
NUMBER: Final = of_kinds("int", "double")
STRING: Final = of_kinds("string")
NULL: Final = of_kinds("null")
LIST: Final = of_kinds("list")
MAP: Final = of_kinds("map")
TIMESTAMP: Final = of_kinds("timestamp")
DURATION: Final = of_kinds("duration")
DYNAMIC: Final = Shape(ALL)
PRESENT: Final = Shape(ALL - {"null"})  # what a field or an item is, of which nothing else is known


def list_of(items: Shape) -> Shape:
    return Shape(LIST.kinds, items=items)


def map_of(values: Shape) -> Shape:
    """A map that may have any key."""
    return Shape(MAP.kinds, items=values)


def object_of(fields: Mapping[str, Shape]) -> Shape:
    """A map that has these fields at most."""
    return Shape(MAP.kinds, fields=fields)


def optional(shape: Shape) -> Shape:
    """The same, or null as a whole, as `cause` is where a person started the workflow."""
    return replace(shape, kinds=shape.kinds | NULL.kinds)


def present(shape: Shape) -> Shape:
    """What reading yields: a field or an item that holds null is missing."""
    kinds = shape.kinds - NULL.kinds
    return replace(shape, kinds=kinds) if kinds else PRESENT


def either(*shapes: Shape) -> Shape:
    """What is one of these, which of them is not known; nothing at all for none."""
    return reduce(_either, shapes) if shapes else Shape(frozenset())


def _either(left: Shape, right: Shape) -> Shape:
    maps = [shape for shape in (left, right) if "map" in shape.kinds]
    fields = _merged([shape.fields for shape in maps])
    inner = [shape.items for shape in (left, right) if shape.open]
    if fields is None:  # one has any key: what the other's fields hold is then found among the items
        inner += [value for shape in maps for value in (shape.fields or {}).values()]
    known = [items for items in inner if items is not None]
    return Shape(left.kinds | right.kinds, fields, either(*known) if known and len(known) == len(inner) else None)


def _merged(fields: list[Mapping[str, Shape] | None]) -> Mapping[str, Shape] | None:
    known = [one for one in fields if one is not None]
    if not known or len(known) < len(fields):
        return None
    names = dict.fromkeys(name for one in known for name in one)
    return {name: either(*(one[name] for one in known if name in one)) for name in names}
