"""The units for systemd: what they run are commands that there are, and they use what the processes offer."""

import configparser
from pathlib import Path

import pytest

from exhaust.commands.line import parser
from exhaust.lifecycle.service import LEAVE_WITHIN

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))


def service(path: Path) -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.read(path)
    return unit["Service"]


def test_there_is_one_for_all_and_one_for_each() -> None:
    assert [path.name for path in UNITS] == ["exhaust.service", "exhaust@.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_and_reloads_what_there_is(path: Path) -> None:
    unit = service(path)
    words = unit["ExecStart"].replace("%i", "analyzers").split()
    assert parser().parse_args(words[1:]).config == "/etc/exhaust"
    assert (unit["Type"], unit["NotifyAccess"], unit["ExecReload"]) == ("notify", "main", "/bin/kill -HUP $MAINPID")
    assert int(unit["WatchdogSec"]) >= 10
    assert int(unit["TimeoutStopSec"]) > LEAVE_WITHIN
