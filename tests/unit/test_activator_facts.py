"""The facts that are open, however many: what is known of them, and what is the matter on a host."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activator.facts import Facts
from exhaust.language import cause_of
from exhaust.messages import Fact, Prediction
from tests.harness import NOW
from tests.standing import Disk, fact

HOSTS = st.sampled_from(["web-1", "web-2", None])
SEEN = st.fixed_dictionaries(
    {
        "episode": st.sampled_from("abcdefgh"),
        "name": st.sampled_from(["service.down", "disk.full"]),
        "host": HOSTS,
        "since": st.sampled_from([NOW, NOW + 1, NOW + 2]),
        "value": st.sampled_from([None, 1, 2.5, "x", 2**70]),
    }
)


@pytest.mark.parametrize("kind", [Fact, Prediction])
def test_a_fact_is_known_as_it_came_but_for_its_evidence(kind: type[Fact]) -> None:
    disk = Disk()
    came = fact(kind)
    facts = Facts(disk.rows)
    disk.write(facts.put(came, None))
    known = facts.get("e")
    assert known == msgspec.structs.replace(came, evidence=[], causes=(), detector="")
    assert facts.whole(known) == Facts(disk.rows).whole(known) == came


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), SEEN), max_size=30), HOSTS)
def test_it_agrees_with_a_list_of_facts(steps: list[tuple[bool, dict[str, Any]]], host: str | None) -> None:
    disk, model = Disk(), dict[str, Fact]()
    facts = Facts(disk.rows)
    for opens, seen in steps:
        facts.of_host(host)
        known = facts.get(seen["episode"])
        if opens:
            model[seen["episode"]] = fact(**seen)
            disk.write(facts.put(model[seen["episode"]], known))
        elif known is not None:
            del model[seen["episode"]]
            disk.write(facts.remove(known))
    for one in (facts, Facts(disk.rows)):
        agree(one, model, host)


def agree(facts: Facts, model: dict[str, Fact], host: str | None) -> None:
    oldest_first = sorted(model.values(), key=lambda one: (one.since, one.episode))
    assert len(facts) == len(model)
    assert [one.episode for one in facts.oldest_first()] == [one.episode for one in oldest_first]
    assert [facts.whole(one) for one in facts.oldest_first()] == oldest_first
    others = {one.name: cause_of(one) for one in oldest_first if one.host == host}
    assert list(facts.of_host(host).items()) == list(others.items())
