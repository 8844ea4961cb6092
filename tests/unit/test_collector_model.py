"""The collector's decider: messages in, rows out, whatever their order, number or repetition."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest

from collector.model import ReadModel
from exhaust.errors import MessageError
from exhaust.messages import Decision, ExecutionEvent, Fact, Message, Reason
from exhaust.worker import Keep


class Rows:
    """What a worker's store would hold, without the disk."""

    def __init__(self, most: int = 10_000) -> None:
        self.kept: dict[str, bytes] = {}
        self.model = ReadModel(most)
        self.model.recall(self.rows)

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, value) for key, value in self.kept.items() if key.startswith(prefix)))

    def tell(self, *messages: Message) -> None:
        for message in messages:
            for effect in list(self.model.handle(message, message.time)):
                assert isinstance(effect, Keep)
                if effect.value is None:
                    self.kept.pop(effect.key, None)
                else:
                    self.kept[effect.key] = msgspec.json.encode(effect.value)

    def item(self, key: str) -> Any:
        return msgspec.json.decode(self.kept[key]) if key in self.kept else None


def fact(name: str, time: float, state: Any = "open", episode: str = "e1", **more: Any) -> Fact:
    reason: Any = "asserted" if state == "open" else "cleared"
    given = {"severity": "error", "since": 100.0, "valid_until": time + 90.0, "labels": {"service": "shop"}, **more}
    return Fact(
        id=name, time=time, name="service.down", host="web-01", episode=episode, state=state, reason=reason, **given
    )


def decision(name: str, time: float, outcome: Any, **more: Any) -> Decision:
    given = {"rule": "restart", "rung": 0, "cause": "e1", "host": "web-01", "last_time": time, **more}
    return Decision(id=name, time=time, outcome=outcome, **given)


def event(name: str, time: float, state: Any, **more: Any) -> ExecutionEvent:
    given = {"execution": "x1", "workflow": "restart-service", "definition": "abc", **more}
    return ExecutionEvent(id=name, time=time, state=state, **given)


EPISODE = [fact("e1", 100.0), fact("f2", 130.0), fact("f3", 131.0, "closed")]
RUN = [
    event("v1", 101.0, "pending", host="web-01", rule="restart", rung=0, attempt=2, mode="auto", cause="e1"),
    event("v2", 101.1, "running", deadline=200.0, started=101.1),
    event("v3", 101.2, "running", task="restart"),
    event("v4", 101.3, "failed", task="restart", error="it would not"),
    event("v5", 101.4, "running", task="restart", attempt=2),
    event("v6", 101.5, "succeeded", task="restart", attempt=2, output={"pid": 7}),
    event("v7", 101.6, "verifying"),
    event("v8", 102.0, "succeeded", reason="done"),
    event("v9", 102.1, "succeeded", verdict="recovered"),
    event("v10", 150.0, "succeeded", verdict="relapsed"),
]
CHOICES = [
    decision("d1", 100.1, "pending", reasons=[Reason("for", 1, 5)]),
    decision("d2", 101.0, "fired", execution="x1"),
    decision("d3", 140.0, "refused", count=3, reasons=[Reason("cooldown", 3, 20)]),
]


def test_an_episode_is_one_item_from_opening_to_closing() -> None:
    rows = Rows()
    rows.tell(*EPISODE[:2])
    assert rows.item("fact/e1")["state"] == "open"
    rows.tell(EPISODE[2])
    item = rows.item("fact/e1")
    assert (item["state"], item["reason"], item["time"], item["ended"]) == ("closed", "cleared", 100.0, 131.0)


def test_a_run_shows_its_tasks_its_end_and_its_newest_verdict() -> None:
    rows = Rows()
    rows.tell(*RUN)
    item = rows.item("execution/x1")
    assert item["tasks"] == [
        {"name": "restart", "state": "succeeded", "attempts": 2, "output": {"pid": 7}, "error": None}
    ]
    shown = {key: item[key] for key in ("state", "verdict", "started", "ended", "deadline", "attempt", "host", "cause")}
    assert shown == {
        "state": "succeeded", "verdict": "relapsed", "started": 101.1, "ended": 102.0,
        "deadline": 200.0, "attempt": 2, "host": "web-01", "cause": "e1",
    }  # fmt: skip


def test_a_run_that_ended_never_runs_again() -> None:
    rows = Rows()
    rows.tell(event("v1", 1.0, "failed", reason="no"), event("v2", 2.0, "running"), event("v3", 3.0, "succeeded"))
    assert (rows.item("execution/x1")["state"], rows.item("execution/x1")["reason"]) == ("failed", "no")


def test_a_candidate_is_one_item_with_its_first_id_and_its_newest_answer() -> None:
    rows = Rows()
    rows.tell(*CHOICES)
    item = rows.item("decision/d1")
    shown = (item["id"], item["outcome"], item["count"], item["execution"], item["last_time"])
    assert shown == ("d1", "refused", 3, "x1", 140.0)
    assert sum(key.startswith("decision/") for key in rows.kept) == 1


@pytest.mark.parametrize("seed", range(20))
def test_order_and_repetition_change_nothing(seed: int) -> None:
    shuffled = [*EPISODE, *RUN, *EPISODE, *RUN]
    random.Random(seed).shuffle(shuffled)
    straight, mixed = Rows(), Rows()
    straight.tell(*EPISODE, *RUN)
    mixed.tell(*shuffled)
    assert mixed.kept == straight.kept


@pytest.mark.parametrize("seed", range(6))
def test_decisions_out_of_order_still_show_the_newest(seed: int) -> None:
    shuffled = [*CHOICES, *CHOICES]
    random.Random(seed).shuffle(shuffled)
    rows = Rows()
    rows.tell(*shuffled)
    item = rows.item(f"decision/{shuffled[0].id}")
    assert (item["outcome"], item["count"], item["time"]) == ("refused", 3, 100.1)


def test_a_closing_before_its_opening_stays_closed() -> None:
    rows = Rows()
    rows.tell(EPISODE[2], EPISODE[0])
    assert (rows.item("fact/e1")["state"], rows.item("fact/e1")["time"]) == ("closed", 100.0)


def test_of_re_assertions_only_the_newest_is_kept() -> None:
    rows = Rows()
    rows.tell(fact("e1", 100.0), *(fact(f"again-{n}", 100.0 + n) for n in range(1, 50)))
    assert sorted(key for key in rows.kept if key.startswith("history/")) == [
        "history/fact/e1/again-49", "history/fact/e1/e1",
    ]  # fmt: skip
    assert "id/again-48" not in rows.kept
    assert rows.item("fact/e1")["updated"] == 149.0


def test_after_a_restart_the_same_messages_add_nothing_and_new_ones_fit() -> None:
    rows = Rows()
    rows.tell(*EPISODE, *CHOICES[:2], *RUN[:8])
    before = dict(rows.kept)
    rows.model = ReadModel()
    rows.model.recall(rows.rows)
    rows.tell(*EPISODE, *CHOICES[:2], *RUN[:8])
    assert rows.kept == before
    rows.tell(CHOICES[2], *RUN[8:])
    assert rows.item("decision/d1")["outcome"] == "refused"
    assert rows.item("execution/x1")["verdict"] == "relapsed"


def _episodes(count: int) -> Iterable[Fact]:
    for n in range(count):
        yield fact(f"e{n}", float(n), episode=f"e{n}", causes=(f"b{n}#0",))
        yield fact(f"c{n}", n + 0.5, "closed", episode=f"e{n}")


def test_the_oldest_closed_episodes_go_and_leave_nothing_behind() -> None:
    rows = Rows(most=3)
    rows.tell(*_episodes(10))
    assert sorted(key for key in rows.kept if key.startswith("fact/")) == ["fact/e7", "fact/e8", "fact/e9"]
    assert not [key for key in rows.kept if "e6" in key or "c6" in key or "b6" in key]
    assert [name for _, name in rows.model.shelves["fact"].newest(10)] == ["e9", "e8", "e7"]


def test_what_is_open_is_kept_however_much_closes_after_it() -> None:
    rows = Rows(most=3)
    rows.tell(fact("old", 0.0, episode="old"), *_episodes(10))
    assert rows.item("fact/old")["state"] == "open"


def test_the_oldest_decisions_go_and_their_candidates_with_them() -> None:
    rows = Rows(most=2)
    rows.tell(*(decision(f"d{n}", float(n), "fired", cause=f"e{n}") for n in range(5)))
    assert sorted(key for key in rows.kept if key.startswith("decision/")) == ["decision/d3", "decision/d4"]
    rows.tell(decision("late", 9.0, "refused", cause="e0"))
    assert rows.item("decision/late")["outcome"] == "refused"


@pytest.mark.parametrize(
    "message",
    [
        fact("a/b", 1.0),
        fact("a", 1.0, episode="fact/../e"),
        fact("a", 1.0, causes=("b/c#1",)),
        decision("d", 1.0, "fired", cause="x" * 200),
        event("v", 1.0, "running", execution=""),
    ],
)
def test_ids_that_would_lead_astray_are_refused(message: Message) -> None:
    with pytest.raises(MessageError, match="is no id"):
        list(ReadModel().handle(message, 1.0))


def test_what_is_not_for_the_collector_is_refused() -> None:
    with pytest.raises(MessageError, match="not for the collector"):
        list(ReadModel().handle(object(), 1.0))


def test_a_run_with_a_task_only_is_under_way() -> None:
    rows = Rows()
    rows.tell(event("v3", 101.2, "succeeded", task="restart"))
    assert rows.item("execution/x1")["state"] == "running"
    assert rows.model.shelves["execution"].under_way() == ["x1"]


def test_a_run_of_very_many_messages_is_kept_within_bounds() -> None:
    rows = Rows()
    rows.tell(RUN[0], *(event(f"t{n}", 102.0 + n, "running", task=f"t{n}") for n in range(1010)))
    assert sum(key.startswith("history/") for key in rows.kept) == 1000
    assert rows.item("execution/x1")["rule"] == "restart"
