"""What to write instead of a part of an expression that its types make senseless."""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from exhaust.expressions.errors import suggestion
from exhaust.expressions.functions import to_double, to_int, to_string
from exhaust.expressions.operators import ARITHMETIC
from exhaust.expressions.quantities import parse_duration, parse_quantity
from exhaust.expressions.shape import NUMBER, Shape
from exhaust.expressions.signatures import FUNCTIONS, wanted
from exhaust.expressions.spelling import shown, spell
from exhaust.expressions.times import PARTS, parse_timestamp
from exhaust.expressions.tree import (
    Arithmetic,
    Call,
    Comparison,
    Index,
    ListOf,
    Literal,
    Logic,
    Node,
    Presence,
    Select,
    Unary,
)

_MANY: Final = 12  # fields; more are not listed
_LONGEST: Final = 120  # characters; more is no hint
_ORDERINGS: Final = frozenset({"<", "<=", ">", ">="})
_TIMES: Final = ("timestamp", "duration")
_PARSERS: Final = {"timestamp": parse_timestamp, "duration": parse_duration, "quantity": parse_quantity}


class Typed(NamedTuple):
    """A part of an expression, and what it can be."""

    node: Node
    shape: Shape

    def __str__(self) -> str:
        return f"{shown(self.node)} is {self.shape}"

    @property
    def kind(self) -> str:
        """Its one kind, int and double both being `number`; empty if there are several."""
        if self.shape.only(NUMBER.kinds):
            return "number"
        return next(iter(self.shape.kinds)) if len(self.shape.kinds) == 1 else ""


def write(node: Node | None) -> str:
    """The end of a message."""
    text = spell(node) if node else ""
    return f"; write {text}" if text and len(text) <= _LONGEST else ""


def field_hint(owner: Node, shape: Shape, field: str) -> str:
    """The end of a message about a field that is not there."""
    fields = shape.fields or {}
    label = f"a label is {shown(owner)}.labels.{field}" if "labels" in fields and field.isidentifier() else ""
    near = suggestion(field, fields)
    if near:
        return near + (f" ({label})" if label else "")
    told = [f"it has {', '.join(fields)}"] if 0 < len(fields) <= _MANY else []
    return "".join(f"; {part}" for part in (*told, *filter(None, [label])))


# Conversions


def converted(part: Typed, kind: str) -> Node | None:
    """The tree that makes a `kind` of it (`number` is an int or a double); None where none can be made."""
    if part.kind == kind or part.shape.only((kind,)):
        return part.node
    if kind == "list":
        return ListOf((part.node,), column=part.node.column)
    if isinstance(part.node, Literal):
        return _literal(part.node, kind)
    if kind == "duration" and part.kind == "number":
        text = Arithmetic(("+",), (_call("string", part.node), _text(part.node, "s")), column=part.node.column)
        return _call("duration", text)
    function = "double" if kind == "number" else kind
    takes = FUNCTIONS.get(function)
    return _call(function, part.node) if takes and part.shape.only(wanted(takes, 0)) else None


def _literal(node: Literal, kind: str) -> Node | None:
    value = node.value
    if isinstance(value, str):
        return _of_text(node, value, kind)
    if value is None or (isinstance(value, bool) and kind != "string"):
        return None
    text = str(to_string(value))
    if kind == "int" and float(value).is_integer():
        return Literal(int(value), column=node.column)
    if kind == "duration":
        return _parsed(_text(node, f"{text}s"), f"{text}s", kind)
    return {"string": _text(node, text), "timestamp": _call("timestamp", node)}.get(kind)


def _of_text(node: Literal, text: str, kind: str) -> Node | None:
    if kind == "number":
        number = _number(text)
        return Literal(number, column=node.column) if number is not None else _parsed(node, text, "quantity")
    if kind == "bool":
        return Literal(text == "true", column=node.column) if text in ("true", "false") else None
    return _parsed(node, text, kind) if kind in _TIMES else None


def _number(text: str) -> int | float | None:
    for number in (to_int(text), to_double(text)):
        if isinstance(number, int | float) and math.isfinite(number):
            return number
    return None


def _parsed(node: Literal, text: str, function: str) -> Node | None:
    try:
        _PARSERS[function](text)
    except ValueError:
        return None
    return _call(function, node)


def _call(function: str, *arguments: Node) -> Node:
    return Call(function, arguments, column=arguments[0].column)


def _text(node: Node, text: str) -> Literal:
    return Literal(text, column=node.column)


# Operators

_SAME: Final = tuple((kind, kind) for kind in ("timestamp", "duration", "number", "bool", "string"))
_WAYS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "+": (("timestamp", "duration"), ("duration", "timestamp"), *_SAME[1:2], ("list", "list"), ("string", "string")),
    "-": (("timestamp", "timestamp"), *_SAME[1:3]),
    "*": (("number", "number"),),
    "/": (("number", "number"),),
    "%": (("int", "int"),),
    "==": _SAME,
    "!=": _SAME,
    **dict.fromkeys(_ORDERINGS, _SAME[:3]),  # texts would be compared letter by letter, which nobody means
}


def operator_remedy(sign: str, left: Typed, right: Typed) -> str:
    """For two operands that an operator is not for, or that are never equal."""
    again = _rearranged(sign, left.node, right.node)
    if again:
        return write(again)
    for kinds in _ways(sign, left, right):
        if left.kind not in ("", kinds[0]) and right.kind not in ("", kinds[1]) and sign != "%":
            continue
        first, second = converted(left, kinds[0]), converted(right, kinds[1])
        if first and second and not (first is left.node and second is right.node):
            return write(_operation(sign, first, second))
    return ""


def _ways(sign: str, left: Typed, right: Typed) -> Iterator[tuple[str, str]]:
    """The kinds to make of the operands, the likeliest first."""
    literals = [part for part in (left, right) if isinstance(part.node, Literal)]
    if sign in ("==", "!=") and literals:
        other = left if literals == [right] else right
        yield from (kinds for kinds in _SAME if other.shape.may_be(NUMBER.kinds if kinds[0] == "number" else kinds))
        return
    if sign == "-" and right in literals:
        yield "timestamp", "duration"
    if sign == "+" and any(part.kind == "number" for part in literals):
        yield "number", "number"
    yield from _WAYS[sign]


def _operation(sign: str, left: Node, right: Node) -> Node:
    if sign in ARITHMETIC:
        run = left if isinstance(left, Arithmetic) and (left.operators[0] in "+-") == (sign in "+-") else None
        operators, terms = (run.operators, run.terms) if run else ((), (left,))
        return Arithmetic((*operators, sign), (*terms, right), column=left.column)
    return Comparison(sign, left, right, column=left.column)


def _rearranged(sign: str, left: Node, right: Node) -> Node | None:
    """`!(a in b)` for `!a in b`, and `1 < a && a < 5` for `1 < a < 5`."""
    if isinstance(left, Unary) and left.operator == "!":
        inside = _operation(sign, left.operand, right)
        return Unary("!", inside, column=left.column) if isinstance(inside, Comparison) else None
    if isinstance(left, Comparison) and left.operator in _ORDERINGS and sign in _ORDERINGS:
        return Logic("&&", (left, _operation(sign, left.right, right)), column=left.column)
    return None


def absence_remedy(node: Node) -> str:
    """For a field that is compared with null."""
    match node:
        case Select():
            return write(Unary("!", Presence(node.operand, node.field, column=node.column), column=node.column))
        case Index(key=Literal(value=str())):
            return write(Unary("!", Comparison("in", node.key, node.operand, column=node.column), column=node.column))
    return ""


def negation_remedy(outer: Comparison) -> str:
    """For `!a == b`, where `!` takes a alone."""
    return write(_rearranged(outer.operator, outer.left, outer.right))


def member_remedy(item: Typed, container: Typed) -> str:
    """For `item in container` where that is never so."""
    if container.kind == "string":
        text = converted(item, "string")
        return write(Call("contains", (container.node, text), column=item.node.column) if text else None)
    inside = container.shape.items
    if inside is None:
        return ""
    if isinstance(container.node, ListOf) and all(isinstance(one, Literal) for one in container.node.items):
        made = [converted(Typed(one, inside), item.kind) for one in container.node.items]
        items = ListOf(tuple(one for one in made if one), column=container.node.column)
        return write(_operation("in", item.node, items) if None not in made else None)
    kind = Typed(container.node, inside).kind
    made_item = converted(item, kind) if kind else None
    return write(_operation("in", made_item, container.node) if made_item else None)


def argument_remedy(call: Call, position: int, part: Typed) -> str:
    """For an argument of a kind that a function never takes."""
    takes = wanted(FUNCTIONS[call.function], position)
    if call.function in (*_TIMES, "int", "double", "string", "bool"):
        return write(converted(part, call.function))
    if call.function in ("size", "quantity") or (call.function in PARTS and position):
        return ""
    for kind in ("number",) if takes & NUMBER.kinds else sorted(takes & {"string", "timestamp", "list"}):
        made = converted(part, kind)
        if made:
            arguments = (*call.arguments[:position], made, *call.arguments[position + 1 :])
            return write(Call(call.function, arguments, column=call.column))
    return ""
