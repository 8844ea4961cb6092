"""Reading maps and lists, and building them."""

from collections.abc import Iterable, Sequence

from exhaust.expressions.values import Truth, Unknown, Value, kind


def lost(value: Value, path: Sequence[str], origin: str) -> Value:
    """Follow `path` again, slowly, to tell where it ends; the value, should the fast path have been wrong."""
    read = origin or "the operand"
    for key in path:
        if type(value) is Unknown:
            return value
        if value is None:
            return Unknown(f"{read} is missing")
        if type(value) is not dict:
            return Unknown(f"{read} is {kind(value)}, not a map")
        value = value.get(key)
        read = f"{read}.{key}"
    return Unknown(f"{read} is missing") if value is None else value


def index(container: Value, key: Value) -> Value:
    """`container[key]` for keys known only now."""
    for value in (container, key):
        if type(value) is Unknown:
            return value
    if type(container) is dict and type(key) in (str, int, float):
        found = container.get(key)
        return Unknown(f"the key {str(key)[:64]!r} is missing") if found is None else found
    if type(container) in (list, tuple) and type(key) in (int, float):
        return _item(container, key)
    return Unknown(f"'[]' is not for {kind(container)} and {kind(key)}")


def _item(items: Sequence[Value], position: float) -> Value:
    if not (0 <= position < len(items) and position == int(position)):
        return Unknown(f"item {position} of a list of {len(items)} is missing")
    found = items[int(position)]
    return Unknown(f"item {int(position)} of the list is null") if found is None else found


def present(operand: Value, field: str) -> Truth:
    """`has(operand.field)`; of what is no map itself, nothing can be told."""
    if type(operand) is Unknown:
        return operand
    if type(operand) is not dict:
        return Unknown(f"has() is not for a field of {kind(operand)}")
    found = operand.get(field)
    return found if type(found) is Unknown else found is not None


def listing(items: Iterable[Value]) -> Value:
    found = []
    for item in items:
        if type(item) is Unknown:
            return item
        found.append(item)
    return found


def mapping(keys: Iterable[Value], values: Iterable[Value]) -> Value:
    found: dict[Value, Value] = {}
    for key, value in zip(keys, values, strict=True):
        for part in (key, value):
            if type(part) is Unknown:
                return part
        if type(key) not in (str, int):
            return Unknown(f"a map's key is a string or an int, not {kind(key)}")
        if key in found:
            return Unknown(f"the key {str(key)[:64]!r} is there twice")
        found[key] = value
    return found
