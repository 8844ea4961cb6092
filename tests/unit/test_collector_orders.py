"""What people want: signed orders that come out once, and are remembered with who wanted what and why."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exhaust.ids import execution_of
from exhaust.messages import Decision, Order, Reason
from tests.unit.collector_system import System, T, bearer, person

TRIGGER = "/api/v1/workflows/restart-service/trigger"
SHOP: dict[str, Any] = {"inputs": {"service": "shop"}, "host": "web-01", "reason": "after the upgrade"}


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path).running() as running:
        yield running


async def test_a_trigger_is_a_signed_order_whose_run_is_known_beforehand(system: System) -> None:
    answer = await system.post(TRIGGER, SHOP)
    order = await system.order()
    assert (order.order, order.target, order.by) == ("trigger", "restart-service", "local")
    assert (order.inputs, order.host, order.reason) == ({"service": "shop"}, "web-01", "after the upgrade")
    assert answer == {"execution": execution_of(order.id), "order": order.id}
    assert (uuid.UUID(order.id).version, order.time) == (7, T + 1)


async def test_whoever_has_an_own_token_orders_in_their_own_name(tmp_path: Path) -> None:
    ann = person(tmp_path, "ann", "trigger")
    async with System(tmp_path, people=(ann,)).running() as system:
        await system.post(TRIGGER, SHOP, Authorization=bearer(ann))
        assert (await system.order()).by == "ann"


@pytest.mark.parametrize(
    ("workflow", "wish", "status", "detail"),
    [
        ("restart-servce", SHOP, 404, "no workflow is called 'restart-servce', did you mean 'restart-service'?"),
        ("xyz", SHOP, 404, "no workflow is called 'xyz'"),
        ("restart-service", {}, 400, "needs 'service'"),
        ("restart-service", {"inputs": {"service": None}}, 400, "needs 'service'"),
        ("restart-service", {"inputs": {"servce": "x"}}, 400, "no input 'servce', did you mean 'service'?"),
        ("tell", {"inputs": {"x": 1}}, 400, "no input 'x': it has none"),
        ("restart-service", {**SHOP, "host": "web-1"}, 400, "not in the inventory, did you mean 'web-01'?"),
        ("restart-service", {"inputs": {"service": "x"}}, 400, "acts on a host: give 'host'"),
        ("restart-service", {**SHOP, "input": {}}, 400, "unknown field `input`"),
        ("restart-service", {**SHOP, "reason": "x" * 301}, 400, "'reason' is of 301 characters"),
        ("restart-service", {**SHOP, "inputs": {"service": "x" * 40_000}}, 413, "inputs of at most"),
    ],
)
async def test_what_cannot_be_is_told_at_once_and_nothing_is_sent(
    system: System, workflow: str, wish: Any, status: int, detail: str
) -> None:
    answer = await system.post(f"/api/v1/workflows/{workflow}/trigger", wish, status)
    assert detail in answer["detail"]
    assert (await system.get("/api/v1/orders"))["items"] == []


async def test_a_run_without_a_host_is_one_where_none_is_needed(system: System) -> None:
    await system.post("/api/v1/workflows/tell/trigger", b"")
    assert (await system.order()).host is None


@pytest.mark.parametrize("path", [TRIGGER, "/api/v1/halt"])
async def test_the_same_key_is_the_same_order_and_it_is_sent_once(system: System, path: str) -> None:
    wish = SHOP if path == TRIGGER else {}
    first = await system.post(path, wish, key="deploy-7")
    system.clock.advance(5)
    assert await system.post(path, wish, key="deploy-7") == first
    assert await system.post(path, wish, key="deploy-8") != first
    sent = [await system.order(), await system.order()]
    assert [order.id for order in sent].count(first["order"]) == 1
    assert uuid.UUID(first["order"]).version == 5


async def test_a_key_counts_after_a_restart_and_for_the_same_person_and_wish_only(tmp_path: Path) -> None:
    ann, key = person(tmp_path, "ann", "trigger"), "deploy-7"
    async with System(tmp_path, people=(ann,)).running() as system:
        first = await system.post(TRIGGER, SHOP, key=key)
    async with System(tmp_path, people=(ann,)).running() as system:
        assert await system.post(TRIGGER, SHOP, key=key) == first
        assert await system.post(TRIGGER, SHOP, Authorization=bearer(ann), key=key) != first
        answer = await system.post(TRIGGER, {**SHOP, "host": "db-1"}, 409, key=key)
        assert "used for an order with another host" in answer["detail"]
        await system.post(TRIGGER, SHOP, 400, key="two words")


async def test_halts_stand_in_the_status_until_they_are_lifted_and_outlive_a_restart(tmp_path: Path) -> None:
    async with System(tmp_path).running() as system:
        await system.post("/api/v1/halt", {"reason": "lunch"})
        await system.post("/api/v1/halt", {"host": "web-01"})
        assert [(await system.order()).target for _ in range(2)] == [None, "web-01"]
    async with System(tmp_path).running() as system:
        status = await system.get("/status")
        assert status["halt"] is True
        assert [(one["target"], one["by"], one["reason"]) for one in status["halts"]] == [
            (None, "local", "lunch"), ("web-01", "local", ""),
        ]  # fmt: skip
        await system.post("/api/v1/resume")
        status = await system.get("/status")
        assert (status["halt"], status["halts"]) == (False, [])


async def test_a_halt_of_one_host_is_not_of_everything(system: System) -> None:
    await system.post("/api/v1/halt", {"host": "web-01"})
    status = await system.get("/status")
    assert (status["halt"], [one["target"] for one in status["halts"]]) == (False, ["web-01"])
    answer = await system.post("/api/v1/halt", {"host": "web-1"}, 400)
    assert "did you mean 'web-01'?" in answer["detail"]


async def test_the_file_halts_too_and_the_status_says_so(system: System) -> None:
    (system.state / "HALT").touch()
    status = await system.get("/status")
    assert status["halt"] is True
    assert [(one["target"], one["by"]) for one in status["halts"]] == [(None, str(system.state / "HALT"))]


async def test_a_resume_overrules_a_halt_though_the_clock_was_set_back(tmp_path: Path) -> None:
    async with System(tmp_path).running() as system:
        system.clock.advance(3600)
        await system.post("/api/v1/halt")
    async with System(tmp_path).running() as system:
        await system.post("/api/v1/resume")
        assert (await system.get("/status"))["halt"] is False


def _refusal(order: Order) -> Decision:
    return Decision(
        id="d1", time=order.time + 0.01, causes=(order.id,), rule="trigger:restart-service", rung=0, cause=order.id,
        outcome="refused", reasons=[Reason("halt", "halted by ann", "not halted")], host=order.host,
        execution=execution_of(order.id),
    )  # fmt: skip


async def test_an_order_is_explained_by_its_own_id_and_those_of_what_came_of_it(system: System) -> None:
    asked = await system.post(TRIGGER, SHOP)
    order = await system.order()
    alone = await system.get(f"/api/v1/explain/{asked['execution']}")
    assert [one["id"] for one in alone["orders"]] == [order.id]
    await system.tell(_refusal(order))
    for name in (order.id, asked["execution"], "d1", asked["execution"][:8]):
        chain = await system.get(f"/api/v1/explain/{name}")
        assert [one["id"] for one in chain["decisions"]] == ["d1"], name
        first = chain["steps"][0]
        assert (first["kind"], first["time"]) == ("order", order.time)
        assert first["what"] == "local: trigger restart-service on web-01: after the upgrade"


async def test_what_a_halt_held_back_is_explained_with_it(system: System) -> None:
    halted = (await system.post("/api/v1/halt", {"reason": "lunch"}))["order"]
    refused = _refusal(await system.order())
    await system.tell(msgspec.structs.replace(refused, rule="restart", cause="e1", execution=None))
    chain = await system.get("/api/v1/explain/d1")
    assert [one["id"] for one in chain["orders"]] == [halted]
    assert chain["steps"][0]["what"] == "local: halt everything: lunch"


async def test_orders_are_listed_and_followed(system: System) -> None:
    async with system.http.get("/api/v1/stream?kind=order") as answer:
        await answer.content.readline()
        asked = await system.post(TRIGGER, SHOP)
        lines = [await answer.content.readline() for _ in range(4)]
    assert msgspec.json.decode(lines[-1][6:])["id"] == asked["order"]
    (item,) = (await system.get("/api/v1/orders?by=local&order=trigger"))["items"]
    assert (item["id"], item["execution"], item["reason"]) == (asked["order"], asked["execution"], "after the upgrade")
    assert await system.get(f"/api/v1/orders/{asked['order']}") == item
