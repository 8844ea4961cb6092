"""Literal text with expressions in it: `disk ${{ record.mountpoint }} is full`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from exhaust.expressions.errors import ExpressionError
from exhaust.expressions.expression import Expression, compile_expression
from exhaust.expressions.output import to_text
from exhaust.expressions.tokens import LONGEST, scan
from exhaust.expressions.values import TEXT_LIMIT, Unknown, Value

_OPEN: Final = "${{"
_CLOSE: Final = "}}"
_PARTS: Final = 100


@dataclass(frozen=True, slots=True)
class Template:
    """Call it with the values of `names`: text, or what its lone expression yields; Unknown where any part is."""

    source: str
    names: tuple[str, ...]
    parts: tuple[str | Expression, ...] = field(repr=False)

    @property
    def constant(self) -> bool:
        return not self.expressions

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return tuple(part for part in self.parts if isinstance(part, Expression))

    @property
    def placed(self) -> Iterator[tuple[int, Expression]]:
        """Each expression with how many characters stand before it: what its columns lack to count within the text."""
        position = 0
        for part in self.parts:
            if isinstance(part, Expression):
                yield position + len(_OPEN), part
                position += len(_OPEN) + len(part.source) + len(_CLOSE)
            else:
                position += len(part)

    @property
    def variables(self) -> frozenset[str]:
        return frozenset().union(*(expression.variables for expression in self.expressions))

    @property
    def fields(self) -> frozenset[str]:
        return frozenset().union(*(expression.fields for expression in self.expressions))

    def __call__(self, *values: Value) -> Value:
        if len(self.parts) == 1:
            (part,) = self.parts
            return part(*values) if isinstance(part, Expression) else part
        return self._text(values)

    def _text(self, values: Sequence[Value]) -> str | Unknown:
        texts: list[str] = []
        room = TEXT_LIMIT + len(self.source)
        for part in self.parts:
            text = to_text(part(*values)) if isinstance(part, Expression) else part
            if isinstance(text, Unknown):
                return text
            room -= len(text)
            if room < 0:
                return Unknown(f"a text of more than {TEXT_LIMIT:,} characters")
            texts.append(text)
        return "".join(texts)


def compile_template(text: str, names: Sequence[str]) -> Template:
    """ExpressionError's column counts within the whole text."""
    parts = tuple(islice(_parts(text, names), 2 * _PARTS + 1))
    if len(parts) > 2 * _PARTS:
        raise ExpressionError(f"more than {_PARTS:,} parts", 1)
    return Template(text, tuple(names), parts or ("",))


def _parts(text: str, names: Sequence[str]) -> Iterator[str | Expression]:
    position = 0
    while (start := text.find(_OPEN, position)) >= 0:
        if start > position:
            yield text[position:start]
        begin = start + len(_OPEN)
        end = _end(text, begin)
        try:
            yield compile_expression(text[begin:end], names)
        except ExpressionError as error:
            raise error.moved(begin) from None
        position = end + len(_CLOSE)
    if position < len(text):
        yield text[position:]


def _end(text: str, begin: int) -> int:
    """Where the `}}` is that closes the expression: not one within a string, nor one that closes maps."""
    depth = 0
    for token in scan(text[: begin + LONGEST + 2], begin):
        if token.text == "}" and depth == 0 and text.startswith(_CLOSE, token.column - 1):
            return token.column - 1
        if token.kind == "sign":
            depth += (token.text == "{") - (token.text == "}")
    raise ExpressionError(f"{_OPEN} is not closed by }}}} within {LONGEST:,} characters", begin - len(_OPEN) + 1)
