"""A syntax tree to the text that would be parsed to it."""

import json
from typing import Final

from exhaust.expressions.functions import FUNCTIONS
from exhaust.expressions.tree import (
    Arithmetic,
    Call,
    Comparison,
    Conditional,
    Index,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Node,
    Presence,
    Select,
    Unary,
)

_LOOSEST: Final = 0
_OR: Final = 1
_AND: Final = 2
_RELATION: Final = 3
_SUM: Final = 4
_PRODUCT: Final = 5
_UNARY: Final = 6
_MEMBER: Final = 7
_SHOWN: Final = 60  # characters


def spell(node: Node) -> str:
    return _spelled(node, _LOOSEST)


def shown(node: Node) -> str:
    """The same, cut to what a message has room for."""
    text = spell(node)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _spelled(node: Node, level: int) -> str:
    """In parentheses where it binds looser than `level`."""
    text, own = _written(node)
    return f"({text})" if own < level else text


def _written(node: Node) -> tuple[str, int]:
    match node:
        case Conditional():
            branches = f"{_spelled(node.positive, _OR)} : {_spelled(node.negative, _LOOSEST)}"
            return f"{_spelled(node.condition, _OR)} ? {branches}", _LOOSEST
        case Logic():
            own = _OR if node.operator == "||" else _AND
            return f" {node.operator} ".join(_spelled(term, own + 1) for term in node.terms), own
        case Comparison():
            return f"{_spelled(node.left, _RELATION)} {node.operator} {_spelled(node.right, _SUM)}", _RELATION
        case Arithmetic():
            return _run(node)
        case Unary():
            return _unary(node), _UNARY
    return _operand(node), _MEMBER


def _run(node: Arithmetic) -> tuple[str, int]:
    own = _SUM if node.operators[0] in "+-" else _PRODUCT
    first, *rest = (_spelled(term, own + 1) for term in node.terms)
    return first + "".join(f" {sign} {term}" for sign, term in zip(node.operators, rest, strict=True)), own


def _unary(node: Unary) -> str:
    inner = node.operand
    number = isinstance(inner, Literal) and not isinstance(inner.value, str | bool | None)
    bare = isinstance(inner, Unary) and inner.operator == node.operator
    text = _literal(inner) if isinstance(inner, Literal) else ""
    if number and (node.operator == "!") == text.startswith("-"):  # -5 is one word, -(5) are two, !-5 is none
        return f"{node.operator}({text})"
    return f"{node.operator}{_spelled(inner, _UNARY if bare or number else _MEMBER)}"


def _operand(node: Node) -> str:
    match node:
        case Literal():
            return _literal(node)
        case Name(name=name):
            return name
        case Select():
            return f"{_base(node.operand)}.{node.field}"
        case Index():
            return f"{_base(node.operand)}[{spell(node.key)}]"
        case Presence():
            return f"has({_base(node.operand)}.{node.field})"
        case Call():
            return _call(node)
        case ListOf():
            return f"[{', '.join(map(spell, node.items))}]"
        case MapOf():
            pairs = zip(node.keys, node.values, strict=True)
            return f"{{{', '.join(f'{spell(key)}: {spell(value)}' for key, value in pairs)}}}"
    raise AssertionError(node)


def _base(node: Node) -> str:
    """What a field is read of; a number in parentheses, as a minus before it would be its own."""
    number = isinstance(node, Literal) and type(node.value) in (int, float)
    return f"({spell(node)})" if number else _spelled(node, _MEMBER)


def _call(node: Call) -> str:
    first, *rest = node.arguments
    receiver = FUNCTIONS[node.function].receiver
    if receiver or (receiver is None and first.column < node.column):  # where both are allowed, as it was written
        return f"{_base(first)}.{node.function}({', '.join(map(spell, rest))})"
    return f"{node.function}({', '.join(map(spell, node.arguments))})"


def _literal(node: Literal) -> str:
    match node.value:
        case None:
            return "null"
        case bool(value):
            return "true" if value else "false"
        case str(value):
            return json.dumps(value, ensure_ascii=False)
    return repr(node.value)
