"""What the loop knows and did, as lines for a terminal: pure, plain data in.

Nothing that came from outside reaches a terminal as it is: control characters are escaped, lines cut to the width.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from exhaust.text import clean

WIDTH = 80
_SPANS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
Item = Mapping[str, Any]


def when(time: Any) -> str:
    """Return `2026-01-02 03:04:05.678Z`."""
    try:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z"
    except (TypeError, ValueError, OverflowError, OSError):
        return "-"


def span(seconds: Any) -> str:
    """Return a duration's two leading parts: `250ms`, `1.4s`, `3m12s`, `2d4h`."""
    if not isinstance(seconds, int | float) or not -1e12 < seconds < 1e12:
        return "-"
    # The bounds are where rounding would reach the next unit.
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    place = next(i for i, (size, _) in enumerate(_SPANS) if whole >= size)
    (size, unit), (smaller, part) = _SPANS[place], _SPANS[place + 1]
    rest = whole % size // smaller
    return f"{whole // size}{unit}" + (f"{rest}{part}" if rest else "")


def amount(count: Any) -> str:
    """Return a number that fits six columns: `12034`, `1.2M`."""
    if not isinstance(count, int | float):
        return "-"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count:.0f}" if isinstance(count, int) or count >= 100 else f"{count:.1f}"


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(value: Any, width: int = WIDTH) -> str:
    """Return a value as text that a terminal shows as it stands, in at most `width` columns."""
    text = clean("-" if value is None else value if isinstance(value, str) else _plain(value), max(width, 1) * 4)
    if columns(text) <= width:
        return text
    kept, taken = [], 1
    for character in text:
        taken += _columns_of(character)
        if taken > width:
            break
        kept.append(character)
    return "".join(kept) + "…"


def _plain(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def row(*cells: tuple[Any, int]) -> str:
    """Return cells side by side; a negative width stands to the right."""
    shown = []
    for value, width in cells:
        text = fit(value, abs(width))
        gap = " " * (abs(width) - columns(text))
        shown.append(gap + text if width < 0 else text + gap)
    return "  ".join(shown).rstrip()


def item_lines(kind: str, item: Item) -> Iterator[str]:
    """Render an item of `facts`, `decisions` or `executions`, or a message about one."""
    match kind:
        case "facts":
            yield row((when(item["time"]), 24), (item["state"], 6), (item["severity"], 8), (item["name"], 36))
            yield row(("", 0), (item["id"], 36), (item["host"], 14), (_what(item), 24))
        case "predictions":
            yield row((when(item["time"]), 24), (item["state"], 6), (item["severity"], 8), (item["name"], 36))
            yield row(("", 0), (item["id"], 36), (item["host"], 14), (_expectation(item), 24))
        case "hosts":
            yield from _host(item)
        case "dead-letters":
            yield from _letter(item)
        case "decisions":
            rule = f"{fit(item['rule'], 38)}/{item['rung']}"
            yield row((when(item["time"]), 24), (item["outcome"], 8), (rule, 44))
            yield row(("", 0), (item["id"], 36), (item["host"], 14), (_reasons(item), 24))
        case _:
            yield from _execution(item)


def _what(item: Item) -> Any:
    labels = " ".join(f"{name}={value}" for name, value in sorted(item["labels"].items()))
    return item["summary"] or labels or item["value"]


def _expectation(item: Item) -> str:
    return f"{item['probability']:.0%} by {when(item['due'])[:16]}"


def _host(item: Item) -> Iterator[str]:
    known, wrong = "known" if item["known"] else "unknown", f"{item['open_facts']} open"
    yield row((item["name"], 30), (known, 8), (when(item["last_heard"]), 24), (wrong, -9))
    labels = " ".join(f"{name}={value}" for name, value in sorted(item["labels"].items()))
    if labels or item["streams"]:
        yield row(("", 0), (labels, 36), (" ".join(item["streams"]), 40))


def _letter(item: Item) -> Iterator[str]:
    """Render what could not be handled: since when, what and whose, where it was bound for, why it is here."""
    whose = "/".join(fit(item[name], 200) for name in ("host", "stream") if item[name])
    attempts = item["attempts"]
    again = f", sent again {attempts} time{'s' * (attempts != 1)}" if attempts else ""
    yield row((when(item["received"]), 24), (item["type"], 13), (whose or None, 39))
    yield row(("", 0), (item["id"], 36), (item["queue"], 38))
    yield from (f"    {line}" for line in wrapped(f"{fit(item['reason'], 300)}{again}", WIDTH - 4))


def record_line(record: Item, width: int = WIDTH) -> str:
    """Render a record on one line: when, whose, and as many of its fields as fit into so many columns."""
    fields = {name: value for name, value in record.items() if name not in ("id", "time", "host", "stream")}
    told = " ".join(f"{fit(name, 30)}={fit(value, max(60, width // 4))}" for name, value in fields.items())
    return row((when(record["time"])[11:], 13), (record["host"], 14), (told, width - 31))


def _reasons(item: Item) -> str:
    guards = ", ".join(str(reason["guard"]) for reason in item["reasons"])
    return " ".join(part for part in (guards, f"(x{item['count']})" if item["count"] > 1 else "") if part)


def _execution(item: Item) -> Iterator[str]:
    """Render a run, or an event of one: `execution` and `task` are an event's."""
    task = item.get("task")
    what = f"{item['workflow']}: {task}" if task else item["workflow"]
    yield row((when(item["time"]), 24), (item["state"], 13), (item["verdict"], 13), (what, 24))
    started, ended = item.get("started"), item.get("ended")
    took = span(ended - started) if started is not None and ended is not None else None
    why = item.get("reason") or item.get("error") or item.get("rule")
    yield row(("", 0), (item.get("execution") or item["id"], 36), (item["host"], 14), (took, -7), (why, 15))


def chain_lines(chain: Item) -> Iterator[str]:
    """Render an explanation: who and what first, then the time-line in milliseconds."""
    for order in chain["orders"]:
        yield fit(f"order      {_wanted(order)}, by {fit(order['by'], 200)}")
        yield f"           {fit(order['id'], 69)}"
    for kind in ("fact", "prediction"):
        for fact in chain[f"{kind}s"]:
            state = f"{fit(fact['state'], 200)}: {fit(fact['reason'], 200)}"
            yield fit(f"{kind:10} {fit(fact['name'], 200)} on {fit(fact['host'], 200)}, {state}")
            yield f"           {fit(fact['id'], 69)}"
    for decision in chain["decisions"]:
        yield fit(f"decision   {fit(decision['rule'], 200)}/{decision['rung']}: {decision['outcome']}")
    for run in chain["executions"]:
        verdict = f", {run['verdict']}" if run["verdict"] else ""
        yield fit(f"execution  {fit(run['workflow'], 200)} on {fit(run['host'], 200)}: {run['state']}{verdict}")
        yield f"           {fit(run['id'], 69)}"
    if chain["steps"]:
        yield ""
        yield f"{'ms':>12}  since {when(chain['steps'][0]['time'])}"
    for step in chain["steps"]:
        yield from _step(step)


def _wanted(order: Item) -> str:
    what = "everything" if order["target"] is None else fit(order["target"], 200)
    return f"{fit(order['order'], 200)} {what}" + (f" on {fit(order['host'], 200)}" if order["host"] else "")


def _step(step: Item) -> Iterator[str]:
    lead = f"{step['ms']:12.1f}  {fit(step['kind'], 9):9}  "
    what = str(step["what"]).removeprefix(f"{step['kind']} ")
    for line in wrapped(fit(what, 3 * (WIDTH - len(lead))), WIDTH - len(lead)):
        yield lead + line
        lead = " " * len(lead)


def wrapped(text: str, width: int) -> Iterable[str]:
    """Break text at the width, at a space where there is one near the end of the line."""
    while columns(text) > width:
        end = 0
        taken = 0
        while taken + _columns_of(text[end]) <= width:
            taken += _columns_of(text[end])
            end += 1
        space = text.rfind(" ", end // 2, end + 1)
        end = space if space > 0 else end
        yield text[:end].rstrip()
        text = text[end:].lstrip()
    yield text.rstrip()
