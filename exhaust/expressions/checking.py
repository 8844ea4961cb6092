"""What an expression can never be by the shapes of what it reads: found once, when it is loaded.

A fault says that a part is never true (of `!=`: never false), whatever the data are that fit the shapes. Nothing is
said of what may be right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from exhaust.expressions.expression import Expression, Fault
from exhaust.expressions.remedies import (
    Typed,
    absence_remedy,
    argument_remedy,
    field_hint,
    member_remedy,
    negation_remedy,
    operator_remedy,
)
from exhaust.expressions.shape import (
    BOOL,
    DYNAMIC,
    LIST,
    MAP,
    NULL,
    NUMBER,
    STRING,
    Kinds,
    Shape,
    either,
    list_of,
    map_of,
    object_of,
    of_kinds,
    present,
)
from exhaust.expressions.signatures import FUNCTIONS, INDEX, NEGATIVE, OPERATORS, given, wanted
from exhaust.expressions.spelling import shown
from exhaust.expressions.templates import Template
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
    walk,
)
from exhaust.expressions.values import kind

_KEYS = STRING.kinds | NUMBER.kinds


def check_types(expression: Expression | Template, variables: Mapping[str, Shape]) -> list[Fault]:
    """What is never right of an expression; a variable that has no shape may be anything. In the order of columns."""
    return [finding.fault for finding in findings(expression, variables)]


def check_condition(expression: Expression, variables: Mapping[str, Shape]) -> list[Fault]:
    """The same of what stands where true or false is expected."""
    faults = check_types(expression, variables)
    result = result_type(expression, variables)
    if not result.may_be(BOOL.kinds):
        faults.append(Fault(_start(expression.tree), f"expected true or false, got {result}"))
    return faults


def result_type(expression: Expression | Template, variables: Mapping[str, Shape]) -> Shape:
    """What it yields, unless that is unknown; anything, where it has faults."""
    if isinstance(expression, Template):
        (part, *others) = expression.parts
        if others or isinstance(part, str):
            return STRING
        expression = part
    return _Checker(variables).shape(expression.tree)


class Finding(NamedTuple):
    """A fault, and the part that is never true."""

    node: Node
    fault: Fault


def findings(expression: Expression | Template, variables: Mapping[str, Shape]) -> list[Finding]:
    placed = expression.placed if isinstance(expression, Template) else [(0, expression)]
    found = []
    for offset, part in placed:
        checker = _Checker(variables)
        checker.shape(part.tree)
        for node, (column, reason) in checker.findings:
            found.append(Finding(node, Fault(column + offset, reason)))
    return sorted(found, key=lambda finding: finding.fault)


def _start(node: Node) -> int:
    """The column of the first character; a node's own is that of its sign or its field's name for some."""
    return min(part.column for part, _ in walk(node))


class _Checker:
    """Each method yields the shape of a part, and notes the faults within; a part that has one may be anything."""

    def __init__(self, variables: Mapping[str, Shape]) -> None:
        self.findings: list[Finding] = []
        self._variables = variables

    def _fault(self, node: Node, column: int, reason: str) -> Shape:
        self.findings.append(Finding(node, Fault(column, reason)))
        return DYNAMIC

    def _typed(self, node: Node) -> Typed:
        return Typed(node, self.shape(node))

    def shape(self, node: Node) -> Shape:
        match node:
            case Literal():
                return of_kinds(kind(node.value))
            case Name():
                return self._variables.get(node.name, DYNAMIC)
            case Select() | Index():
                return self._read(node)
            case Presence():
                self._field(node, node.operand, node.field)
                return BOOL
            case Arithmetic():
                return self._arithmetic(node)
            case Comparison():
                return self._comparison(node)
            case Unary():
                return self._unary(node)
            case Logic():
                for term in node.terms:
                    self._condition(term, node.operator)
                return BOOL
        return self._composed(node)

    def _composed(self, node: Node) -> Shape:
        match node:
            case Call():
                return self._call(node)
            case Conditional():
                self._condition(node.condition, "?:")
                return either(self.shape(node.positive), self.shape(node.negative))
            case ListOf():
                return list_of(either(*map(self.shape, node.items))) if node.items else LIST
            case MapOf():
                return self._map(node)
        raise AssertionError(node)

    # Reading and building

    def _read(self, node: Select | Index) -> Shape:
        match node:
            case Select():
                return self._field(node, node.operand, node.field)
            case Index(key=Literal(value=str() as field)):
                return self._field(node, node.operand, field)
        container, key = self._typed(node.operand), self._typed(node.key)
        shape = container.shape
        if not shape.may_be(MAP.kinds | LIST.kinds):
            return self._fault(node, _start(node), f"{container}: it has no items")
        if not shape.open and not key.shape.may_be(STRING.kinds):
            return self._no_key(node, key, container)
        if not given(INDEX, (shape.kinds, key.shape.kinds)):
            return self._fault(node, _start(node), f"{container} and {key}: '[]' is not for them")
        return present(shape.item)

    def _field(self, node: Node, operand: Node, field: str) -> Shape:
        owner = self._typed(operand)
        if "map" not in owner.shape.kinds:
            return self._fault(node, node.column, f"{owner}: it has no field {field[:64]!r}")
        if owner.shape.fields is None:
            return present(owner.shape.items or DYNAMIC)
        found = owner.shape.fields.get(field)
        return self._no_field(node, node.column, owner, field) if found is None else present(found)

    def _no_field(self, node: Node, column: int, owner: Typed, field: str) -> Shape:
        hint = field_hint(owner.node, owner.shape, field)
        return self._fault(node, column, f"{shown(owner.node)} has no field {field[:64]!r}{hint}")

    def _no_key(self, node: Node, key: Typed, container: Typed) -> Shape:
        return self._fault(node, _start(node), f"{key}: the keys of {shown(container.node)} are strings")

    def _map(self, node: MapOf) -> Shape:
        for key in map(self._typed, node.keys):
            if not key.shape.may_be(STRING.kinds | {"int"}):
                self._fault(node, _start(key.node), f"{key}: a map's key is a string or an int")
        values = [self.shape(value) for value in node.values]
        names = [key.value for key in node.keys if isinstance(key, Literal) and isinstance(key.value, str)]
        return (
            object_of(dict(zip(names, values, strict=True))) if len(names) == len(values) else map_of(either(*values))
        )

    # Operators

    def _condition(self, node: Node, sign: str, remedy: str = "") -> Shape:
        part = self._typed(node)
        if part.shape.may_be(BOOL.kinds):
            return BOOL
        return self._fault(node, _start(node), f"{part}: '{sign}' takes true or false{remedy}")

    def _unary(self, node: Unary, remedy: str = "") -> Shape:
        if node.operator == "!":
            return self._condition(node.operand, "!", remedy)
        part = self._typed(node.operand)
        gives = given(NEGATIVE, [part.shape.kinds])
        return Shape(gives) if gives else self._fault(node, _start(node), f"{part}: '-' takes a number")

    def _arithmetic(self, node: Arithmetic) -> Shape:
        left = self._typed(node.terms[0])
        for position, sign in enumerate(node.operators, 1):
            right = self._typed(node.terms[position])
            done = Arithmetic(node.operators[:position], node.terms[: position + 1], column=node.column)
            gives = given(OPERATORS[sign], (left.shape.kinds, right.shape.kinds))
            left = Typed(done, Shape(gives) if gives else self._misfit(done, sign, left, right))
        return left.shape

    def _misfit(self, node: Node, sign: str, left: Typed, right: Typed) -> Shape:
        remedy = operator_remedy(sign, left, right)
        return self._fault(node, _start(node), f"{left} and {right}: '{sign}' is not for them{remedy}")

    def _comparison(self, node: Comparison) -> Shape:
        if isinstance(node.left, Unary) and node.left.operator == "!":
            left = Typed(node.left, self._unary(node.left, negation_remedy(node)))
        else:
            left = self._typed(node.left)
        right = self._typed(node.right)
        if node.operator == "in":
            self._member(node, left, right)
        elif node.operator in ("==", "!="):
            self._equality(node, left, right)
        elif not given(OPERATORS[node.operator], (left.shape.kinds, right.shape.kinds)):
            self._misfit(node, node.operator, left, right)
        return BOOL

    def _equality(self, node: Comparison, left: Typed, right: Typed) -> None:
        if _comparable(left.shape, right.shape):
            return
        for part, other in ((left, right), (right, left)):
            if other.shape == NULL:
                self._never_null(node, part)
                return
        remedy = operator_remedy(node.operator, left, right)
        self._fault(node, _start(node), f"{left} and {right}: they are never equal{remedy}")

    def _never_null(self, node: Comparison, part: Typed) -> None:
        """Only of `==`: `x != null` is true where x is there, which is what its writer means."""
        if node.operator == "!=":
            return
        remedy = absence_remedy(part.node)
        why = ": what is missing is unknown" if remedy else ""
        self._fault(node, _start(node), f"{shown(part.node)} is never null{why}{remedy}")

    def _member(self, node: Comparison, item: Typed, container: Typed) -> None:
        shape = container.shape
        if not given(OPERATORS["in"], (item.shape.kinds, shape.kinds)):
            remedy = member_remedy(item, container)
            self._fault(node, _start(node), f"{container}: 'in' takes a list or a map{remedy}")
            return
        if "list" in shape.kinds and (shape.items is None or _comparable(item.shape, shape.items)):
            return
        if "map" not in shape.kinds:
            what = f"{item} and {shown(container.node)} holds {shape.items}"
            self._fault(node, _start(node), f"{what}: it is never in it{member_remedy(item, container)}")
        elif not item.shape.may_be(_KEYS if shape.fields is None else STRING.kinds):
            self._no_key(node, item, container)
        elif isinstance(item.node, Literal) and shape.fields is not None and item.node.value not in shape.fields:
            self._no_field(node, item.node.column, container, str(item.node.value))

    # Functions

    def _call(self, node: Call) -> Shape:
        parts = [self._typed(argument) for argument in node.arguments]
        if node.function == "default":
            value, other = (part.shape for part in parts)
            return either(replace(value, kinds=value.kinds - NULL.kinds), other)
        signatures = FUNCTIONS[node.function]
        gives = given(signatures, [part.shape.kinds for part in parts])
        return Shape(gives) if gives else self._refused(node, parts)

    def _refused(self, node: Call, parts: Sequence[Typed]) -> Shape:
        for position, part in enumerate(parts):
            takes = wanted(FUNCTIONS[node.function], position)
            if not part.shape.may_be(takes):
                remedy = argument_remedy(node, position, part)
                return self._fault(node, _start(part.node), f"{part}: {node.function}() takes {Shape(takes)}{remedy}")
        what = " and ".join(map(str, parts))
        return self._fault(node, _start(node), f"{what}: {node.function}() is not for them")


def _comparable(left: Shape, right: Shape) -> bool:
    """Whether they can be equal: numbers are, whichever they are of."""
    return not _widened(left.kinds).isdisjoint(_widened(right.kinds))


def _widened(kinds: Kinds) -> Kinds:
    return kinds if kinds.isdisjoint(NUMBER.kinds) else kinds | NUMBER.kinds
