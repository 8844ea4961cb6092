"""What the analyzers remember has its bounds: series, signs of life, timers, and the newest records of each series."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from analyzers.inference import Analysis, Inference
from analyzers.recent import MOST_SEEN, Recent, pack, pack_gone
from analyzers.silence import Signs
from exhaust import wire
from exhaust.broker.interface import Delivery
from exhaust.language import define
from exhaust.messages import Batch, Fact
from exhaust.plugins import Inferring, Judgement
from tests.harness import HOST, NOW, Harness

STREAM = "custom.state"


def rig(folder: Path, *lines: str, use: str = "condition", most: int = 3) -> Harness:
    keys = [f"use: {use}", "fact: service.down", f"on: {STREAM}", "by: [service]", f"most: {most}", *lines]
    return Harness(folder, f"hosts: [{{name: {HOST}}}]\nanalyzers:\n  - {{{', '.join(keys)}}}")


def say(harness: Harness, *services: str, state: str = "running") -> None:
    harness.batch(STREAM, *({"service": service, "state": state} for service in services))
    harness.advance(1)


def decider(harness: Harness) -> Inference:
    found = harness.desks["analyzers"].decider
    assert isinstance(found, Inference)
    return found


def known(harness: Harness) -> list[str]:
    return [series.labels["service"] for _, _, series in decider(harness)._population]


WHEN = 'when: record.state == "exited"'


def test_of_too_many_series_those_are_forgotten_that_were_heard_of_longest_ago(tmp_path: Path) -> None:
    harness = rig(tmp_path, WHEN)
    for service in "abcad":
        say(harness, service)
    assert sorted(known(harness)) == ["a", "c", "d"]


def test_what_is_open_is_not_forgotten_and_what_builds_up_only_after_what_is_quiet(tmp_path: Path) -> None:
    harness = rig(tmp_path, WHEN, "for: 1s")
    say(harness, "open", state="exited")
    say(harness, "open", "pending", state="exited")
    say(harness, "quiet")
    say(harness, "new")
    assert sorted(known(harness)) == ["new", "open", "pending"]
    say(harness, "a", "b", "c", state="exited")
    assert "open" in known(harness)
    assert len(known(harness)) == 3


class Telling:
    """A method that opens with whatever a record has as its value."""

    silence = None

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        return Judgement(True, False, record["value"])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.5, 0.5),
        ("x" * 2048, "x" * 2048),
        ("\x01" * 80_000, "\x01" * 2047 + "…"),
        (["x" * 1000], ["x" * 1000]),
        (["x" * 16_380], ["x" * 16_380]),
        (["x" * 16_381], None),
        ({"text": "x" * 80_000}, None),
    ],
)
def test_a_value_that_no_fact_can_carry_is_cut_or_left_out(value: Any, told: Any) -> None:
    defined = define(Inferring, {"use": "telling", "fact": "any.fact", "on": STREAM})
    inference = Inference([Analysis.of(defined, Telling())], lambda name: {"name": name, "labels": {}}, {})
    about: dict[str, Any] = {"host": HOST, "emitter": "custom", "stream": "state", "epoch": 1, "seq": 0}
    batch = Batch(id="b", time=NOW, records=[{"time": NOW, "value": value}], **about)
    (fact,) = [effect for effect in inference.handle(batch, NOW) if isinstance(effect, Fact)]
    assert fact.value == told
    sent = wire.pack(fact)
    assert wire.unpack(Delivery(sent.exchange, sent.key, sent.id, sent.type, sent.body, NOW, {}, "queue", 1)) == fact


def test_what_has_more_labels_than_a_fact_can_is_no_series(tmp_path: Path) -> None:
    names = [f"part{n}" for n in range(5)]
    lines = f"{{use: condition, fact: service.down, on: {STREAM}, by: [{', '.join(names)}], {WHEN}}}"
    harness = Harness(tmp_path, f"hosts: [{{name: {HOST}}}]\nanalyzers:\n  - {lines}")
    for length in (1000, 100):
        harness.batch(STREAM, {"state": "exited", **dict.fromkeys(names, "x" * length)})
    assert [len(fact.labels["part0"]) for fact in harness.of(Fact)] == [100]
    assert decider(harness).counts["series refused"] == 1


def test_a_series_that_is_forgotten_has_no_row_any_more(tmp_path: Path) -> None:
    harness = rig(tmp_path, WHEN, most=1)
    say(harness, "a", state="exited")
    say(harness, "a")
    say(harness, "b", state="exited")
    assert [key for key in harness.desks["analyzers"].kept if key.startswith("series/")] == [
        "series/condition%2Fservice.down/web-1/service=b"
    ]
    assert [fact.state for fact in harness.of(Fact)] == ["open", "closed", "open"]


def test_no_new_series_takes_the_place_of_one_that_is_open_and_those_refused_are_counted(tmp_path: Path) -> None:
    harness = rig(tmp_path, WHEN)
    say(harness, "a", "b", "c", "d", state="exited")
    say(harness, "e", "e", "a", state="exited")
    assert sorted(known(harness)) == ["a", "b", "c", "d"]
    assert decider(harness).counts["series refused"] == 2
    say(harness, "a", "b")
    say(harness, "e", state="exited")
    assert sorted(known(harness)) == ["c", "d", "e"]


def test_after_a_restart_there_are_no_more_of_them(tmp_path: Path) -> None:
    harness = rig(tmp_path, WHEN)
    for state in ("exited", "running"):
        say(harness, "a", "b", "c", state=state)
    harness.restart("analyzers")
    say(harness, "d")
    assert len(known(harness)) == 3


def test_silent_series_are_bounded_alike(tmp_path: Path) -> None:
    harness = rig(tmp_path, "for: 60s", use="absence", most=2)
    for service in "abc":
        say(harness, service)
    assert sorted(known(harness)) == ["b", "c"]


def test_a_series_that_opens_and_closes_all_the_time_has_one_timer(tmp_path: Path) -> None:
    harness = rig(tmp_path, WHEN)
    for _ in range(20):
        say(harness, "a", state="exited")
        say(harness, "a")
    assert len(harness.of(Fact)) == 40
    assert len(decider(harness)._timers) <= 2


def test_signs_of_life_are_forgotten_of_those_that_gave_none_for_longest() -> None:
    signs = Signs()
    for number in range(25_000):
        signs.hear(f"web-{number}", "custom.state", NOW)
    signs.hear("web-6000", "custom.state", NOW)
    assert len(signs) == 40_000
    assert not signs.alive("web-1", "custom.state", NOW)
    assert signs.alive("web-6000", "custom.state", NOW)


@pytest.mark.parametrize("sizes", [[1] * 200, [64, 1], [64, 64], [10] * 20, [63, 63, 2], [1, 64]])
def test_the_newest_records_are_there_in_few_bytes_whatever_came_together(sizes: list[int]) -> None:
    recent, expected = Recent(), []
    for number, size in enumerate(sizes):
        numbers, times = list(range(size)), [NOW + number + place for place in range(size)]
        told: list[Any] = [(True, False, None)[place % 3] for place in numbers]
        recent.add(pack(f"b{number}", NOW, numbers, times) + pack_gone(told), size)
        expected += [(f"b{number}#{n}", time, NOW, gone) for n, time, gone in zip(numbers, times, told, strict=True)]
    found = [(seen.id, seen.time, seen.received, seen.gone) for seen in recent]
    assert found[-MOST_SEEN:] == expected[-MOST_SEEN:]
    assert recent.newest is not None
    assert recent.newest.id == expected[-1][0]
    assert sum(map(len, recent.blocks)) < 40 * 2 * MOST_SEEN
