"""A document while it is bound: where its expressions stand, and its faulty parts as far as they could be bound."""

from dataclasses import dataclass
from typing import Any

from exhaust.documents.nodes import Fault, Node, Scalar, position_inside
from exhaust.expressions import Expression
from exhaust.settings import Context


@dataclass(frozen=True, slots=True)
class Placed:
    """An expression and the node whose text holds it, `offset` characters from the text's begin."""

    path: str
    node: Scalar
    offset: int
    expression: Expression

    def fault(self, column: int, what: str) -> Fault:
        """Give a fault at a column of the expression, counted from 1."""
        line, place = position_inside(self.node, max(0, self.offset + column - 1))
        return Fault(self.node.at.file, line, place, what, self.path)


class Draft(Context):
    """A context that also keeps what checks across sections need of settings that have faults of their own.

    `nodes` are all that were bound, by path; `rough` are settings with faults, less what is faulty in them. Those of
    which nothing can be made are not there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.expressions: list[Placed] = []
        self.nodes: dict[str, Node] = {}
        self.rough: dict[str, Any] = {}
