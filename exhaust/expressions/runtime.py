"""All that generated code can name: helpers of our own and a few types, without Python's builtins."""

from typing import Any, Final

from exhaust.expressions.access import index, listing, lost, mapping, present
from exhaust.expressions.functions import FUNCTIONS, strict
from exhaust.expressions.operators import ARITHMETIC, COMPARISONS, condition, inverse, negative
from exhaust.expressions.patterns import found
from exhaust.expressions.values import Duration, Timestamp, Unknown

HELPERS: Final = {
    "==": "equal",
    "!=": "unequal",
    "<": "less",
    "<=": "at_most",
    ">": "more",
    ">=": "at_least",
    "in": "member",
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "%": "remainder",
}


def helper(function: str) -> str:
    return f"f_{function.replace('.', '_')}"


def _failure(error: Exception) -> Unknown:
    """The last resort, so that no data stop a service; no known data come here."""
    return Unknown(f"the expression failed: {error!r:.200}")


GLOBALS: Final[dict[str, Any]] = {
    "__builtins__": {},
    "type": type,
    "bool": bool,
    "float": float,
    "int": int,
    "str": str,
    "zip": zip,
    "Duration": Duration,
    "Timestamp": Timestamp,
    "Unknown": Unknown,
    "Exception": Exception,
    "condition": condition,
    "failure": _failure,
    "found": found,
    "index": index,
    "inverse": inverse,
    "listing": listing,
    "lost": lost,
    "mapping": mapping,
    "negative": negative,
    "present": present,
    **{HELPERS[sign]: compute for sign, compute in (COMPARISONS | ARITHMETIC).items()},
    **{helper(name): strict(function.body) for name, function in FUNCTIONS.items()},
}
