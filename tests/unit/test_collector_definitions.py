"""Hosts, rules and workflows over HTTP: as they are defined, with what has become of each."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from activator.rules import Rule
from collector.definitions import Definitions
from exhaust.language import define
from exhaust.messages import Batch, Decision, Fact, Prediction
from tests.unit.collector_system import BATCH, CHAIN, DEFINITIONS, RESTART, TELL, System, T

RULE = define(Rule, {"name": "restart", "on": "service.down", "run": "restart-service", "mode": "auto"})
OTHER = define(Rule, {"name": "calm", "on": "x.y", "run": "tell"})


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    definitions = Definitions(DEFINITIONS.hosts, (RULE, OTHER), (TELL, RESTART))
    async with System(tmp_path, definitions=definitions).running() as running:
        yield running


def batch(host: str, emitter: str, stream: str) -> Batch:
    name = f"{host}-{emitter}-{stream}"
    return Batch(id=name, time=T, host=host, emitter=emitter, stream=stream, epoch=1, seq=0, records=[{"time": T}])


async def items(system: System, path: str) -> list[Any]:
    found: list[Any] = (await system.get(path))["items"]
    return found


async def test_hosts_are_those_of_the_inventory_and_those_that_were_heard(system: System) -> None:
    await system.tell(batch("web-01", "service", "state"), batch("web-01", "performance", "system"))
    await system.tell(batch("stranger", "custom", "x"), CHAIN[0])
    listed = await items(system, "/api/v1/hosts")
    assert [(host["id"], host["known"], host["open_facts"]) for host in listed] == [
        ("db-1", True, 0), ("stranger", False, 0), ("web-01", True, 1),
    ]  # fmt: skip
    assert listed[0]["last_heard"] is None
    assert listed[2] == {
        "id": "web-01", "name": "web-01", "labels": {"role": "web"}, "known": True, "last_heard": T + 1,
        "emitters": ["performance", "service"], "streams": ["performance.system", "service.state"], "open_facts": 1,
    }  # fmt: skip
    assert await system.get("/api/v1/hosts/web-01") == listed[2]
    await system.get("/api/v1/hosts/web-02", 404)


async def test_rules_show_their_definition_and_how_their_candidates_stand(system: System) -> None:
    await system.tell(*CHAIN)
    refused = Decision(id="d2", time=T, rule="restart", rung=0, cause="e9", outcome="refused")
    await system.tell(refused, msgspec.structs.replace(refused, id="d3", cause="e8"))
    calm, restart = await items(system, "/api/v1/rules")
    assert (calm["id"], calm["decisions"]) == ("calm", {})
    assert (restart["hash"], restart["source"]) == (RULE.hash, RULE.source)
    assert restart["decisions"] == {"fired": 1, "refused": 2}
    await system.tell(msgspec.structs.replace(refused, id="d4", outcome="fired", time=T + 1, last_time=T + 1))
    assert (await system.get("/api/v1/rules/restart"))["decisions"] == {"fired": 2, "refused": 1}


async def test_workflows_show_how_well_their_runs_went_and_so_after_a_restart(tmp_path: Path) -> None:
    async with System(tmp_path).running() as first:
        await first.tell(*CHAIN[:4])
        assert (await first.get("/api/v1/workflows/restart-service"))["runs"] == {"under_way": 1}
        await first.tell(*CHAIN[4:], CHAIN[0])
    async with System(tmp_path).running() as second:
        (flow,) = await items(second, "/api/v1/workflows?name=restart-service")
        assert (flow["hash"], flow["runs"]) == (RESTART.hash, {"recovered": 1})
        assert (await second.get("/api/v1/hosts/web-01"))["open_facts"] == 0


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("known=true", ["db-1", "web-01"]), ("labels.role=web", ["web-01"]), ("labels.role=-", ["db-1"]),
        ("limit=1", ["db-1"]), ("after=db-1", ["web-01"]), ("after=web-01", []), ("name=x", []),
    ],
)  # fmt: skip
async def test_they_are_filtered_and_come_page_by_page(system: System, query: str, names: list[str]) -> None:
    answer = await system.get(f"/api/v1/hosts?{query}")
    assert [host["id"] for host in answer["items"]] == names
    assert answer["next"] == ("db-1" if query == "limit=1" else None)


async def test_a_field_that_nobody_has_is_refused(system: System) -> None:
    assert "no host has a field 'role'" in (await system.get("/api/v1/hosts?role=web", 400))["detail"]


PREDICTION = Prediction(
    id="p1", time=T, causes=(f"{BATCH}#7",), name="disk.filling", host="web-01", labels={"mountpoint": "/var"},
    episode="p1", state="open", reason="asserted", severity="warning", since=T, valid_until=T + 90, due=T + 3600,
    probability=0.9, horizon=43200.0,
)  # fmt: skip


async def test_predictions_have_a_shelf_of_their_own(system: System) -> None:
    later = msgspec.structs.replace(PREDICTION, id="p2", time=T + 30, due=T + 1800, probability=0.95)
    await system.tell(PREDICTION, later)
    (item,) = await items(system, "/api/v1/predictions")
    assert (item["id"], item["due"], item["probability"], item["horizon"]) == ("p1", T + 1800, 0.95, 43200.0)
    assert await items(system, "/api/v1/facts") == []
    assert (await system.get("/status"))["open_facts"] == 0


async def test_a_prediction_is_explained_with_what_was_decided_on_it(system: System) -> None:
    decided = Decision(id="d1", time=T + 1, rule="clean", rung=0, cause="p1", outcome="observed", causes=("p1",))
    await system.tell(PREDICTION, decided)
    chain = await system.get(f"/api/v1/explain/{BATCH}%237")
    assert [one["id"] for one in chain["predictions"]] == ["p1"]
    assert [step["kind"] for step in chain["steps"]] == ["record", "prediction", "decision"]
    assert "due 2024-06-14 11:14:09Z, probability 0.9" in chain["steps"][1]["what"]


async def test_the_worst_open_facts_come_first_in_the_status(system: System) -> None:
    severities = ["info", "critical", "warning", "error"] * 4
    for n, severity in enumerate(severities):
        fact = msgspec.structs.replace(CHAIN[0], id=f"f{n}", episode=f"f{n}", severity=severity, time=T + n / 100)
        await system.tell(fact)
    closed = msgspec.structs.replace(CHAIN[-1], id="c9", episode="f1", time=T + 2)
    assert isinstance(closed, Fact)
    await system.tell(closed)
    status = await system.get("/status")
    assert status["open_facts"] == 15
    assert [fact["severity"] for fact in status["worst_facts"]] == ["critical"] * 3 + ["error"] * 4 + ["warning"] * 3
    assert status["worst_facts"][0]["id"] == "f13"
