"""`exhaust try` and `exhaust test` as they are typed: what goes where, exit codes, and the end by Ctrl-C."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXHAUST = Path(sys.executable).with_name("exhaust")
GOLDEN = Path(__file__).parents[1] / "golden" / "rehearsal"


def exhaust(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(EXHAUST), *words], capture_output=True, text=True, check=False, timeout=60)


def test_an_emitter_that_is_tried_prints_its_records_for_as_long_as_it_is_told() -> None:
    done = exhaust("try", "performance", "--set", "every=200ms", "--for", "1s", "--stream", "performance.system")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert len(records) >= 2
    assert all(list(record)[:2] == ["stream", "time"] for record in records)
    assert all(record["stream"] == "performance.system" and record["load1"] >= 0 for record in records)


def test_an_emitter_that_has_nothing_to_say_is_said_to_have_said_nothing() -> None:
    done = exhaust("try", "service", "--for", "100ms")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[0] == "emitter service: no record within 0.1 s"


def test_the_one_who_tries_an_emitter_can_stop_it_at_any_time() -> None:
    words = [str(EXHAUST), "try", "performance", "--set", "every=500ms", "--for", "1h"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tried:
        assert tried.stdout is not None
        assert json.loads(tried.stdout.readline())["stream"].startswith("performance.")
        tried.send_signal(signal.SIGINT)
        _, said = tried.communicate(timeout=30)
    assert (tried.returncode, said) == (130, "")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["try", "perfomance"], 2),
        (["try", "performance", "--set", "every=often"], 2),
        (["try", "performance", "--for", "soon"], 2),
        (["try", "service", "--stream", "stat"], 2),
        (["test", str(GOLDEN / "nowhere.yaml")], 2),
    ],
)
def test_wrong_usage_is_told_in_one_line(words: list[str], code: int) -> None:
    done = exhaust(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("name", "code"), [("all-kinds-of-steps", 0), ("nothing", 1), ("misspelt", 1)])
def test_the_exit_code_of_tests_says_whether_all_have_passed(name: str, code: int) -> None:
    done = exhaust("test", str(GOLDEN / f"{name}.yaml"))
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.splitlines()[-1].endswith("failed")
