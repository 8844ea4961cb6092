"""`exhaust try`: settings from options, the records of one emitter as JSON lines, and why there are none."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from exhaust.clock import Clock, SystemClock
from exhaust.commands.trying import emitter_of, line, observe, settings_of
from exhaust.errors import ExhaustError, UsageError
from exhaust.main import CATALOGUE
from exhaust.plugins import Emitter, Lost, Record, Settings
from exhaust.settings import Duration


class Inner(Settings, frozen=True):
    most: int = 1
    names: tuple[str, ...] = ()


class Counting(Settings, frozen=True, kw_only=True):
    until: int
    every: Duration = 0.0
    then: str = "wait"
    inner: Inner = Inner()


async def count(settings: Counting, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record | Lost]:
    for number in range(settings.until):
        yield Record(float(number), {"n": number}, stream="even" if number % 2 == 0 else "odd")
    match settings.then:
        case "wait":
            await asyncio.Event().wait()
        case "give up":
            raise TimeoutError("nobody is there")
        case "fail together":
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        case "tell elsewhere":
            yield Record(0.0, {}, stream="third")
        case "tell no data":
            yield Record(0.0, {"what": object()}, stream="odd")
        case "lose":
            yield Lost("overflow", 7, stream="odd")
            await asyncio.Event().wait()
        case "go on":
            while True:
                yield Record(0.0, {}, stream="odd")


async def fail() -> None:
    raise OSError("no such device")


COUNTING = Emitter("counting", Counting, count, streams={"even": {}, "odd": {}})


async def shown(then: str = "wait", *, until: int = 3, streams: tuple[str, ...] = ("even", "odd")) -> list[Any]:
    out = io.StringIO()
    settings = Counting(until=until, then=then)
    told = await observe(COUNTING, settings, SystemClock(), seconds=0.2, streams=streams, out=out)
    lines = [json.loads(text) for text in out.getvalue().splitlines()]
    assert told == len(lines)
    return lines


async def test_each_record_is_a_line_with_its_stream_and_time() -> None:
    assert await shown(until=2) == [
        {"stream": "counting.even", "time": 0.0, "n": 0},
        {"stream": "counting.odd", "time": 1.0, "n": 1},
    ]


async def test_only_the_streams_that_are_asked_for_are_shown() -> None:
    assert [record["n"] for record in await shown(until=5, streams=("odd",))] == [1, 3]


async def test_what_a_source_has_lost_is_said_beside_the_records(capsys: pytest.CaptureFixture[str]) -> None:
    await shown("lose")
    assert capsys.readouterr().err == "counting.odd: 7 records are lost (overflow)\n"


async def test_an_emitter_that_is_never_short_of_records_is_stopped_in_time_too() -> None:
    async with asyncio.timeout(30):
        assert len(await shown("go on")) > 3


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("give up", "emitter counting failed: TimeoutError: nobody is there"),
        ("fail together", "emitter counting failed: OSError: no such device"),
        ("tell elsewhere", "failed: ValueError: stream 'third' is not among the emitter's: even, odd"),
        ("tell no data", "a record of counting.odd cannot be sent: Encoding objects of type object is unsupported"),
        ("end", "emitter counting ended by itself"),
    ],
)
async def test_an_emitter_that_fails_says_why(then: str, why: str) -> None:
    with pytest.raises(ExhaustError, match=why):
        await shown(then)


def test_what_a_terminal_could_take_for_a_command_is_escaped() -> None:
    assert line("s", Record(1.0, {"a": "\x1b[2J\x7f\x9bé"})) == (
        '{"stream": "s", "time": 1.0, "a": "\\u001b[2J\\u007f\\u009b\\u00e9"}'
    )


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["until=3"], Counting(until=3)),
        (["until=3", "every=1s"], Counting(until=3, every=1.0)),
        (["until=3", "then=a=b"], Counting(until=3, then="a=b")),
        (["until=3", 'then="a: b"'], Counting(until=3, then="a: b")),
        (["inner.most=5", "until=1", "inner.names=[a, b]"], Counting(until=1, inner=Inner(most=5, names=("a", "b")))),
        (["inner={most: 5}", "inner.names=[a]", "until=1"], Counting(until=1, inner=Inner(most=5, names=("a",)))),
        (['inner={"most": 5,\n  "names": ["a"]}', "until=1"], Counting(until=1, inner=Inner(most=5, names=("a",)))),
    ],
)
def test_options_are_settings_as_in_yaml(options: list[str], settings: Counting) -> None:
    assert settings_of(COUNTING, options) == settings


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ([], ["--set: 'until' is needed"]),
        (
            ["until=often", "evry=1s"],
            [
                "--set until: expected a whole number, got 'often' (at until)",
                "--set evry: unknown key 'evry', did you mean 'every'?",
            ],
        ),
        (["until=1", "inner.names=[a, {}]"], ["--set inner.names: expected text, got a map (at inner.names[1])"]),
        (["until=1", "inner.mst=2"], ["--set inner.mst: unknown key 'mst', did you mean 'most'? (at inner)"]),
        (["until=1", "iner.most=2"], ["--set iner.most: unknown key 'iner', did you mean 'inner'?"]),
        (["until=1", "until=2"], ["--set until: given a second time"]),
        (["until=1", "until.x=2"], ["--set until.x: 'until' has a value of its own already"]),
        (["until"], ["--set until: expected key=value, such as every=1s"]),
        (["un til=1"], ["--set un til=1: expected key=value, such as every=1s"]),
        (["until=1\nevery: 2s"], ["--set until: expected one value; a list or map stands in brackets"]),
        (["until=&a b"], ["--set until: '&' starts an anchor, which is refused; if it is text, quote it: until: "]),
        (["until=[1"], ["--set until: not YAML: "]),
    ],
)
def test_what_is_wrong_with_options_is_told_with_their_names(options: list[str], faults: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(COUNTING, options)
    lines = sorted(str(caught.value).splitlines())
    assert [line[: len(fault)] for line, fault in zip(lines, sorted(faults), strict=True)] == sorted(faults)


def test_an_emitter_is_found_by_name_those_of_third_parties_too() -> None:
    with_third = replace(CATALOGUE, emitters={**CATALOGUE.emitters, "counting": COUNTING})
    assert emitter_of("counting", with_third) is COUNTING
    assert emitter_of("performance", with_third) is CATALOGUE.emitters["performance"]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("perfomance", UsageError, "no emitter is called 'perfomance', did you mean 'performance'?"),
        ("xyz", UsageError, "no emitter is called 'xyz'; there are "),
        ("folder", ExhaustError, "emitter 'folder' cannot be used: no module named nothing"),
    ],
)
def test_a_name_that_is_no_emitter_s_says_what_there_is(name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        emitter_of(name, replace(CATALOGUE, broken={"emitters/folder": "no module named nothing"}))
    assert str(caught.value).startswith(said)
