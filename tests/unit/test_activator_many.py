"""However much is open, a message costs the activator what it concerns, and no start changes what follows from it."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activator.decisions import Activator
from activator.questions import Surroundings
from activator.rules import Rule
from exhaust.inventory import Inventory
from exhaust.language import define
from exhaust.messages import Activation, Codec, Decision, ExecutionEvent, Order
from exhaust.worker import Effect, Keep
from tests.harness import NOW
from tests.standing import Disk, fact

INVENTORY = Inventory({"web-1": {"role": "web"}, "web-2": {"role": "web"}, "db-1": {"role": "db"}})
MEND = {"run": "mend", "with": {"service": "${{ cause.labels.service }}"}, "mode": "auto"}
TELL: dict[str, Any] = {"notify": {"to": "ops", "text": "${{ cause.name }} on ${{ host.name }}"}}
RULES: list[dict[str, Any]] = [
    {
        "name": "restart",
        "on": ["a", "b*"],
        "when": "!has(facts.maintenance)",
        "guard": {"attempts": 2, "window": "1m", "cooldown": "5s", "concurrent": {"role": 1}},
        "escalate": [MEND, TELL],
        **MEND,
    },
    {"name": "also", "on": "a", "guard": {"cooldown": "0s", "concurrent": 1}, **MEND, **TELL},
    {"name": "tell", "on": "*", "when": "cause.value > 1", **TELL},
]


class Seat:
    """One activator with the rows that it keeps; counts how often it looks a host up, which is once a judgement."""

    def __init__(self, rules: Iterable[dict[str, Any]]) -> None:
        self.disk, self.looks = Disk(), 0
        self.activator = Activator([define(Rule, rule) for rule in rules], Surroundings(self._host), 1)
        self.said: list[Any] = []
        self.recall()

    def _host(self, name: str) -> dict[str, Any]:
        self.looks += 1
        return INVENTORY.variable(name)

    def recall(self) -> None:
        self.activator.recall(self.disk.rows)

    def take(self, effects: Iterable[Effect]) -> None:
        for effect in list(effects):
            if isinstance(effect, Keep):
                self.disk.write(effect)
            else:
                self.said.append(effect)

    def handle(self, message: Any) -> None:
        self.take(self.activator.handle(message, message.time))


FACTS = st.tuples(st.sampled_from(["a", "a", "b1", "maintenance"]), st.sampled_from(["web-1", "web-2", "db-1", None]))
STEPS = st.one_of(
    st.tuples(st.just("open"), FACTS, st.sampled_from([0, 5])),
    st.tuples(st.sampled_from(["again", "close"]), st.integers(0, 5), st.sampled_from([0, 5])),
    st.tuples(st.just("ran"), st.integers(0, 5), st.sampled_from(["recovered", "not_recovered", "relapsed"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 10, 100, 100_000]), st.none()),
    st.tuples(st.sampled_from(["halt", "resume"]), st.sampled_from([None, "web-1"]), st.none()),
)


def step(seat: Seat, number: int, now: float, what: str, which: Any, value: Any) -> None:
    """Take a step; `which` of the newest it is about, counted from the end."""
    alive = [fact.episode for fact in seat.activator._facts.oldest_first()]
    runs = [one.execution for one in seat.said if isinstance(one, Activation)]
    own: dict[str, Any] = {"id": f"m{number}", "time": now}
    if what == "open":
        name, host = which
        more = {"episode": f"m{number}", "since": now, "valid_until": now + 60, "value": value}
        seat.handle(fact(name=name, host=host, **own, **more))
    elif what in ("again", "close") and which < len(alive):
        known = seat.activator._facts.get(alive[-1 - which])
        assert known is not None
        state = "open" if what == "again" else "closed"
        seat.handle(msgspec.structs.replace(known, **own, state=state, value=value, valid_until=now + 60))
    elif what == "ran" and which < len(runs):
        about: dict[str, Any] = {"workflow": "mend", "definition": "d", "causes": tuple(alive[-1:])}
        seat.handle(ExecutionEvent(execution=runs[-1 - which], state="failed", verdict=value, **own, **about))
    elif what in ("halt", "resume"):
        seat.handle(Order(order=what, target=which, by="ann", **own))  # type: ignore[arg-type]
    seat.take(seat.activator.tick(now))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_an_activator_that_is_started_before_every_step_says_and_keeps_the_same(steps: list[Any]) -> None:
    steady, restarted, now = Seat(RULES), Seat(RULES), NOW
    for number, (what, which, value) in enumerate(steps):
        now += which if what == "wait" else 0
        restarted.recall()
        for seat in (steady, restarted):
            step(seat, number, now, what, which, value)
        assert [*map(Codec.encode, restarted.said)] == [*map(Codec.encode, steady.said)]
        assert restarted.disk.kept == steady.disk.kept


@pytest.mark.parametrize("mode", ["auto", "observe"])
def test_a_fact_is_judged_by_its_own_rules_and_by_no_others(mode: str) -> None:
    rules = [
        MEND | {"name": f"r{n}", "on": f"fact{n}", "when": "!has(facts.maintenance)", "mode": mode} for n in range(100)
    ]
    seat = Seat(rules)
    for number in range(100):
        host = "web-1" if number % 2 else "db-1"
        seat.handle(fact(name=f"fact{number}", host=host, episode=f"e{number}"))
    before = seat.looks
    seat.handle(fact(name="fact7", host="web-2", episode="new"))
    assert seat.looks == before + 1


def test_an_end_of_a_run_is_news_to_candidates_of_its_rule_alone() -> None:
    seat = Seat([MEND | {"name": f"r{n}", "on": f"fact{n}"} for n in range(100)])
    for number in range(100):
        seat.handle(fact(name=f"fact{number}", episode=f"e{number}"))
    run = next(one for one in seat.said if isinstance(one, Activation)).execution
    before = seat.looks
    about: dict[str, Any] = {"workflow": "mend", "definition": "d", "state": "failed", "verdict": "not_recovered"}
    seat.handle(ExecutionEvent(id="x", time=NOW, execution=run, **about))
    assert seat.looks - before <= 2


def test_a_start_writes_nothing_where_nothing_has_changed() -> None:
    seat = Seat(RULES)
    for number in range(50):
        seat.handle(fact(name="a", episode=f"e{number}", labels={"service": str(number)}))
    seat.recall()
    assert list(seat.activator.resume(NOW + 1)) == []


def test_what_fires_long_after_it_came_carries_its_evidence_all_the_same() -> None:
    seat = Seat([MEND | {"name": "restart", "on": "a", "guard": {"concurrent": 1}}])
    came = [fact(name="a", episode=f"e{number:04}", labels={"service": str(number)}) for number in range(2000)]
    for one in came:
        seat.handle(one)
    (first,) = [one for one in seat.said if isinstance(one, Activation)]
    about: dict[str, Any] = {"workflow": "mend", "definition": "d", "state": "succeeded", "verdict": "recovered"}
    seat.handle(ExecutionEvent(id="x", time=NOW + 1, execution=first.execution, **about))
    second = [one for one in seat.said if isinstance(one, Activation)][-1]
    assert (first.cause, second.cause) == (came[0], came[1])


def test_a_notice_that_its_rule_no_longer_gives_is_left_alone() -> None:
    seat = Seat([MEND | TELL | {"name": "restart", "on": "a", "mode": "observe"}])
    seat.handle(fact(name="a"))
    later = Seat([MEND | {"name": "restart", "on": "a", "mode": "observe"}])
    later.disk = seat.disk
    later.recall()
    later.handle(Order(id="o", time=NOW, order="halt", target=None, by="ann"))
    assert [(one.rung, one.outcome) for one in later.said if isinstance(one, Decision)] == [(0, "refused")]
