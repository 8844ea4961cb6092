"""An expression: its text, what it reads, and the function that computes it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from exhaust.expressions.generator import Fault, Function, generate, generate_column
from exhaust.expressions.parser import parse
from exhaust.expressions.tree import Node, fields
from exhaust.expressions.values import Value

__all__ = ["Expression", "Fault", "compile_expression"]


@dataclass(frozen=True, slots=True)
class Expression:
    """Call it with the values of `names`, in order; in a loop call `function`, which it only passes them to.

    The result is a value, or an Unknown that says why there is none. No data make it raise.
    """

    source: str
    names: tuple[str, ...]
    tree: Node = field(repr=False)
    function: Function = field(repr=False, compare=False)
    variables: frozenset[str]  # of `names`, those that are read
    fields: frozenset[str]  # the longest paths that are read, such as host.labels.role
    faults: tuple[Fault, ...]  # constants that make it always unknown, such as duration("often")

    def __call__(self, *values: Value) -> Value:
        return self.function(*values)

    def column(self, each: Collection[str]) -> Function:
        """Compile it for many at once: called with sequences for the names in `each`, it gives the list of the values.

        The sequences are of one length. Only those are looked at whose names it reads, or if it reads none, the first.
        """
        return generate_column(self.tree, self.names, each, self.variables, verdicts=False)

    def verdicts(self, each: Collection[str]) -> Function:
        """The same for a condition: the list holds True, False, and None where it is unknown, as `truth` says it."""
        return generate_column(self.tree, self.names, each, self.variables, verdicts=True)


def compile_expression(source: str, names: Sequence[str]) -> Expression:
    """Compile CEL over the variables `names`; ExpressionError tells what is wrong, and at which column."""
    tree = parse(source, names)
    function, faults = generate(tree, names)
    paths = set(fields(tree))
    return Expression(
        source,
        tuple(names),
        tree,
        function,
        variables=frozenset(path[0] for path in paths),
        fields=frozenset(".".join(path) for path in paths if len(path) > 1),
        faults=faults,
    )
