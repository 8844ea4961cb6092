"""Why an expression is refused, and where."""

import difflib
from collections.abc import Iterable


class ExpressionError(ValueError):
    """The text of an expression is refused; `column` counts its characters from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.column = column

    def moved(self, offset: int) -> "ExpressionError":
        """The same error, its column counted within a longer text."""
        return ExpressionError(str(self), self.column + offset)


def suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name[:64], list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
