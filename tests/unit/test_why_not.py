"""Why a rule does not act, as it is asked of a running system: in 80 columns, and as JSON."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from activator.rules import Rule
from collector.definitions import Definitions
from exhaust.commands.refusing import run_why_not
from exhaust.language import define
from exhaust.messages import Decision, Fact, Reason
from tests.unit.collector_system import CHAIN, DEFINITIONS, System, T

RULES = [
    define(Rule, {"name": "restart", "on": "service.down", "run": "mend", "mode": "auto"}),
    define(Rule, {"name": "any", "on": ["disk.*", "service.*"], "run": "mend"}),
]
OPEN = CHAIN[0]
REFUSED = Decision(
    id="d9",
    time=T + 1,
    causes=("e1",),
    rule="restart",
    rung=0,
    cause="e1",
    outcome="refused",
    host="web-01",
    reasons=[Reason("cooldown", 3.2, "20 s since the last run"), Reason("mode", "observe", "auto")],
    count=4,
    last_time=T + 2,
)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path, definitions=Definitions(DEFINITIONS.hosts, RULES, ())).running() as running:
        yield running


async def asked(system: System, rule: str, host: str | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    async with system.commands() as client:
        code = await run_why_not(client, rule, host, out=out, err=err)
    assert all(len(line) <= 80 for line in out.getvalue().splitlines() if "explain" not in line)
    return code, out.getvalue(), err.getvalue()


async def test_each_guard_that_refused_is_told_with_what_it_found_and_wanted(system: System) -> None:
    await system.tell(OPEN, REFUSED)
    code, out, _ = await asked(system, "restart")
    assert code == 0
    assert "service.down" in out
    assert "refused, 4 times asked" in out
    assert "cooldown: 3.2, wants 20 s since the last run" in out
    assert "mode: observe, wants auto" in out


async def test_a_rule_that_did_act_leads_to_its_run(system: System) -> None:
    await system.tell(*CHAIN[:2])
    _, out, _ = await asked(system, "restart")
    assert "fired" in out
    assert "its run: exhaust explain x1" in out


async def test_where_nothing_is_open_that_is_the_reason_and_the_last_answer_is_shown(system: System) -> None:
    code, out, _ = await asked(system, "restart")
    assert (code, out) == (0, "nothing is open that 'restart' is on: service.down\n")
    await system.tell(*CHAIN)
    _, out, _ = await asked(system, "restart", "web-01")
    assert out.startswith("nothing is open that 'restart' is on on web-01: service.down\nthe last time: fired")


async def test_an_open_fact_about_which_nothing_was_decided_is_told(system: System) -> None:
    await system.tell(OPEN)
    _, out, _ = await asked(system, "restart")
    assert "nothing was decided about it" in out


async def test_patterns_and_hosts_choose_what_is_meant(system: System) -> None:
    elsewhere = msgspec.structs.replace(OPEN, id="e2", episode="e2", host="db-1")
    other = msgspec.structs.replace(OPEN, id="e3", episode="e3", name="cpu.hot")
    assert isinstance(elsewhere, Fact)
    await system.tell(OPEN, elsewhere, other)
    out = io.StringIO()
    async with system.commands() as client:
        await run_why_not(client, "any", None, as_json=True, out=out)
    found: list[Any] = [json.loads(line) for line in out.getvalue().splitlines()]
    assert sorted((one["fact"], one["host"], one["decision"]) for one in found) == [
        ("e1", "web-01", None), ("e2", "db-1", None),
    ]  # fmt: skip
    _, told, _ = await asked(system, "any", "db-1")
    assert "web-01" not in told


async def test_a_rule_that_is_not_there_is_told_with_the_nearest(system: System) -> None:
    code, out, err = await asked(system, "restrat")
    assert (code, out, err) == (1, "", "no rule is called 'restrat', did you mean 'restart'?\n")
