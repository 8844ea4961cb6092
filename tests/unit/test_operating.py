"""The commands by which people take part, against a collector that answers."""

import asyncio
import contextlib
import io
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exhaust.commands.client import Client
from exhaust.commands.operating import given, run_emit, run_hold, run_trigger
from exhaust.commands.reading import run_explain, run_items, run_records
from exhaust.errors import UnreachableError, UsageError
from exhaust.ids import execution_of
from exhaust.messages import Batch, Decision, ExecutionEvent, Order, Reason
from tests.unit.collector_system import CHAIN, System, T, person

WISH: dict[str, Any] = {"inputs": {"service": "shop"}, "host": "web-01", "reason": ""}


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path).running() as running:
        yield running


@pytest.fixture
async def client(system: System) -> AsyncIterator[Client]:
    async with system.commands() as opened:
        yield opened


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[int]:
    source = os.open(path, os.O_RDONLY)
    yield source
    os.close(source)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    source, sink = os.pipe()
    yield source, sink
    os.close(source)


class Paper(io.StringIO):
    """Somewhere to write, of which one can await what stands there."""

    def __init__(self) -> None:
        super().__init__()
        self._written = asyncio.Event()

    def write(self, text: str) -> int:
        self._written.set()
        return super().write(text)

    async def holds(self, condition: Callable[[str], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition(self.getvalue()):
                self._written.clear()
                await self._written.wait()


class Terminal(Paper):
    """A terminal that remembers what it was told."""

    def isatty(self) -> bool:
        return True


async def test_trigger_shows_the_id_of_the_run(system: System, client: Client) -> None:
    out = io.StringIO()
    assert await run_trigger(client, "restart-service", WISH, out=out) == 0
    assert out.getvalue() == f"{execution_of((await system.order()).id)}\n"


async def test_an_unknown_workflow_is_wrong_usage(client: Client) -> None:
    with pytest.raises(UsageError, match="did you mean 'restart-service'"):
        await run_trigger(client, "restart", WISH)


async def test_who_may_not_is_told_which_scope_is_lacking(tmp_path: Path) -> None:
    ann = person(tmp_path, "ann")
    async with System(tmp_path, people=(ann,)).running() as system, system.commands(Path(ann.token_file)) as client:
        with pytest.raises(UsageError, match="lacks the scope 'operate'"):
            await run_hold(client, "halt", None, "")


def _event(order: Order, state: Any, **more: Any) -> ExecutionEvent:
    execution = execution_of(order.id)
    return ExecutionEvent(
        id=f"{execution}-{state}-{more.get('task')}", time=T + 2, execution=execution, workflow="restart-service",
        definition="abc", state=state, host="web-01", **more,
    )  # fmt: skip


@pytest.mark.parametrize(("state", "verdict", "code"), [("succeeded", "unknown", 0), ("failed", "not_recovered", 1)])
async def test_waiting_ends_with_the_run_and_its_exit_code_says_how(
    system: System, client: Client, state: Any, verdict: Any, code: int
) -> None:
    out, err = io.StringIO(), Terminal()
    waiting = asyncio.create_task(run_trigger(client, "restart-service", WISH, wait=True, out=out, err=err))
    order = await system.order()
    await system.tell(_event(order, "running"), _event(order, "failed", task="restart", error="it would not"))
    await system.tell(_event(order, state, verdict=verdict, reason="so it is"))
    assert await asyncio.wait_for(waiting, 10) == code
    assert out.getvalue().splitlines() == [
        execution_of(order.id), f"{state}, {verdict}: so it is", "  restart: it would not",
    ]  # fmt: skip


async def test_what_goes_on_is_shown_on_a_terminal_only(system: System, client: Client) -> None:
    out, err = io.StringIO(), Terminal()
    waiting = asyncio.create_task(run_trigger(client, "restart-service", WISH, wait=True, out=out, err=err))
    order = await system.order()
    await system.tell(_event(order, "running"), _event(order, "running", task="restart"))
    await err.holds(lambda text: "running: restart" in text)
    await system.tell(_event(order, "succeeded", verdict="unknown"))
    assert await asyncio.wait_for(waiting, 10) == 0


async def test_a_refused_run_ends_the_waiting_with_the_reasons(system: System, client: Client) -> None:
    out = io.StringIO()
    waiting = asyncio.create_task(
        run_trigger(client, "restart-service", WISH, wait=True, as_json=True, out=out, err=io.StringIO())
    )
    order = await system.order()
    reason = Reason("halt", "halted by ann", "not halted")
    decision = Decision(
        id="d1", time=T, rule="trigger:restart-service", rung=0, cause=order.id, outcome="refused", reasons=[reason],
        execution=execution_of(order.id),
    )  # fmt: skip
    await system.tell(decision)
    assert await asyncio.wait_for(waiting, 10) == 1
    first, last = map(json.loads, out.getvalue().splitlines())
    assert first == {"execution": execution_of(order.id), "order": order.id}
    assert (last["state"], last["reasons"]) == ("refused", [msgspec.to_builtins(reason)])


@pytest.mark.parametrize(
    ("words", "inputs"),
    [
        ([], {}),
        (["a=1", "b:=1", "c:=[true]"], {"a": "1", "b": 1, "c": [True]}),
        (["a=x=y:=z", "b="], {"a": "x=y:=z", "b": ""}),
        (["a=two\nlines"], {"a": "two\nlines"}),
    ],
)
def test_inputs_are_text_or_json(words: list[str], inputs: dict[str, Any]) -> None:
    assert given(words) == inputs


@pytest.mark.parametrize("words", [["a"], ["=1"], ["a:=x"], ["a=1", "a=2"], [":=1"], ["a b=1"]])
def test_inputs_that_are_none_are_wrong_usage(words: list[str]) -> None:
    with pytest.raises(UsageError, match="input"):
        given(words)


async def test_halt_and_resume_say_of_what(system: System, client: Client) -> None:
    out = io.StringIO()
    assert await run_hold(client, "halt", None, "lunch", out=out) == 0
    assert await run_hold(client, "resume", "web-01", "", out=out) == 0
    assert out.getvalue() == "halted: everything\nresumed: web-01\n"
    first, second = [await system.order() for _ in range(2)]
    assert (first.order, first.target, first.reason) == ("halt", None, "lunch")
    assert (second.order, second.target) == ("resume", "web-01")


async def test_a_halt_that_nobody_hears_yet_is_not_said_to_be_one(system: System, client: Client) -> None:
    await system.broker.__aexit__(None, None, None)
    out, err = io.StringIO(), io.StringIO()
    assert await run_hold(client, "halt", None, "", out=out, err=err) == 1
    assert err.getvalue() == "the broker is away: who acts hears of it when it is back, and not before\n"
    assert (await system.get("/status"))["halt"] is True


async def test_emitting_takes_what_comes_as_it_comes(system: System, client: Client, pipe: tuple[int, int]) -> None:
    source, sink = pipe
    out, err = io.StringIO(), Terminal()
    sending = asyncio.create_task(run_emit(client, "traffic", source, out=out, err=err))
    os.write(sink, b'{"n": 1}\n{"n": 2}\n{"n"')
    await err.holds(lambda text: "2 records" in text)
    os.write(sink, b": 3}")
    os.close(sink)
    assert await asyncio.wait_for(sending, 10) == 0
    assert out.getvalue() == "3 records taken\n"
    assert (await system.get("/status"))["ledger"][0]["records"] == 3


async def test_a_large_file_goes_in_parts_and_a_bad_line_is_told_by_its_own_number(
    system: System, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "large.jsonl"
    path.write_bytes(b'{"text": "%b"}\n' % (b"x" * 1000) * 1500 + b"no\n")
    with reading(path) as file, pytest.raises(UsageError, match=r"^line 1501: is no JSON: .*; \d+ records before"):
        await run_emit(client, "traffic", file, err=io.StringIO())


async def test_emitting_nothing_asks_all_the_same(client: Client) -> None:
    with reading(os.devnull) as nothing:
        assert await run_emit(client, "traffic", nothing, out=io.StringIO(), err=io.StringIO()) == 0
        with pytest.raises(UsageError, match="is no stream"):
            await run_emit(client, "No", nothing, err=io.StringIO())


async def test_a_line_without_end_is_not_read_for_ever(client: Client) -> None:
    with reading("/dev/zero") as endless, pytest.raises(UsageError, match="line 1: is of more than 65536 bytes"):
        await run_emit(client, "traffic", endless, err=io.StringIO())


@pytest.mark.parametrize("kind", ["facts", "predictions", "decisions", "executions"])
async def test_an_empty_list_says_so_on_a_terminal_and_nothing_in_a_pipe(client: Client, kind: str) -> None:
    out, err = Terminal(), Terminal()
    await run_items(client, kind, {}, out=out, err=err)
    assert (out.getvalue(), err.getvalue().startswith(f"no {kind}: ")) == ("", True)
    for filters, shown, told in (({"id": "x"}, Terminal(), f"no {kind} like that\n"), ({}, io.StringIO(), "")):
        err = Terminal()
        await run_items(client, kind, filters, out=shown, err=err)
        assert err.getvalue() == told


def _batch(host: str, seq: int, *values: int) -> Batch:
    return Batch(
        id=f"{host}-{seq}", time=T, host=host, emitter="load", stream="system", epoch=1, seq=seq,
        records=[{"time": T, "load1": value} for value in values],
    )  # fmt: skip


async def test_records_are_the_next_batch_of_each_host_that_sends_them(system: System, client: Client) -> None:
    await system.tell(_batch("web-01", 0, 0), _batch("db-1", 0, 0))
    out = io.StringIO()
    showing = asyncio.create_task(run_records(client, "load.system", as_json=True, within=10, out=out))
    await _follows(system)
    await system.tell(_batch("web-01", 1, 1, 2), _batch("web-01", 2, 3), _batch("db-1", 1, 4))
    assert await asyncio.wait_for(showing, 10) == 0
    assert [json.loads(line)["load1"] for line in out.getvalue().splitlines()] == [1, 2, 4]


async def test_where_nothing_comes_it_ends_and_says_so(client: Client) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert await run_records(client, "load.system", within=0.1, out=out, err=err) == 1
    assert err.getvalue() == "no record of 'load.system' came: 'exhaust hosts' shows who sends what\n"


async def test_following_records_goes_on_until_the_system_stops(system: System, client: Client) -> None:
    out = io.StringIO()
    showing = asyncio.create_task(run_records(client, "load.*", "web-01", follow=True, out=out))
    await _follows(system)
    await system.tell(_batch("web-01", 0, 1), _batch("db-1", 0, 2), _batch("web-01", 1, 3))
    system.until.set()
    with pytest.raises(UnreachableError, match="has stopped"):
        await asyncio.wait_for(showing, 10)
    assert [line.split()[-1] for line in out.getvalue().splitlines()] == ["load1=1", "load1=3"]


async def _follows(system: System) -> None:
    async with asyncio.timeout(10):
        while not system.collector._feed._followers:  # noqa: ASYNC110  nobody else is told of a follower
            await asyncio.sleep(0.01)


async def test_an_id_may_be_given_by_its_beginning(system: System, client: Client) -> None:
    name = "0190163d-0000-739b-aea5-966c26f8ad91"
    await system.tell(msgspec.structs.replace(CHAIN[0], id=name, episode=name, causes=(), evidence=[]))
    out = io.StringIO()
    assert await run_explain(client, name[:8], False, out) == 0
    assert name in out.getvalue()


async def test_hosts_are_shown_again_when_there_is_more_to_tell(system: System, client: Client) -> None:
    out = Paper()
    following = asyncio.create_task(run_items(client, "hosts", {}, follow=True, as_json=True, out=out))
    await out.holds(lambda text: text.count("\n") == 2)
    await system.tell(CHAIN[0])
    await out.holds(lambda text: text.count("\n") == 3)
    following.cancel()
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(host["name"], host["open_facts"]) for host in told] == [("db-1", 0), ("web-01", 0), ("web-01", 1)]
