"""The read model: what the loop knows, decided and did, kept so that it can be listed and explained.

A subject is `fact/<episode>`, `prediction/<episode>`, `decision/<first id>`, `execution/<id>` or `order/<id>`. Kept
are, for each, its item under that key, its messages under `history/<subject>/<message id>`, and what leads to it:
`id/<any id>`, `record/<record>/<subject>` and `link/<id that it names>/<subject>`. Pure: messages in, rows out.
"""

import heapq
import re
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from collector.arrival import ID, Arrival
from collector.items import ITEMS, Item, decision_item, execution_item, fact_item, order_item
from collector.letters import Letter, Letters, read_letter
from collector.shelf import MOST, Place, Shelf
from collector.tally import Tally
from collector.telemetry import Telemetry
from exhaust.broker.interface import Delivery
from exhaust.errors import MessageError
from exhaust.halts import Halts
from exhaust.ids import execution_of
from exhaust.messages import Codec, Decision, ExecutionEvent, Fact, Order, Prediction
from exhaust.worker import Effect, Keep, Rows

Told = Fact | Decision | ExecutionEvent | Order
Messages = dict[str, Told]

MOST_MESSAGES = 1000
_OVER_AT_ONCE = frozenset(("decision", "order"))
# More subjects than one transaction of a worker touches, those that it drops included: what is not yet on disk is here.
_RECENT = 640
_CAUSE = re.compile(f"{ID.pattern}(#[0-9]{{1,9}})?", re.ASCII)


class _Row(msgspec.Struct):
    """As much of an item as placing and counting it takes."""

    id: str
    time: float
    updated: float
    ended: float | None = None
    host: str | None = None
    severity: str = ""
    rule: str | None = None
    rung: int | None = None
    cause: str | None = None
    outcome: str = ""
    workflow: str = ""
    verdict: str | None = None


class ReadModel:
    """Decides what of the past is kept; `most` is how many of each kind that are over, and how many that are not.

    Dead letters are kept beside it, and the ledger is a part of it. `host` is the collector's own; those in `inventory`
    somebody has listed.
    """

    def __init__(self, most: int = MOST, *, host: str = "", inventory: Container[str] = ()) -> None:
        self._most = most
        self.letters = Letters()
        self.telemetry = Telemetry(host, self.letters, inventory)
        self.shelves: Mapping[str, Shelf] = {}
        self.tallies: Mapping[str, Tally] = {}
        self._halts = Halts()
        self._ordered = 0.0
        self._rows: Rows = lambda prefix: iter(())
        self._candidates: dict[tuple[str, int, str], str] = {}
        self._recent: OrderedDict[str, Messages] = OrderedDict()
        self._forget()

    def _forget(self) -> None:
        self.shelves = {kind: Shelf(self._most) for kind in ITEMS}
        self.tallies = {kind: Tally() for kind in ITEMS}
        self._candidates.clear()
        self._recent.clear()

    def recall(self, rows: Rows) -> None:
        self._forget()
        self._rows = rows
        self.letters.recall(rows)
        self.telemetry.recall(rows)
        read = msgspec.json.Decoder(_Row).decode
        for kind, shelf in self.shelves.items():
            for _, value in rows(f"{kind}/"):
                row = read(value)
                over = kind in _OVER_AT_ONCE or row.ended is not None
                shelf.put(row.id, Place(row.time, row.updated, over))
                self._count(kind, row.id, row)
                if kind == "decision":
                    self._candidates[row.rule or "", row.rung or 0, row.cause or ""] = row.id
        self._halts.recall(rows)
        self._ordered = max((Codec.decode(row).time for _, row in rows("halt/")), default=0.0)

    @property
    def due(self) -> float:
        return self.telemetry.due

    def resume(self, now: float) -> Iterable[Effect]:
        return self.telemetry.resume(now)

    def tick(self, now: float) -> Iterable[Effect]:
        return self.telemetry.tick(now)

    def status(self) -> dict[str, Any]:
        return {**self.telemetry.status(), "dead_letters": len(self.letters)}

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        return ()

    def handle(self, message: Any, received: float) -> Iterable[Effect]:
        self.telemetry.hear(received)
        match message:
            case Arrival():
                return self.telemetry.take(message, received)
            case Delivery():
                return self._bury(message, received)
            case Fact() | Decision() | ExecutionEvent():
                _check(message)
                return self._take(message)
        raise MessageError(f"a {type(message).__name__} is not for the collector")

    @property
    def halts(self) -> list[Order]:
        """The halts in force, of everything first."""
        return self._halts.standing()

    def overruling(self, now: float) -> float:
        """Return the time of a halt or a resume that is given now: past all before, though the clock was set back."""
        return round(max(now, self._ordered + 1e-6), 6)

    def take_order(self, order: Order) -> Iterator[Effect]:
        """Remember what a person wants; who sends the order keeps this with it."""
        if order.order != "trigger":
            self._ordered = max(self._ordered, order.time)
            yield from self._halts.take(order)
        yield from self._take(order)

    def worst(self, most: int) -> list[str]:
        """Return the episodes of the worst open facts, of like ones those that changed last."""
        rank = {severity: number for number, severity in enumerate(("critical", "error", "warning", "info"))}
        tally = self.tallies["fact"]
        return heapq.nsmallest(most, self.shelves["fact"].under_way(), key=lambda name: rank[tally.what(name)])

    def _bury(self, delivery: Delivery, received: float) -> Iterator[Effect]:
        """Keep a dead letter, whatever it is: there is nowhere else for it to go."""
        letter = read_letter(delivery, received)
        yield from self.letters.add(letter, delivery.body)
        if letter.batch is not None:
            yield from self.telemetry.bury(letter.batch, received, by_broker=letter.by_broker)

    def redeem(self, letter: Letter) -> Iterator[Effect]:
        """A letter was sent again and taken; it stays where it has come back since."""
        if not self.letters.lies(letter):
            return
        yield from self.letters.remove(letter.id)
        batch = letter.batch
        if batch is not None and not self.letters.holds(batch):
            yield from self.telemetry.redeem(batch)

    def _take(self, message: Told) -> Iterator[Effect]:
        kind, name = self._subject(message)
        subject = f"{kind}/{name}"
        known = self._messages(subject)
        kept = _worth_keeping(known, message)
        if kept.keys() == known.keys():
            return
        self._remember(subject, kept)
        item = _item(kind, name, kept)
        yield from _changes(subject, known, kept)
        yield Keep(subject, item)
        self.shelves[kind].put(name, Place(item.time, item.updated, item.over))
        self._count(kind, name, item)
        for old in self.shelves[kind].surplus():
            yield from self._drop(kind, old)

    def _count(self, kind: str, name: str, row: Any) -> None:
        """Count an item, given whole or as a row, among its like."""
        tally = self.tallies[kind]
        match kind:
            case "fact" if row.ended is None:
                tally.put(name, row.host or "", row.severity)
            case "fact":
                tally.remove(name)
            case "decision":
                tally.put(name, row.rule or "", row.outcome)
            case "execution":
                tally.put(name, row.workflow, "under_way" if row.ended is None else row.verdict or "unknown")

    def _subject(self, message: Told) -> tuple[str, str]:
        match message:
            case Order():
                return "order", message.id
            case Prediction():
                return "prediction", message.episode
            case Fact():
                return "fact", message.episode
            case ExecutionEvent():
                return "execution", message.execution
        return "decision", self._candidates.setdefault(_candidate(message), message.id)

    def _messages(self, subject: str) -> Messages:
        if subject not in self._recent:
            return read_history(self._rows, subject)
        self._recent.move_to_end(subject)
        return self._recent[subject]

    def _remember(self, subject: str, messages: Messages) -> None:
        self._recent[subject] = messages
        self._recent.move_to_end(subject)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _drop(self, kind: str, name: str) -> Iterator[Effect]:
        subject = f"{kind}/{name}"
        messages = self._messages(subject)
        for message in messages.values():
            if isinstance(message, Decision):
                self._candidates.pop(_candidate(message), None)
        # Remembered as empty: until the transaction is on disk the rows still hold what is dropped here.
        self._remember(subject, {})
        self.shelves[kind].remove(name)
        self.tallies[kind].remove(name)
        yield from _changes(subject, messages, {})
        yield Keep(subject, None)


def read_history(rows: Rows, subject: str) -> Messages:
    """Return all that is kept of what was said of a subject, by message id."""
    found = (cast("Told", Codec.decode(value)) for _, value in rows(f"history/{subject}/"))
    return {message.id: message for message in found}


def _candidate(decision: Decision) -> tuple[str, int, str]:
    return decision.rule, decision.rung, decision.cause


def _check(message: Told) -> None:
    """Refuse ids that would lead astray in the store: they come from whoever may publish."""
    ids: list[str | None] = [message.id]
    match message:
        case Fact():
            ids.append(message.episode)
        case Decision():
            ids += (message.cause, message.execution)
        case ExecutionEvent():
            ids += (message.execution, message.cause)
    for one in ids:
        if one is not None and not ID.fullmatch(one):
            raise MessageError(f"'{one[:80]}' is no id")
    for cause in message.causes:
        if not _CAUSE.fullmatch(cause):
            raise MessageError(f"'{cause[:80]}' is no id of a cause")


def _worth_keeping(known: Messages, message: Told) -> Messages:
    """Return the messages that tell the story: of mere re-assertions of a fact only the newest of each severity."""
    kept = {**known, message.id: message}
    if isinstance(message, Fact) and _is_assertion(message):
        alike = [old for old in kept.values() if _is_assertion(old) and cast("Fact", old).severity == message.severity]
        newest = max(alike, key=lambda fact: (fact.time, fact.id))
        for old in alike:
            if old is not newest:
                del kept[old.id]
    if len(kept) > MOST_MESSAGES:
        del kept[sorted(kept.values(), key=lambda old: (old.time, old.id))[1].id]
    return kept


def _is_assertion(message: Told) -> bool:
    return isinstance(message, Fact) and message.state == "open" and message.id != message.episode


def _item(kind: str, name: str, messages: Mapping[str, Any]) -> Item:
    match kind:
        case "order":
            return order_item(messages[name])
        case "fact" | "prediction":
            return fact_item(name, messages.values())
        case "decision":
            return decision_item(name, messages.values())
    return execution_item(name, messages.values())


def _changes(subject: str, before: Messages, after: Messages) -> Iterator[Effect]:
    """Tell what to write and what to remove where the messages of a subject change."""
    added = {name: after[name] for name in after.keys() - before.keys()}
    removed = {name: before[name] for name in before.keys() - after.keys()}
    for key, value in _rows_of(subject, added).items():
        yield Keep(key, value)
    if removed:
        # What the removed led to may be led to by others as well.
        for key in _rows_of(subject, removed).keys() - _rows_of(subject, after).keys():
            yield Keep(key, None)


def _rows_of(subject: str, messages: Messages) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    if messages:
        rows[f"id/{subject.partition('/')[2]}"] = subject
    for message in messages.values():
        rows[f"history/{subject}/{message.id}"] = message
        rows[f"id/{message.id}"] = subject
        for record in record_ids(message):
            rows[f"record/{record}/{subject}"] = 1
        for other in _links(message):
            rows[f"link/{other}/{subject}"] = 1
    return rows


def record_ids(message: Told) -> Iterator[str]:
    """Yield the records that a fact rests on, `<batch>#<n>`."""
    if isinstance(message, Fact):
        for cause in message.causes:
            if "#" in cause:
                yield cause
        for record in message.evidence:
            name = record.get("id")
            if isinstance(name, str) and "#" in name and _CAUSE.fullmatch(name):
                yield name


def _links(message: Told) -> Iterator[str]:
    match message:
        case Decision(cause=cause, execution=execution):
            yield cause
            if execution:
                yield execution
        case ExecutionEvent(cause=str(cause)):
            yield cause
        case Order(order="trigger"):
            yield execution_of(message.id)
