"""Parameters from the wire: held to the action's own type, and to what is safe on a command line."""

from pathlib import Path
from typing import Any

import pytest

from agents.command import Run
from agents.output import MOST_BYTES, fitting
from agents.params import ParamsError, parse
from agents.service import Named, Stop
from exhaust.messages import Result
from exhaust.signing import MOST_BYTES as MOST_SEALED
from exhaust.signing import Keys


@pytest.mark.parametrize(("given", "seconds"), [("60s", 60.0), (60, 60.0), (0.25, 0.25), ("500ms", 0.5)])
def test_a_duration_is_text_or_seconds(given: Any, seconds: float) -> None:
    assert parse({"service": "shop", "stop_timeout": given}, Stop).stop_timeout == seconds


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({}, "'service' is needed"),
        ({"service": "shop", "evil": 1}, "unknown key 'evil'"),
        ({"service": 7}, "expected text"),
        ({"service": ["shop"]}, "expected text"),
        ({"service": None}, "expected text"),
        ({"service": "shop", "kill": "false"}, "expected true or false"),
        ({"service": "shop", "stop_timeout": -1}, "expected a duration"),
        ({"service": "shop", "stop_timeout": True}, "expected a duration"),
        ({"service": "-shop"}, "begins with '-'"),
        ({"service": "shop\n"}, "control character"),
        ({"service": "sh\0p"}, "control character"),
        ({"service": "\x1b[2J"}, "control character"),
        ({"service": "x" * 257}, "longer than 256"),
        ({"service": "shop", "-x": 1}, "begins with '-'"),
    ],
)
def test_what_does_not_fit_the_type_is_refused(params: dict[str, Any], what: str) -> None:
    with pytest.raises(ParamsError, match=what):
        parse(params, Stop)


@pytest.mark.parametrize("value", ["$(reboot)", "`id`", "a;b", "a|b", "${{ x }}", "%s", "../../etc", "é\u0430"])
def test_what_means_something_only_to_a_shell_is_plain_text(value: str) -> None:
    assert parse({"service": value}, Named).service == value


def test_every_argument_of_a_command_is_looked_at() -> None:
    assert parse({"command": "x", "args": ["a", "b"]}, Run).args == ("a", "b")
    with pytest.raises(ParamsError, match="begins with '-'"):
        parse({"command": "x", "args": ["a", "--force"]}, Run)


@pytest.mark.parametrize(
    "output",
    [
        {"exit": 1, "stdout": "x" * 65_536, "stderr": "\x1b" * 65_536},
        {"many": [{"text": "\x00" * 1000}] * 500},
        "x" * 1_000_000,
    ],
)
def test_an_output_too_large_is_cut_so_that_its_result_can_be_sealed(tmp_path: Path, output: Any) -> None:
    cut = fitting(output)
    result = Result(id="r", time=1.0, command="c", key="k", execution="e", host="h", state="failed", output=cut)
    sealed = Keys(tmp_path / "keys").signer("agent").seal(result)
    assert len(sealed) <= MOST_SEALED
    assert "more were cut" in str(cut)


def test_an_output_that_fits_is_left_alone() -> None:
    output = {"pid": 1, "text": "x" * (MOST_BYTES // 2)}
    assert fitting(output) is output
