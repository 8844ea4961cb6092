"""The page about performance says what the benchmarks have kept, all of it and nothing else."""

import json
from pathlib import Path

from benchmarks.machine import save, table
from benchmarks.report import PAGE, page


def test_the_page_is_what_the_results_give() -> None:
    assert PAGE.read_text() == page()


def test_what_a_benchmark_keeps_is_on_the_page_with_its_machine(tmp_path: Path) -> None:
    (tmp_path / "speed.png").touch()
    text = table(("what", "n"), [("one", 1234.5)])
    save("speed", title="How quick", command="make bench-speed", text=text, rows=[{"n": 1234.5}], folder=tmp_path)
    made = page(tmp_path)
    assert "## How quick\n\n`make bench-speed`, 20" in made
    assert f"```\n{text}\n```" in made
    assert "![How quick](../benchmarks/results/speed.png)" in made
    assert "Python 3." in made
    assert "fdatasync p50" in made


def test_a_smoke_run_is_on_no_page(tmp_path: Path) -> None:
    path = save("speed", title="How quick", command="x", text="1", rows=[], quick=True, folder=tmp_path)
    assert json.loads(path.read_text())["text"] == "1"
    assert "How quick" not in page(tmp_path)
