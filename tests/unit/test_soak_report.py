"""What a soak has done is counted by fault, kept, and known again."""

from collections import Counter
from pathlib import Path

from tests.soak.checks import Violation
from tests.soak.report import Tally
from tests.soak.schedule import Step
from tests.soak.trial import Outcome

LOST = Violation("lost", "3 of 9 accepted numbers of stream a never reached the analyzers", ("4 to 6",))


def tally() -> Tally:
    found = Tally(seed=7, round=2)
    found.add(Outcome(Step("cut", 1.5), {"flow": 3.0, "canary": 4.5}, [], Counter(duplicates=10), 70 << 20))
    killing = Step("cut", 2.0, names=("agent",))
    found.add(Outcome(killing, {"flow": 1.0, "agent back": 5.0}, [LOST], Counter(effects=2, duplicates=5), 60 << 20))
    return found


def test_a_step_that_also_kills_counts_as_both() -> None:
    rows = tally().rows
    assert {kind: (row.count, row.duplicates, row.effects, row.recovery, row.lost) for kind, row in rows.items()} == {
        "cut": (2, 15, 2, 5.0, 1),
        "kill-agent": (1, 5, 2, 5.0, 1),
    }
    assert rows["cut"].memory == 70 << 20


def test_what_is_left_to_do_follows_from_the_counts() -> None:
    assert tally().left({"cut": 3, "kill-agent": 1, "slow": 2}) == {"cut": 1, "slow": 2}


def test_a_violation_is_kept_with_seed_round_step_and_the_lines_of_the_ledgers() -> None:
    (told,) = tally().violations
    assert told == f"seed 7, round 2, cut 2.0 s, kill agent while healing: lost: {LOST.what}\n    4 to 6"


def test_what_was_done_is_known_again_and_a_new_file_begins_with_nothing(tmp_path: Path) -> None:
    path = tmp_path / "soak" / "progress.json"
    assert Tally.load(path, 3) == Tally(3)
    tally().save(path)
    assert Tally.load(path, 3) == tally()


def test_the_table_has_a_line_for_each_fault() -> None:
    lines = tally().table().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["fault", "cut", "SIGKILL agent"]
