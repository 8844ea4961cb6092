"""The status of a system at a glance, as lines for a terminal: pure, plain data in."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from exhaust.commands.rendering import WIDTH, amount, columns, fit, row, span, when, wrapped

Item = Mapping[str, Any]
# Columns of the ledger: batches that were delivered, the records in them, batches that came twice; records that were
# dropped; batches that lie among the dead letters, that their emitter gave up, that may yet come, that are missing.
_COUNTS = {
    "batches": "received", "records": "records", "twice": "duplicates", "dropped": "dropped", "dead": "dead",
    "given up": "given_up", "flying": "in_flight", "missing": "missing",
}  # fmt: skip
_WIDTHS = (8, 8, 7, 8, 6, 9, 7, 8, 6)
_OF_HOSTS = frozenset(("host.silent", "clock.skew"))


def status_lines(status: Item) -> Iterator[str]:
    """Render `/status`: what keeps the loop from acting first, what is wrong with a component right below it."""
    now = status["time"]
    yield f"{when(now)}" + ("  HALTED: nothing that acts is started" if status["halt"] else "")
    for halt in status["halts"]:
        yield _halt(halt, now)
    yield ""
    yield row(("component", 14), ("state", 10), ("since", -7), ("handled/s", -9), ("lag", -7), ("restarts", -8))
    for name, one in status["components"].items():
        yield from _component(name, one, now)
    yield ""
    yield from _ledger(status["ledger"], now)
    if status["dead_letters"]:
        yield f"dead letters: {amount(status['dead_letters'])}: 'exhaust dead-letters' lists them"
    yield f"open facts: {amount(status['open_facts'])}"
    for fact in status["worst_facts"]:
        yield _fact(fact, now)
    if status["open_facts"] > len(status["worst_facts"]):
        yield "  and more: 'exhaust facts --filter state=open' lists them"
    yield f"running executions: {len(status['running_executions'])}"
    for run in status["running_executions"]:
        age = span(now - (run.get("started") or run["time"]))
        yield row(("", 0), (run["workflow"], 26), (run["host"], 24), (run["state"], 10), (age, -7))
        yield f"  {fit(run['id'], WIDTH - 2)}"


def _halt(halt: Item, now: float) -> str:
    what = "everything" if halt["target"] is None else fit(halt["target"], 30)
    reason = f": {fit(halt['reason'], 200)}" if halt["reason"] else ""
    return fit(f"  {what}, for {span(now - halt['since'])}, by {fit(halt['by'], 60)}{reason}")


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
    for note in _notes(one):
        yield f"  {fit(note, WIDTH - 2)}"


def _notes(one: Item) -> Iterator[str]:
    """Say what is not as it ought to be with a component; what it tells of itself may lack anything."""
    missing = [name for name, well in _map(one, "checks").items() if not well]
    if missing:
        yield f"waits for {', '.join(missing)}"
    yield from _told("", one.get("last_error"))
    yield from _told("broker: ", _map(one, "broker").get("last_error"))
    yield from _told("reload refused: ", _map(one, "reload").get("refused"))
    yield from _told("policy: ", _map(one, "policy").get("fault"))
    if one.get("outbox"):
        yield f"outbox: {amount(one['outbox'])} messages wait for their confirm"
    if refused := _map(one, "refused"):
        yield "refused messages: " + ", ".join(f"{amount(count)} {kind}" for kind, count in refused.items())
    for name, emitter in _map(one, "emitters").items():
        yield from _told(f"emitter {fit(name, 30)}: ", _map({"of": emitter}, "of").get("last_error"))
    yield from _spool(_map(one, "spool"))
    for name, fault in _map(one, "people").items():
        yield from _told(f"token of {fit(name, 30)}: ", fault)


def _spool(spool: Item) -> Iterator[str]:
    if spool.get("unsent"):
        yield f"spool: {amount(spool['unsent'])} batches wait for their confirm, {amount(spool.get('bytes'))} bytes"
    if dropped := _map(spool, "dropped"):
        yield "spool: dropped " + ", ".join(f"{amount(count)} ({reason})" for reason, count in dropped.items())
    yield from _told("spool: ", spool.get("last_error"))


def _map(one: Item, key: str) -> Item:
    found = one.get(key)
    return found if isinstance(found, Mapping) else {}


def _told(lead: str, text: Any) -> Iterator[str]:
    if text:
        yield f"{lead}{fit(text, 200)}"


def _ledger(table: Sequence[Item], now: float) -> Iterator[str]:
    """Render what came of each emitter; below it what is wrong with that, and why it dropped records."""
    if not table:
        yield "ledger: nothing has arrived yet"
        yield ""
        return
    yield _account("emitter", list(_COUNTS), "heard")
    for host, rows in groupby(table, lambda one: one["host"]):
        emitters = list(rows)
        wrong = {name for one in emitters for name in one["open"]} & _OF_HOSTS
        yield fit(host) if not wrong else f"{fit(host, 40)}  ! {', '.join(sorted(wrong))}"
        for one in emitters:
            yield _account(
                one["emitter"], [amount(one[key]) for key in _COUNTS.values()], span(now - one["last_heard"])
            )
            yield from _account_notes(one)
    yield ""


def _account(emitter: str, counts: Sequence[str], heard: str) -> str:
    name, cells = fit(emitter, 11), zip((*counts, heard), _WIDTHS, strict=True)
    return f"  {name}{' ' * (11 - columns(name))}" + "".join(row((cell, -width)) for cell, width in cells)


def _account_notes(one: Item) -> Iterator[str]:
    if wrong := [name for name in one["open"] if name not in _OF_HOSTS]:
        yield fit(f"    ! {', '.join(wrong)}")
    if one["reasons"]:
        reasons = (f"{amount(count)} {fit(reason, 60)}" for reason, count in one["reasons"].items())
        yield from (f"    {line}" for line in wrapped(f"dropped {', '.join(reasons)}", WIDTH - 4))


def _fact(fact: Item, now: float) -> str:
    age = span(now - fact["since"])
    shown = fact["summary"] or " ".join(f"{name}={value}" for name, value in fact["labels"].items())
    return row(("", 0), (fact["severity"], 8), (age, -6), (fact["name"], 20), (fact["host"], 14), (shown, 20))
