"""What is plugged in for a benchmark is found like an installed package, and does what it is told."""

import json
import math
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.flood import Sluice, Source
from benchmarks.machine import table
from benchmarks.plugged import plugged

ROOT = Path(__file__).parents[2]
EXHAUST = (sys.executable, "-m", "exhaust.main")
FOLDER = ROOT / "examples" / "plugin" / "exhaust_folder.py"
POINTS = {
    "exhaust.emitters": {"folder": "exhaust_folder:EMITTER"},
    "exhaust.actions": {"folder.move": "exhaust_folder:ACTION"},
}


def test_its_plug_ins_are_listed_as_of_an_installed_package(tmp_path: Path) -> None:
    environment = plugged(tmp_path / "site", FOLDER, POINTS)
    argv = [*EXHAUST, "plugins", "--json"]
    done = subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    listed = [json.loads(line) for line in done.stdout.splitlines()]
    ours = {(one["kind"], one["name"], one["missing"]) for one in listed if one["origin"] == "exhaust-folder 0.1.0"}
    assert ours == {("emitters", "folder", ""), ("actions", "folder.move", "")}


def test_its_settings_are_those_of_its_own_type(tmp_path: Path) -> None:
    environment = plugged(tmp_path / "site", FOLDER, POINTS)
    (tmp_path / "site.yaml").write_text("emitters: [{use: folder, paths: [/tmp], every: often}]\n")
    argv = [*EXHAUST, "check", str(tmp_path / "site.yaml")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "expected a duration such as 30s, got 'often'" in done.stdout


def test_a_table_is_aligned_and_its_numbers_are_to_three_digits() -> None:
    assert table(("what", "n"), [("long name", 1234), ("x", 0.123), ("y", 12345.6)]) == (
        "what            n\nlong name   1,234\nx            0.12\ny          12,346"
    )


def test_the_records_of_a_benchmark_are_of_230_bytes() -> None:
    sizes = [
        len(msgspec.json.encode({**Source.metric(n), "time": 1.8e9 + 0.123456})) for n in range(10**6, 10**6 + 890)
    ]
    assert sum(sizes) / len(sizes) == pytest.approx(230, abs=3)


def test_a_rate_makes_each_record_at_its_own_moment_and_some_of_them_faults(tmp_path: Path) -> None:
    with Sluice(tmp_path) as sluice:
        source = Source(sluice)
        sluice.set(rate=1000, faults=5, most=3, allowed=math.inf)
        made = [record for now in (100.0, 100.5, 101.0) for record in source.records("", now)]
    assert [record.time for record in made[:3]] == [100.0, 100.001, 100.002]
    assert len(made) == 1001
    faults = [record for record in made if record.fields.get("state") == "faulty"]
    assert [record.fields["subject"] for record in faults] == ["100199000", "100399000", "100599000"]


def test_a_fault_that_was_acted_upon_is_said_to_be_gone(tmp_path: Path) -> None:
    with Sluice(tmp_path) as sluice:
        sluice.set(faulted=2)
        (gone,) = Source(sluice).records("subject-1 99.5 99.6", 100.0)
        assert gone.fields == {"subject": "subject-1", "state": "well"}
        assert sluice.open == 1


def test_without_a_rate_there_are_as_many_records_as_are_allowed(tmp_path: Path) -> None:
    with Sluice(tmp_path) as sluice:
        source = Source(sluice)
        sluice.set(allowed=700)
        assert [len(list(source.records("", 100.0))) for _ in range(3)] == [500, 200, 0]
