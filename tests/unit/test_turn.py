"""A turn: the newest value of a key counts, and what is sent says what it is the newest word on."""

from pathlib import Path
from typing import Any

import pytest

from exhaust.messages import Command, Fact, FactReason
from exhaust.signing import Keys
from exhaust.turn import Keep, Turn, Unsent
from exhaust.worker import Effect


def fact(own: str, **changed: Any) -> Fact:
    reason: FactReason = "asserted"
    about: dict[str, Any] = {"host": "h", "labels": {}, "episode": "first", "state": "open", "reason": reason}
    return Fact(id=own, time=1.0, name="f", severity="info", since=1.0, valid_until=2.0, **(about | changed))


def turn(*effects: Effect, keys: Keys | None = None) -> Turn:
    made = Turn()
    made.take(effects, keys.signer("orchestrator") if keys else None)
    return made


def test_what_may_wait_and_what_may_not_are_kept_apart() -> None:
    made = turn(Keep("a", 1), Keep("b", 2, wait=True))
    assert (made.keep, made.later) == ({"a": b"1"}, {"b": b"2"})


@pytest.mark.parametrize("waits", [(False, False), (False, True), (True, False), (True, True)])
def test_of_one_key_the_newest_value_is_written(waits: tuple[bool, bool]) -> None:
    made = turn(Keep("a", 1, wait=waits[0]), Keep("a", 2, wait=waits[1]))
    assert {**made.later, **made.keep} == {"a": b"2"}


def test_a_message_that_cannot_be_sent_is_left_out_where_somebody_is_told() -> None:
    made, told = Turn(), list[str]()
    far = fact("far", host="h" * 300)
    made.take([Keep("a", 1), far, fact("near")], None, lambda message, exc: told.append(f"{message.id}: {exc}"))
    assert (made.keep, [one.id for one in made.send]) == ({"a": b"1"}, ["near"])
    assert told == ["far: a fact/1 with a key of more than 255 bytes can go nowhere"]


@pytest.mark.parametrize("told", [None, lambda *_: None])
def test_what_cannot_be_kept_leaves_nothing_of_the_others(told: Unsent | None) -> None:
    made = Turn()
    with pytest.raises(TypeError):
        made.take([fact("near"), Keep("a", object())], None, told)
    assert (made.keep, made.send) == ({}, [])


def test_only_that_a_fact_still_holds_gives_way_to_newer_news_of_it() -> None:
    opened, again, closed = fact("first"), fact("again"), fact("end", state="closed", reason="cleared")
    assert [one.subject for one in turn(opened, again, closed).send] == [None, "fact/first", None]


def test_a_command_gives_way_to_one_with_its_key(tmp_path: Path) -> None:
    given: dict[str, Any] = {"task": "t", "action": "x", "params": {}, "audience": "me", "epoch": 1, "seq": 1}
    one = Command(id="c", time=1.0, execution="e", host="h", expires=60.0, key="k", timeout=1.0, **given)
    assert [sent.subject for sent in turn(one, keys=Keys(tmp_path)).send] == ["command/k"]
