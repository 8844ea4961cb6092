"""What the loop knows and did, as lines for a terminal: pure, plain data in.

Nothing that came from outside reaches a terminal as it is: control characters are escaped, lines cut to the width.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def status_lines(status: Item) -> Iterator[str]:
    """Render `/status`."""
    now = status["time"]
    yield f"{when(now)}" + ("  HALTED: nothing starts until 'exhaust resume'" if status["halt"] else "")
    yield ""
    yield row(("component", 14), ("state", 10), ("since", -7), ("handled/s", -9), ("lag", -7), ("restarts", -8))
    for name, one in status["components"].items():
        yield from _component(name, one, now)
    yield ""
    yield from _ledger(status["ledger"], now)
    yield f"open facts: {amount(status['open_facts'])}    running executions: {len(status['running_executions'])}"
    for item in status["running_executions"]:
        yield row(("", 0), (item["workflow"], 24), (item["host"], 20), (item["state"], 10), (_age(item, now), -7))
        yield f"  {fit(item['id'], WIDTH - 2)}"


def _component(name: str, one: Item, now: float) -> Iterator[str]:
    since = now - one["since"] if isinstance(one.get("since"), int | float) else None
    rate = (one.get("rates") or {}).get("handled")
    yield row(
        (name, 14),
        (one.get("state"), 10),
        (span(since), -7),
        (amount(rate), -9),
        (span(one.get("lag")), -7),
        (one.get("restarts"), -8),
    )
    if error := one.get("last_error"):
        yield f"  {fit(error, WIDTH - 2)}"


def _ledger(table: Sequence[Item], now: float) -> Iterator[str]:
    if not table:
        yield "ledger: nothing has arrived yet"
        yield ""
        return
    widths = (20, 14, -7, -7, -6, -6, -7)
    heads = ("host", "emitter", "batches", "records", "missed", "lost", "last")
    yield row(*zip(heads, widths, strict=True))
    for one in table:
        counts = [amount(one[key]) for key in ("received", "records", "missing", "dropped")]
        yield row(*zip((one["host"], one["emitter"], *counts, span(now - one["last"])), widths, strict=True))
    yield ""


def _age(item: Item, now: float) -> str:
    return span(now - (item.get("started") or item["time"]))


def item_lines(kind: str, item: Item) -> Iterator[str]:
    """Render an item of `facts`, `decisions` or `executions`, or a message about one."""
    match kind:
        case "facts":
            yield row((when(item["time"]), 24), (item["state"], 6), (item["severity"], 8), (item["name"], 36))
            yield row(("", 0), (item["id"], 36), (item["host"], 14), (item["summary"] or item["value"], 24))
        case "decisions":
            rule = f"{fit(item['rule'], 38)}/{item['rung']}"
            yield row((when(item["time"]), 24), (item["outcome"], 8), (rule, 44))
            yield row(("", 0), (item["id"], 36), (item["host"], 14), (_reasons(item), 24))
        case _:
            yield from _execution(item)


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
    for fact in chain["facts"]:
        yield fit(f"fact       {fit(fact['name'], 200)} on {fit(fact['host'], 200)}, {fact['state']}: {fact['reason']}")
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


def _step(step: Item) -> Iterator[str]:
    lead = f"{step['ms']:12.1f}  {fit(step['kind'], 9):9}  "
    for line in _wrapped(fit(step["what"], 3 * (WIDTH - len(lead))), WIDTH - len(lead)):
        yield lead + line
        lead = " " * len(lead)


def _wrapped(text: str, width: int) -> Iterable[str]:
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
