"""Tokens to a syntax tree, by recursive descent within fixed bounds."""

from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar

from exhaust.expressions.errors import ExpressionError, suggestion
from exhaust.expressions.functions import FUNCTIONS
from exhaust.expressions.tokens import Token, tokenize
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
from exhaust.expressions.values import INT_MAX, INT_MIN

TERMS: Final = 1_000
DEPTH: Final = 24

_RELATIONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "package", "return", "var", "void", "while"}
)
_MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
_FOREIGN: Final = {"and": "&&", "or": "||", "not": "!", "is": "==", "True": "true", "False": "false", "None": "null"}

Parsed = TypeVar("Parsed")


def parse(source: str, names: Sequence[str]) -> Node:
    """The tree of an expression over the variables `names`; ExpressionError for anything else."""
    parser = _Parser(tokenize(source), names)
    tree = parser.whole()
    for node, depth in walk(tree):
        if depth > DEPTH:
            _too_deep(node.column)
    return tree


def _too_deep(column: int) -> NoReturn:
    raise ExpressionError(f"nested deeper than {DEPTH} levels", column)


class _Parser:
    def __init__(self, tokens: list[Token], names: Sequence[str]) -> None:
        self._tokens = tokens
        self._names = names
        self._position = 0
        self._terms = 0
        self._depth = 0

    def whole(self) -> Node:
        tree = self._expression()
        if self._token.kind != "end":
            hint = _FOREIGN.get(self._token.text)
            self._fail(f"expected an operator, found {self._token.text[:64]!r}{_mean(hint)}")
        return tree

    # Reading tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._position]

    def _next(self) -> Token:
        token = self._token
        self._position += 1
        return token

    def _at(self, *signs: str) -> bool:
        return self._token.kind in ("sign", "name") and self._token.text in signs

    def _take(self, *signs: str) -> Token | None:
        return self._next() if self._at(*signs) else None

    def _expect(self, sign: str) -> Token:
        token = self._take(sign)
        if token is None:
            self._fail(f"expected {sign!r}, found {self._token.text[:64]!r}")
        return token

    def _fail(self, message: str, token: Token | None = None) -> NoReturn:
        raise ExpressionError(message, (token or self._token).column)

    def _inner(self, rule: Callable[[], Parsed]) -> Parsed:
        """One level down: what keeps a thousand parentheses from exhausting Python's stack."""
        self._depth += 1
        if self._depth > DEPTH:
            _too_deep(self._token.column)
        found = rule()
        self._depth -= 1
        return found

    # Operators, from the loosest to the tightest

    def _expression(self) -> Node:
        condition = self._or()
        if not self._take("?"):
            return condition
        positive = self._or()
        self._expect(":")
        negative = self._inner(self._expression)
        return Conditional(condition, positive, negative, column=condition.column)

    def _or(self) -> Node:
        return self._logic("||", self._and)

    def _and(self) -> Node:
        return self._logic("&&", self._relation)

    def _logic(self, operator: str, term: Callable[[], Node]) -> Node:
        terms = [term()]
        while self._take(operator):
            terms.append(term())
        return terms[0] if len(terms) == 1 else Logic(operator, tuple(terms), column=terms[0].column)

    def _relation(self) -> Node:
        left = self._sum()
        while self._at(*_RELATIONS):
            operator = self._next().text
            left = Comparison(operator, left, self._sum(), column=left.column)
        return left

    def _sum(self) -> Node:
        return self._arithmetic(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._arithmetic(("*", "/", "%"), self._unary)

    def _arithmetic(self, signs: tuple[str, ...], term: Callable[[], Node]) -> Node:
        terms, operators = [term()], []
        while operator := self._take(*signs):
            operators.append(operator.text)
            terms.append(term())
        return Arithmetic(tuple(operators), tuple(terms), column=terms[0].column) if operators else terms[0]

    def _unary(self) -> Node:
        signs: list[Token] = []
        while self._at("!", "-") and (not signs or self._at(signs[0].text)):
            signs.append(self._next())
            if len(signs) > DEPTH:
                _too_deep(signs[-1].column)
        if signs and signs[-1].text == "-" and self._token.kind == "number":
            self._term()
            node = self._members(self._number(signs.pop()))  # so that the least int can be written
        else:
            node = self._members(self._primary())
        for sign in reversed(signs):
            node = Unary(sign.text, node, column=sign.column)
        return node

    def _members(self, node: Node) -> Node:
        while sign := self._take(".", "[", "{"):
            if sign.text == "{":
                self._fail("message literals are not supported", sign)
            elif sign.text == "[":
                node = Index(node, self._inner(self._expression), column=sign.column)
                self._expect("]")
            else:
                node = self._member(node)
        return node

    def _member(self, operand: Node) -> Node:
        name = self._next()
        if name.kind != "name" or name.text in _CONSTANTS or name.text == "in":
            self._fail(f"expected a field's name after '.', found {name.text[:64]!r}", name)
        if not self._take("("):
            return Select(operand, name.text, column=name.column)
        if name.text in _MACROS:
            self._fail(f"no comprehensions: {name.text}() is not supported, an expression has no loops", name)
        return self._call(name, name.text, [operand, *self._arguments(")")], receiver=True)

    # Operands

    def _primary(self) -> Node:
        self._term()
        token = self._next()
        if token.kind == "number":
            self._position -= 1
            return self._number(None)
        if token.kind == "string":
            return Literal(str(token.value), column=token.column)
        if token.kind == "name":
            return self._named(token)
        match token.text:
            case "(":
                inner = self._inner(self._expression)
                self._expect(")")
                return inner
            case "[":
                return ListOf(tuple(self._arguments("]")), column=token.column)
            case "{":
                return self._map(token)
        return self._fail(f"expected a value, found {token.text[:64]!r}", token)

    def _term(self) -> None:
        self._terms += 1
        if self._terms > TERMS:
            self._fail(f"more than {TERMS:,} terms")

    def _number(self, minus: Token | None) -> Literal:
        token = self._next()
        value = token.value if minus is None else -token.value  # type: ignore[operator]  # a number's value is no text
        if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            self._fail(f"{token.text[:64]} does not fit 64 bits", token)
        return Literal(value, column=(minus or token).column)

    def _named(self, token: Token) -> Node:
        name = token.text
        if name in _CONSTANTS:
            return Literal(_CONSTANTS[name], column=token.column)
        if self._at("("):
            return self._function(token)
        if name in self._names:
            return Name(name, column=token.column)
        if name == "math" and self._at("."):
            return self._math(token)
        if name in _RESERVED:
            self._fail(f"{name!r} is a reserved word", token)
        hint = _mean(_FOREIGN[name]) if name in _FOREIGN else suggestion(name, self._names)
        return self._fail(f"unknown variable {name[:64]!r}{hint}", token)

    def _math(self, token: Token) -> Node:
        self._expect(".")
        name = f"math.{self._next().text}"
        self._expect("(")
        return self._call(token, name, self._arguments(")"), receiver=False)

    def _function(self, token: Token) -> Node:
        self._expect("(")
        arguments = self._arguments(")")
        if token.text != "has":
            return self._call(token, token.text, arguments, receiver=False)
        if len(arguments) == 1 and isinstance(arguments[0], Select):
            return Presence(arguments[0].operand, arguments[0].field, column=token.column)
        return self._fail('has() takes a field, such as has(record.pid); of a key: "a-b" in host.labels', token)

    def _call(self, token: Token, name: str, arguments: list[Node], *, receiver: bool) -> Node:
        function = FUNCTIONS.get(name)
        if function is None:
            self._fail(f"unknown function {name[:64]!r}{suggestion(name, FUNCTIONS)}", token)
        if function.receiver not in (None, receiver):
            self._fail(f"write {name}(x)" if receiver else f"write x.{name}(…)", token)
        given, least, most = len(arguments) - receiver, function.least - receiver, function.most - receiver
        if not least <= given <= most:
            wanted = str(least) if least == most else f"{least} or more" if most > 2 else f"{least} or {most}"
            self._fail(f"{name}() takes {wanted} arguments, got {given}", token)
        return Call(name, tuple(arguments), column=token.column)

    def _arguments(self, end: str) -> list[Node]:
        found: list[Node] = []
        while not self._take(end):
            found.append(self._inner(self._expression))
            if not self._take(","):
                self._expect(end)
                break
            if end == ")" and self._at(end):
                self._fail("expected a value, found ')'")  # lists may end with a comma, calls may not
        return found

    def _map(self, start: Token) -> Node:
        keys: list[Node] = []
        values: list[Node] = []
        while not self._take("}"):
            keys.append(self._inner(self._expression))
            self._expect(":")
            values.append(self._inner(self._expression))
            if not self._take(","):
                self._expect("}")
                break
        return MapOf(tuple(keys), tuple(values), column=start.column)


def _mean(word: str | None) -> str:
    return f", did you mean {word!r}?" if word else ""
