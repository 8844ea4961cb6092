"""Lists of items, the newest first, a page at a time, read from the store without loading the rest."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from collector.items import ITEMS
from collector.shelf import Shelf
from exhaust.errors import UsageError
from exhaust.store import Store

DEFAULT_LIMIT = 100
MOST_ITEMS = 1000
_MOST_BYTES = 4 * 1024 * 1024
_AT_ONCE = 200


class Page(NamedTuple):
    """Items as they are stored; `next` is the cursor of what follows."""

    items: list[bytes]
    next: str | None


class Query(NamedTuple):
    """Which items, how many, and after which one; a filter's name may go into a map, as in `labels.service`."""

    kind: str
    filters: Mapping[str, str]
    limit: int = DEFAULT_LIMIT
    after: tuple[float, str] | None = None


def read_query(kind: str, given: Iterable[tuple[str, str]]) -> Query:
    """Return the query of a request's parameters. Raise UsageError for those that nobody knows."""
    query = Query(kind, {})
    filters: dict[str, str] = {}
    known = {field.name for field in msgspec.structs.fields(ITEMS[kind])}
    for name, value in given:
        if name == "limit":
            query = query._replace(limit=_limit(value))
        elif name == "after":
            query = query._replace(after=_cursor(value))
        elif name.partition(".")[0] in known:
            filters[name] = value
        else:
            raise UsageError(f"no {kind} has a field '{name}': there are {', '.join(sorted(known))}")
    return query._replace(filters=filters)


async def page(store: Store, shelf: Shelf, query: Query) -> Page:
    """Return the next items that match."""
    items: list[bytes] = []
    size = 0
    cursor = query.after
    while places := shelf.newest(_AT_ONCE, cursor):
        for cursor in places:
            row = store.get(f"{query.kind}/{cursor[1]}")
            if row is None or not _matches(row, query.filters):
                continue
            items.append(row)
            size += len(row)
            if len(items) == query.limit or size > _MOST_BYTES:
                more = bool(shelf.newest(1, cursor))
                return Page(items, _text(cursor) if more else None)
        # A filter that matches little may look at all there is: what arrives comes first.
        await asyncio.sleep(0)
    return Page(items, None)


def _matches(row: bytes, filters: Mapping[str, str]) -> bool:
    if not filters:
        return True
    item = msgspec.json.decode(row)
    return all(_said(item, name) == value for name, value in filters.items())


def _said(item: Any, path: str) -> str:
    """Return a field as a filter names it: `-` for nothing."""
    first, _, rest = path.partition(".")
    value = item.get(first)
    if rest:
        value = value.get(rest) if isinstance(value, dict) else None
    if value is None:
        return "-"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_ITEMS:
        return int(text)
    raise UsageError(f"'limit' is a number from 1 to {MOST_ITEMS}")


def _text(cursor: tuple[float, str]) -> str:
    return f"{cursor[0]!r}~{cursor[1]}"


def _cursor(text: str) -> tuple[float, str]:
    time, _, name = text.partition("~")
    try:
        return float(time), name
    except ValueError:
        raise UsageError("'after' is what an earlier answer gave as 'next'") from None
