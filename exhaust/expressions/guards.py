"""When one Python operation is the language's own: the conditions under which generated code takes the fast path."""

from typing import Final, NamedTuple

from exhaust.expressions.values import Duration, Timestamp

_GUARDED: Final = (int, float, str, Duration, Timestamp)
_EXACT: Final = 2**53  # below it every int is a double


class Operand(NamedTuple):
    """How generated code refers to a value, and what is known of it beforehand."""

    code: str
    kind: type | None = None  # of a constant; bool also for what is true, false or Unknown
    constant: bool = False

    @property
    def double(self) -> str:
        """An int constant as a double where that is exact: comparing two doubles is quicker, and says the same."""
        return repr(float(self.code)) if self.constant and self.kind is int and self._exact else self.code

    @property
    def _exact(self) -> bool:
        return abs(int(self.code)) < _EXACT


def computable(left: Operand, right: Operand, sign: str) -> str:
    """When Python's `sign` on two doubles is the language's; empty for never."""
    operands = [operand for operand in (left, right) if not _is_double(operand)]
    if not operands or sign == "%" or any(operand.constant or operand.kind is bool for operand in operands):
        return ""
    guards = [f"type({operand.code}) is float" for operand in operands]
    if sign == "/" and not (right.constant and float(right.code)):
        guards.append(right.double)  # zero is for the helper to refuse
    return " and ".join(guards)


def _is_double(operand: Operand) -> bool:
    return operand.constant and (operand.kind is float or operand.double != operand.code)


def comparable(left: Operand, right: Operand, sign: str) -> str:
    """When Python's `sign` is the language's; empty for never."""
    constant, other = (left, right) if left.constant else (right, left)
    if other.constant or other.kind is bool or constant.kind is bool:
        return ""
    if not constant.constant:
        wanted = "str" if sign in ("==", "!=") else "float"
        return f"type({other.code}) is {wanted} and type({constant.code}) is {wanted}"
    if constant.kind not in _GUARDED:
        return ""
    if constant.kind in (int, float):
        return f"type({other.code}) is float or type({other.code}) is int"
    return f"type({other.code}) is {constant.kind.__name__}"
