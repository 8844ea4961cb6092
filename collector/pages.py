"""Lists of items, a page at a time: those of the store the newest first, without loading the rest; others by name."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from collector.refusal import bad
from collector.shelf import Shelf
from exhaust.store import Store

DEFAULT_LIMIT = 100
MOST_ITEMS = 1000
_MOST_BYTES = 4 * 1024 * 1024
_AT_ONCE = 200


class Page(NamedTuple):
    """Items as JSON; `next` is the cursor of what follows."""

    items: list[bytes]
    next: str | None


class Query(NamedTuple):
    """Which items, how many, and after which one; a filter's name may go into a map, as in `labels.service`."""

    filters: Mapping[str, str]
    limit: int = DEFAULT_LIMIT
    after: str | None = None


def read_query(kind: str, fields: Collection[str], given: Iterable[tuple[str, str]]) -> Query:
    """Return the query of a request's parameters. Raises Refusal for those that nobody knows."""
    query = Query({})
    filters: dict[str, str] = {}
    for name, value in given:
        if name == "limit":
            query = query._replace(limit=_limit(value))
        elif name == "after":
            query = query._replace(after=value)
        elif name.partition(".")[0] in fields:
            filters[name] = value
        else:
            raise bad(f"no {kind} has a field '{name[:80]}': there are {', '.join(sorted(fields))}")
    return query._replace(filters=filters)


async def page(store: Store, kind: str, shelf: Shelf, query: Query) -> Page:
    """Return the next items that match. Raises Refusal where the cursor is none of ours."""
    items: list[bytes] = []
    size = 0
    cursor = None if query.after is None else _cursor(query.after)
    while places := shelf.newest(_AT_ONCE, cursor):
        for cursor in places:
            row = store.get(f"{kind}/{cursor[1]}")
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


def named_page(items: Sequence[dict[str, Any]], query: Query) -> Page:
    """Return the next of items that stand in the order of their ids."""
    found: list[bytes] = []
    for item in items:
        if query.after is not None and item["id"] <= query.after:
            continue
        if all(_said(item, name) == value for name, value in query.filters.items()):
            found.append(msgspec.json.encode(item))
        if len(found) == query.limit:
            return Page(found, item["id"] if item is not items[-1] else None)
    return Page(found, None)


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
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_ITEMS:
        return int(text[:9])
    raise bad(f"'limit' is a number from 1 to {MOST_ITEMS}")


def _text(cursor: tuple[float, str]) -> str:
    return f"{cursor[0]!r}~{cursor[1]}"


def _cursor(text: str) -> tuple[float, str]:
    time, _, name = text.partition("~")
    try:
        return float(time), name
    except ValueError:
        raise bad("'after' is what an earlier answer gave as 'next'") from None
