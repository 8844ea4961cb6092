"""A syntax tree to the Python function that computes it.

Generated code holds only names made here, numbers, and the `repr` of strings; everything else it meets is a global
of its own namespace, whose builtins are empty. Every local is a value or an Unknown. Where types allow, one guarded
Python operation does the work; a helper does the rest, and knows every rule of the language.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from exhaust.expressions.errors import ExpressionError
from exhaust.expressions.functions import FUNCTIONS
from exhaust.expressions.guards import Operand, comparable, computable
from exhaust.expressions.patterns import compile_pattern
from exhaust.expressions.runtime import GLOBALS, HELPERS, helper
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
from exhaust.expressions.values import Unknown, Value

Function = Callable[..., Value]


class Fault(NamedTuple):
    """A constant that never converts, such as duration("often"): whatever needs it is always unknown."""

    column: int
    reason: str


_OF_STRINGS: Final = {
    "contains": "{1} in {0}",
    "startsWith": "{0}.startswith({1})",
    "endsWith": "{0}.endswith({1})",
}
_CONVERTED: Final = frozenset({"duration", "quantity", "timestamp"})


def generate(tree: Node, names: Sequence[str]) -> tuple[Function, tuple[Fault, ...]]:
    generator = _Generator(names, 2)
    function = generator.function(tree)
    return function, tuple(generator.faults)


def generate_column(
    tree: Node, names: Sequence[str], each: Collection[str], read: Collection[str], *, verdicts: bool
) -> Function:
    """Return the function with the loop inside: of the names in `each` it takes sequences, all of one length.

    It gives the list of the values, or for `verdicts` that of True, False and None for unknown. Only those of `each`
    are looked at that are `read`, or if none is, the first.
    """
    given = [name for name in names if name in each]
    if not given or len(given) < len(each):
        raise ValueError(f"of {', '.join(map(repr, each)) or 'nothing'} not all are names of the expression")
    looped = [name for name in given if name in read] or given[:1]
    return _Generator(names, 3).column(tree, looped, verdicts=verdicts)


class _Generator:
    def __init__(self, names: Sequence[str], indent: int) -> None:
        self.faults: list[Fault] = []
        self._parameters = {name: f"a{position}" for position, name in enumerate(names)}
        self._globals = dict(GLOBALS)
        self._lines: list[str] = []
        self._indent = indent
        self._count = 0

    def function(self, tree: Node) -> Function:
        if isinstance(tree, Logic):
            self._logic(tree, final=True)
        else:
            self._line(f"return {self._value(tree).code}")
        head = f"def expression({', '.join(self._parameters.values())}):\n  try:\n"
        return self._compiled(head, "\n  except Exception as error:\n    return failure(error)")

    def column(self, tree: Node, looped: Sequence[str], *, verdicts: bool) -> Function:
        """The same with the loop inside, over the sequences of some parameters."""
        if verdicts:
            name = self._truth(tree)
            self._line(f"push({name} if {name} is False or {name} is True else None)")
        else:
            self._line(f"push({self._value(tree).code})")
        names = [self._parameters[name] for name in looped]
        columns = [f"{name}s" for name in names]
        given = [f"{name}s" if name in names else name for name in self._parameters.values()]
        rows = f"zip({', '.join(columns)})" if len(columns) > 1 else columns[0]
        head = f"def expression({', '.join(given)}):\n  column = []\n  push = column.append\n"
        loop = f"  for {', '.join(names)} in {rows}:\n    try:\n"
        failed = "None" if verdicts else "failure(error)"
        return self._compiled(head + loop, f"\n    except Exception as error:\n      push({failed})\n  return column")

    def _compiled(self, head: str, foot: str) -> Function:
        code = compile(head + "\n".join(self._lines) + foot, "<expression>", "exec")
        exec(code, self._globals)  # noqa: S102  made above of our own names, numbers and repr'd strings alone
        return self._globals["expression"]  # type: ignore[no-any-return]  # a dict of anything

    # Writing lines

    def _line(self, text: str) -> None:
        self._lines.append(" " * (2 * self._indent) + text)

    @contextmanager
    def _block(self, head: str) -> Iterator[None]:
        self._line(f"{head}:")
        self._indent += 1
        yield
        self._indent -= 1

    def _fresh(self, prefix: str = "v") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _assign(self, code: str, kind: type | None = None) -> Operand:
        name = self._fresh()
        self._line(f"{name} = {code}")
        return Operand(name, kind)

    def _constant(self, value: Any) -> str:
        name = self._fresh("k")
        self._globals[name] = value
        return name

    # Values

    def _value(self, node: Node) -> Operand:
        match node:
            case Literal(value=value):
                return Operand(repr(value), type(value), constant=True)
            case Name():
                return Operand(self._parameters[node.name])
            case Select() | Index():
                return self._read(node)
            case Presence():
                return self._assign(f"present({self._value(node.operand).code}, {node.field!r})", bool)
            case Call():
                return self._call(node)
            case Unary():
                return self._unary(node)
            case Arithmetic():
                return self._arithmetic(node)
            case Comparison():
                return self._member(node) if node.operator == "in" else self._comparison(node)
            case Logic():
                return self._logic(node)
            case Conditional():
                return self._conditional(node)
            case ListOf():
                return self._assign(f"listing({self._tuple(node.items)})")
            case MapOf():
                return self._assign(f"mapping({self._tuple(node.keys)}, {self._tuple(node.values)})")
        raise AssertionError(node)

    def _local(self, node: Node) -> str:
        """A value under a name: Python warns of what is done to a literal that no literal can."""
        operand = self._value(node)
        return self._assign(operand.code).code if operand.constant else operand.code

    def _tuple(self, nodes: Sequence[Node]) -> str:
        return f"({''.join(f'{self._value(node).code}, ' for node in nodes)})"

    def _read(self, node: Node) -> Operand:
        """A path of constant keys at once: only its last key is commonly missing, so only that one is asked for."""
        keys: list[str] = []
        while True:
            match node:
                case (
                    Select(operand=operand, field=str() as key)
                    | Index(operand=operand, key=Literal(value=str() as key))
                ):
                    keys.append(key)
                    node = operand
                case _:
                    break
        if not keys and isinstance(node, Index):
            return self._assign(f"index({self._value(node.operand).code}, {self._value(node.key).code})")
        base = self._local(node)
        origin = node.name if isinstance(node, Name) else ""
        return self._path(base, origin, keys[::-1])

    def _path(self, base: str, origin: str, keys: Sequence[str]) -> Operand:
        name = self._fresh()
        missing = self._constant(Unknown(f"{'.'.join((origin, *keys)).lstrip('.')} is missing"))
        *stem, last = map(repr, keys)
        with self._block("try"):
            if stem:
                self._line(f"{name} = {base}{''.join(f'[{key}]' for key in stem)}")
            holder = name if stem else base
            self._line(f"{name} = {holder}[{last}] if {last} in {holder} else {missing}")
        with self._block("except Exception"):
            self._line(f"{name} = lost({base}, {tuple(keys)!r}, {origin!r})")
        self._line(f"if {name} is None: {name} = {missing}")
        return Operand(name)

    def _unary(self, node: Unary) -> Operand:
        operand = self._local(node.operand)
        if node.operator == "-":
            return self._assign(f"-{operand} if type({operand}) is float else negative({operand})")
        return self._assign(f"False if {operand} is True else True if {operand} is False else inverse({operand})", bool)

    def _arithmetic(self, node: Arithmetic) -> Operand:
        left = self._value(node.terms[0])
        for sign, term in zip(node.operators, node.terms[1:], strict=True):
            right = self._value(term)
            left = self._assign(_guarded(left, sign, right, computable(left, right, sign)))
        return left

    def _comparison(self, node: Comparison) -> Operand:
        sign, left, right = node.operator, self._value(node.left), self._value(node.right)
        return self._assign(_guarded(left, sign, right, comparable(left, right, sign)), bool)

    def _member(self, node: Comparison) -> Operand:
        left = self._value(node.left).code
        if isinstance(node.right, ListOf):
            values = [item.value for item in node.right.items if isinstance(item, Literal)]
            if len(values) == len(node.right.items):
                return self._member_of(left, tuple(values))
        return self._assign(f"member({left}, {self._value(node.right).code})", bool)

    def _member_of(self, left: str, values: tuple[Value, ...]) -> Operand:
        strings = self._constant(frozenset(value for value in values if isinstance(value, str)))
        slow = f"member({left}, {self._constant(values)})"
        return self._assign(f"{left} in {strings} if type({left}) is str else {slow}", bool)

    # Logic

    def _truth(self, node: Node) -> str:
        """A name that holds True, False or an Unknown."""
        operand = self._value(node)
        if operand.kind is bool and not operand.constant:
            return operand.code
        name = self._assign(operand.code).code
        self._line(f"if {name} is not True and {name} is not False: {name} = condition({name})")
        return name

    def _logic(self, node: Logic, *, final: bool = False) -> Operand:
        """Term after term until one decides (false for &&); else the first unknown; else the other verdict."""
        decides, other = ("False", "True") if node.operator == "&&" else ("True", "False")
        verdict = self._truth(node.terms[0])
        for position, term in enumerate(node.terms[1:], 2):
            last = final and position == len(node.terms)
            if final:
                self._line(f"if {verdict} is {decides}: return {decides}")
                self._take(verdict, self._truth(term), decides, other, last=last)
                continue
            with self._block(f"if {verdict} is not {decides}"):
                self._take(verdict, self._truth(term), decides, other, last=False)
        return Operand(verdict, bool)

    def _take(self, verdict: str, term: str, decides: str, other: str, *, last: bool) -> None:
        test = f"{term} is {decides} or {verdict} is {other}"
        self._line(f"return {term} if {test} else {verdict}" if last else f"if {test}: {verdict} = {term}")

    def _conditional(self, node: Conditional) -> Operand:
        verdict = self._truth(node.condition)
        name = self._fresh()
        for answer, branch in (("True", node.positive), ("False", node.negative)):
            with self._block(f"{'if' if answer == 'True' else 'elif'} {verdict} is {answer}"):
                self._line(f"{name} = {self._value(branch).code}")
        self._line(f"else: {name} = {verdict}")
        return Operand(name)

    # Functions

    def _call(self, node: Call) -> Operand:
        name, arguments = node.function, node.arguments
        if name == "default":
            return self._default(*arguments)
        texts = [item.value for item in arguments if isinstance(item, Literal) and isinstance(item.value, str)]
        if name in _CONVERTED and len(texts) == 1:
            return self._converted(node)
        if name == "matches" and isinstance(arguments[1], Literal):
            return self._matches(node, arguments[1])
        operands = [self._value(argument) for argument in arguments]
        codes = [operand.code for operand in operands]
        slow = f"{helper(name)}({', '.join(codes)})"
        guards = [f"type({operand.code}) is str" for operand in operands if not operand.constant]
        if name in _OF_STRINGS and guards and all(operand.kind in (None, str) for operand in operands):
            fast = _OF_STRINGS[name].format(*codes)
            return self._assign(f"{fast} if {' and '.join(guards)} else {slow}", bool)
        return self._assign(slow)

    def _default(self, value: Node, other: Node) -> Operand:
        operand = self._assign(self._value(value).code)
        with self._block(f"if {operand.code} is None or type({operand.code}) is Unknown"):
            self._line(f"{operand.code} = {self._value(other).code}")
        return operand

    def _converted(self, node: Call) -> Operand:
        """A constant's conversion happens now; where it fails the value is unknown, and the fault is told."""
        argument = node.arguments[0]
        value = FUNCTIONS[node.function].body(argument.value if isinstance(argument, Literal) else None)
        if isinstance(value, Unknown):
            self.faults.append(Fault(argument.column, value.reason))
            return Operand(self._constant(value))
        return Operand(repr(value) if type(value) is int else self._constant(value), type(value), constant=True)

    def _matches(self, node: Call, pattern: Literal) -> Operand:
        try:
            search = self._constant(compile_pattern(str(pattern.value)))
        except ValueError as error:
            raise ExpressionError(str(error), pattern.column) from error
        return self._assign(f"found({search}, {self._value(node.arguments[0]).code})", bool)


def _guarded(left: Operand, sign: str, right: Operand, guard: str) -> str:
    slow = f"{HELPERS[sign]}({left.code}, {right.code})"
    if not guard:
        return slow
    fast = f"{left.double} {sign} {right.double} if {guard}"
    if left.constant == right.constant:
        return f"{fast} else {slow}"
    name = right.code if left.constant else left.code
    return f"{fast} else {name} if type({name}) is Unknown else {slow}"
