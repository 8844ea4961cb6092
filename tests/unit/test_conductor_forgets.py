"""What the orchestrator remembers is bounded: runs that are over, closings, definitions, and timers."""

from pathlib import Path

import msgspec
import pytest

from exhaust.worker import Keep
from orchestrator import closings, journal
from orchestrator.conductor import Conductor
from tests.conducting import CAUSE, Rig

DAY = 86_400.0


def rows(rig: Rig, prefix: str) -> list[str]:
    return [key for key in rig.harness.desks["orchestrator"].kept if key.startswith(prefix)]


def begin(rig: Rig, execution: str, episode: str = "episode") -> None:
    now = rig.harness.now
    rig.cause = msgspec.structs.replace(CAUSE, episode=episode, id=episode, time=now, since=now, valid_until=now + 90)
    rig.activate(rig.cause, execution=execution)
    rig.harness.advance(1)


def run(rig: Rig, execution: str, episode: str = "episode") -> None:
    """Let a run come to its end, recovered."""
    begin(rig, execution, episode)
    rig.harness.answer()
    rig.harness.advance(1)
    rig.close()
    assert rig.end()[:2] == ("succeeded", "recovered")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, "verify: {closes: cause}")


def test_a_run_is_forgotten_a_week_after_its_end(rig: Rig) -> None:
    run(rig, "first")
    rig.harness.advance(3 * DAY)
    run(rig, "second", "another")
    rig.harness.advance(4 * DAY - 60)
    assert {row.split("/")[1] for row in rows(rig, "journal/")} == {"first", "second"}
    rig.harness.advance(120)
    assert {row.split("/")[1] for row in rows(rig, "journal/")} == {"second"}
    rig.harness.restart()
    rig.harness.advance(4 * DAY)
    assert rows(rig, "journal/") == rows(rig, "over/") == rows(rig, "definition/") == []


def test_a_run_that_is_over_does_not_begin_again_while_it_is_remembered(rig: Rig) -> None:
    run(rig, "run")
    rig.harness.advance(6 * DAY)
    rig.harness.restart()
    before = len(rig.harness.log)
    rig.activate(execution="run")
    assert len(rig.harness.log) == before + 1  # the activation alone


def test_of_too_many_runs_only_those_of_the_last_day_are_remembered(rig: Rig) -> None:
    desk, now = rig.harness.desks["orchestrator"], rig.harness.now
    for n in range(journal.MOST_OVER + 3):
        ended = now - (2 * DAY if n < 250 else 0.0)
        desk.kept |= {f"over/{ended:017.6f}/r{n}": b"1", f"journal/r{n}/000000": b"{}"}
    rig.harness.restart("orchestrator")
    rig.harness.advance(1)
    assert len(rows(rig, "over/")) == len(rows(rig, "journal/")) == journal.MOST_OVER - journal.AT_ONCE + 3


def test_a_definition_stays_as_long_as_a_run_needs_it(rig: Rig) -> None:
    run(rig, "first")
    rig.harness.advance(7 * DAY)
    begin(rig, "under way", "another")
    rig.harness.advance(80)
    assert rig.end()[0] == "running"
    assert {row.split("/")[1] for row in rows(rig, "journal/")} == {"under way"}
    assert len(rows(rig, "definition/")) == 1


def test_closings_are_forgotten_after_an_hour_though_nothing_is_conducted(rig: Rig) -> None:
    for n in range(50):
        rig.harness.advance(1)
        rig.tell(state="closed", reason="cleared", episode=f"e{n}")
    assert len(rows(rig, "closed/")) == 50
    rig.harness.advance(3600 + 120)
    assert rows(rig, "closed/") == []


def test_closings_from_before_the_clock_was_set_back_are_forgotten_as_late_as_those_of_then(rig: Rig) -> None:
    rig.tell(state="closed", reason="cleared", episode="before")
    rig.harness.now -= DAY
    rig.tell(state="closed", reason="cleared", episode="after")
    rig.harness.advance(3600)
    assert sorted(rows(rig, "closed/")) == ["closed/after", "closed/before"]
    rig.harness.advance(120)
    assert rows(rig, "closed/") == []


def test_of_too_many_closings_the_oldest_are_forgotten(rig: Rig) -> None:
    for n in range(closings.MOST + closings.MOST // 10 + 1):
        desk = rig.harness.desks["orchestrator"]
        fact = msgspec.structs.replace(
            CAUSE, time=rig.harness.now + n / 1000, id=f"c{n}", episode=f"e{n}", state="closed"
        )
        for effect in desk.decider.handle(fact, rig.harness.now):
            assert isinstance(effect, Keep)
            desk.keep(effect)
    rig.harness.advance(1)
    left = rows(rig, "closed/")
    assert len(left) == closings.MOST
    assert f"closed/e{closings.MOST // 10}" not in left
    assert f"closed/e{closings.MOST // 10 + 1}" in left


def test_a_run_that_hears_much_sets_no_more_timers_for_it(rig: Rig) -> None:
    rig.activate()
    conductor = rig.harness.desks["orchestrator"].decider
    assert isinstance(conductor, Conductor)
    before = len(conductor._timers)
    for n in range(100):
        rig.tell(id=f"again {n}", time=rig.harness.now + n / 1000)
    assert len(conductor._timers) <= before + 1
