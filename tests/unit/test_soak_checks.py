"""The checkers of the soak, on small ledgers made by hand: each finds what it is there for, and nothing else."""

from pathlib import Path

import pytest

from tests.soak import checks
from tests.soak.checks import Sample, Violation
from tests.soak.ledgers import Batch, Effect, Ledgers, Numbers, Range, Start, Stream


def stream(yielded: int = 10, safe: int = 10, witnessed: list[Range] | None = None, **more: object) -> Stream:
    """Return a stream of which all came, but for what is said otherwise."""
    came = [(1, yielded)] if witnessed is None else witnessed
    found = Stream(True, yielded, [0, safe], Numbers(came), Numbers([(1, yielded)]))
    for name, value in more.items():
        setattr(found, name, value)
    return found


def of_stream(found: Stream) -> list[Violation]:
    return [*checks.lost("a", found), *checks.unexplained("a", found), *checks.left_out("a", found)]


def batch(seq: int, *numbers: Range, epoch: int = 1, dropped: dict[str, int] | None = None) -> Batch:
    return Batch("counter", "a", epoch, seq, numbers, dropped or {})


def test_what_came_whole_is_in_order() -> None:
    assert of_stream(stream()) == []
    assert checks.arrived(stream())


def test_what_came_twice_is_counted_and_no_violation() -> None:
    found = stream()
    found.witnessed.add(3, 5)
    assert (found.duplicates, of_stream(found)) == (3, [])


@pytest.mark.parametrize("came", [[(1, 4), (6, 10)], [(2, 10)], [(1, 9)], []])
def test_an_accepted_number_that_the_analyzers_never_saw_is_lost(came: list[Range]) -> None:
    found = stream(witnessed=came)
    assert [violation.kind for violation in of_stream(found)] == ["lost"]
    assert not checks.arrived(found)


def test_an_accepted_number_that_never_came_to_the_queue_is_lost() -> None:
    found = stream(heard=Numbers([(1, 4), (6, 10)]))
    assert [(one.kind, one.lines) for one in of_stream(found)] == [("lost", ("5 to 5",))]


def test_a_number_that_was_yielded_and_never_safe_may_be_missing() -> None:
    assert of_stream(stream(yielded=20, safe=10, witnessed=[(1, 10)], heard=Numbers([(1, 10)]))) == []


def test_what_came_proves_that_all_before_it_were_accepted() -> None:
    found = stream(safe=0, witnessed=[(1, 4), (6, 8)], heard=Numbers([(1, 8)]))
    assert [one.lines for one in of_stream(found)] == [("5 to 5",)]


def test_what_is_told_as_dropped_is_accounted_for_and_no_more_than_that() -> None:
    missing = [(1, 4), (6, 10)]
    found = stream(witnessed=missing, heard=Numbers(missing))
    found.dropped["spool_full"] = 1
    assert of_stream(found) == []
    found.heard = Numbers([(1, 3), (6, 10)])
    assert [violation.kind for violation in of_stream(found)] == ["lost"]


def test_of_a_source_that_cannot_wait_only_what_was_under_way_at_a_start_may_be_missing() -> None:
    came = [(1, 4), (7, 10)]
    found = stream(waits=False, starts=[0, 6], witnessed=came, heard=Numbers(came))
    assert (found.accepted, of_stream(found)) == ([(1, 4), (7, 10)], [])
    found = stream(waits=False, starts=[0, 6], witnessed=[(1, 3), (9, 10)], heard=Numbers(came))
    assert [one.lines for one in of_stream(found)] == [("4 to 4", "7 to 8")]
    found.dropped["no_room"] = 3
    assert of_stream(found) == []


def test_a_number_that_was_never_yielded_is_unexplained() -> None:
    found = stream(witnessed=[(1, 11)], heard=Numbers([(1, 11)]))
    assert [violation.kind for violation in of_stream(found)] == ["unexplained", "unexplained"]
    assert [violation.kind for violation in of_stream(stream(witnessed=[(0, 10)]))] == ["unexplained"]


def test_a_batch_that_comes_again_with_something_else_in_it_is_unexplained() -> None:
    found = stream()
    for one in (batch(0, (1, 5)), batch(0, (1, 5)), batch(1, (6, 10))):
        found.hear(one)
    assert of_stream(found) == []
    found.hear(batch(1, (6, 9)))
    assert [violation.kind for violation in of_stream(found)] == ["unexplained"]


def test_a_batch_that_is_left_out_is_lost() -> None:
    found = stream()
    for one in (batch(0, (1, 2)), batch(2, (5, 10)), batch(0, (3, 4), epoch=2)):
        found.hear(one)
    assert [(one.kind, one.lines) for one in of_stream(found)] == [("lost", ("epoch 1 seq 1 to 1",))]


def test_a_batch_that_another_calls_given_up_is_not_lost() -> None:
    found = stream()
    for one in (batch(0), batch(3), batch(0, epoch=2)._replace(forgone=[(1, 1, 2), (1, 4, 9)])):
        found.hear(one)
    assert of_stream(found) == []
    found.hear(batch(12))
    assert [one.lines for one in of_stream(found)] == [("epoch 1 seq 10 to 11",)]


def test_what_a_batch_tells_as_dropped_counts_once_however_often_it_comes() -> None:
    found = stream()
    found.hear(batch(0, dropped={"spool_full": 3}))
    found.hear(batch(0, dropped={"spool_full": 3}))
    assert found.dropped == {"spool_full": 3}


def test_an_effect_done_twice_is_found_with_who_did_it() -> None:
    effects = [Effect("x", 7, 1.0), Effect("y", 7, 2.0), Effect("x", 8, 3.0)]
    (violation,) = checks.repeated(effects)
    assert violation.kind == "effect"
    assert violation.lines == ("x by pid 7 at 1.000000", "x by pid 8 at 3.000000")
    assert list(checks.repeated(effects[:2])) == []


def test_a_start_of_the_service_follows_upon_a_death_of_the_one_before() -> None:
    starts = [Start(1, 1.0), Start(2, 2.0), Start(3, 3.0)]
    assert list(checks.restarted(starts, {1, 2})) == []
    assert [violation.kind for violation in checks.restarted(starts, {1})] == ["effect"]


def test_two_processes_of_the_service_at_once_are_found() -> None:
    assert list(checks.alone([])) == list(checks.alone([7])) == []
    assert [violation.lines for violation in checks.alone([7, 9])] == [("pid 7", "pid 9")]


@pytest.mark.parametrize(
    ("memory", "files", "tasks", "kinds"),
    [
        (checks.MEMORY, checks.FILES, checks.TASKS, []),
        (checks.MEMORY + 1, 1, 1, ["memory"]),
        (1, checks.FILES + 1, checks.TASKS + 1, ["files", "tasks"]),
    ],
)
def test_a_process_that_holds_more_than_it_may_is_found(memory: int, files: int, tasks: int, kinds: list[str]) -> None:
    found = checks.grown([Sample("agent", 1, memory, files, tasks)])
    assert [violation.kind for violation in found] == kinds


def test_the_ledgers_are_read_on_from_where_they_were_and_only_whole_lines(tmp_path: Path) -> None:
    ledgers = Ledgers(tmp_path)
    (tmp_path / "witness.a").write_text("1\n2\n3")
    (tmp_path / "yields.a").write_text("1 10\n")
    ledgers.read()
    assert ledgers.streams["a"].witnessed.ranges == [(1, 2)]
    (tmp_path / "witness.a").write_text("1\n2\n30\n")
    (tmp_path / "starts").write_text("77 a 2\n77 b 0\n77 beat 0\n77 c 0\n")
    (tmp_path / "effects").write_text("key 9 1500000000\n")
    (tmp_path / "service").write_text("9 1.5\n")
    ledgers.read()
    found = ledgers.streams["a"]
    assert (found.witnessed.ranges, found.yielded, found.starts) == ([(1, 2), (30, 30)], 10, [2])
    assert (ledgers.effects, ledgers.starts, ledgers.emitter_starts) == ([Effect("key", 9, 1.5)], [Start(9, 1.5)], 1)
