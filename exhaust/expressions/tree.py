"""The syntax tree of an expression; every node knows the column where it begins."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    column: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Name(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    operand: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Presence(Node):
    """`has(operand.field)`."""

    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function; the receiver of `x.contains(y)` is its first argument."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`!x` or `-x`."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """A run of `+ -` or of `* / %`, from left to right; one operator fewer than terms."""

    operators: tuple[str, ...]
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """`== != < <= > >= in`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """All terms of a run of `&&`, or of `||`."""

    operator: str
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Conditional(Node):
    condition: Node
    positive: Node
    negative: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    keys: tuple[Node, ...]
    values: tuple[Node, ...]


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case Select() | Presence() | Unary():
            return (node.operand,)
        case Index():
            return (node.operand, node.key)
        case Call():
            return node.arguments
        case Arithmetic() | Logic():
            return node.terms
        case Comparison():
            return (node.left, node.right)
        case Conditional():
            return (node.condition, node.positive, node.negative)
        case ListOf():
            return node.items
        case MapOf():
            return node.keys + node.values
    return ()


def walk(node: Node) -> Iterator[tuple[Node, int]]:
    """Every node with its depth, from 1; by a stack of its own, as a tree not yet measured may be deep."""
    waiting = [(node, 1)]
    while waiting:
        current, depth = waiting.pop()
        yield current, depth
        waiting.extend((child, depth + 1) for child in children(current))


def path(node: Node) -> tuple[str, ...] | None:
    """`("host", "labels", "role")` of `host.labels.role` or `host.labels["role"]`."""
    keys: list[str] = []
    while True:
        match node:
            case Name():
                return (node.name, *reversed(keys))
            case Select() | Presence():
                keys.append(node.field)
                node = node.operand
            case Index(key=Literal(value=str() as key)) if key.isidentifier():
                keys.append(key)
                node = node.operand
            case _:
                return None


def fields(node: Node) -> Iterator[tuple[str, ...]]:
    """The longest paths that an expression reads, a bare variable as a path of one."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        found = path(current)
        if found:
            yield found
        else:
            waiting.extend(children(current))
