"""What the analyzers answer the orchestrator's watches: of an episode's own series, or of records of its choice."""

from pathlib import Path
from typing import Any

import pytest

from exhaust.messages import Fact, Sighting, Watch
from tests.harness import HOST, NOW, Harness

YAML = f"""
hosts: [{{name: {HOST}}}]
analyzers:
  - {{use: condition, fact: service.down, on: service.state, when: record.state != "running", by: [service]}}
"""


class Rig:
    """A harness with an open episode, and a way to ask about it."""

    def __init__(self, folder: Path, yaml: str = YAML) -> None:
        self.harness = Harness(folder, yaml)
        self.say("exited")
        self.episode = self.harness.of(Fact)[0].episode
        self.asked = 0

    def say(self, state: Any, **fields: Any) -> None:
        self.harness.batch("service.state", {"service": "shop", "state": state, **fields})

    def says(self, *states: Any) -> None:
        for state in states:
            self.harness.advance(1)
            self.say(state)

    def ask(self, **fields: Any) -> None:
        """Send a watch of the episode, or of records where `on` is given; what is newer than now is fresh."""
        now, self.asked = self.harness.now, self.asked + 1
        given = {"until": now + 60, "after": now} | ({} if "on" in fields else {"episode": self.episode}) | fields
        self.harness.send(Watch(id=f"watch-{self.asked}", time=now, execution="x", host=HOST, **given))

    @property
    def told(self) -> list[str]:
        return [sighting.holds for sighting in self.harness.of(Sighting)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_record_that_clears_is_seen_at_once(rig: Rig) -> None:
    rig.ask()
    rig.says("running")
    (sighting,) = rig.harness.of(Sighting)
    assert (sighting.execution, sighting.host, sighting.holds, sighting.samples) == ("x", HOST, "true", 1)
    assert (sighting.first, sighting.last, sighting.time) == (NOW + 1, NOW + 1, NOW + 1)


def test_a_sighting_names_the_watch_and_the_records_as_its_causes(rig: Rig) -> None:
    rig.ask(samples=2)
    rig.says("running", "running")
    (sighting,) = rig.harness.of(Sighting)
    assert [sighting.causes[0], len(sighting.causes)] == ["watch-1", 3]


def test_a_fault_that_holds_is_told_as_false_and_only_once(rig: Rig) -> None:
    rig.ask()
    rig.says("exited", "exited", "exited")
    assert rig.told == ["false"]


def test_what_is_told_follows_the_evidence(rig: Rig) -> None:
    rig.ask(samples=2)
    rig.says("exited", "running", "running", "exited", "running")
    assert rig.told == ["false", "unknown", "true", "false", "unknown"]


def test_until_it_is_known_what_is_fresh_nothing_is_told(rig: Rig) -> None:
    rig.ask(after=None)
    rig.says("exited", "running")
    assert rig.told == []


def test_a_watch_is_answered_from_the_records_that_came_before_it(rig: Rig) -> None:
    rig.says("running")
    rig.ask(after=NOW)
    assert rig.told == ["true"]


def test_a_watch_that_is_repeated_is_answered_again(rig: Rig) -> None:
    rig.says("running")
    rig.ask(after=NOW)
    rig.ask(after=NOW)
    assert rig.told == ["true", "true"]
    assert len({sighting.id for sighting in rig.harness.of(Sighting)}) == 2


def test_unknown_records_are_no_evidence(rig: Rig) -> None:
    rig.ask()
    rig.says(None, None)
    assert rig.told == []


def test_records_of_other_hosts_and_labels_are_no_evidence(rig: Rig) -> None:
    rig.ask()
    rig.harness.advance(1)
    rig.harness.batch("service.state", {"service": "mail", "state": "running"})
    rig.harness.batch("service.state", {"service": "shop", "state": "running"}, host="web-2")
    assert rig.told == []


def test_by_receipt_the_sources_clock_does_not_matter(rig: Rig) -> None:
    rig.harness.advance(10)
    rig.ask(clock="received", after=NOW + 9)
    rig.harness.advance(1)
    rig.say("running", time=NOW + 5)
    assert rig.told == ["true"]


def test_a_late_record_is_no_evidence(rig: Rig) -> None:
    rig.ask()
    rig.says("running", "exited")
    rig.say("running", time=NOW + 1.5)
    assert rig.told == ["true", "false"]


def test_a_fault_that_came_back_in_a_new_episode_is_not_overlooked(rig: Rig) -> None:
    rig.ask(hold=10.0)
    rig.says("running", "running", "exited")
    assert len({fact.episode for fact in rig.harness.of(Fact)}) == 2
    assert rig.told == ["false"]
    rig.says(*["running"] * 11)
    assert rig.told == ["false", "unknown", "true"]


def test_a_watch_of_records_needs_no_episode(rig: Rig) -> None:
    rig.ask(on="service.state", labels={"service": "shop"}, when="record.memory < 100", samples=2)
    for memory in (200, 90, 80):
        rig.harness.advance(1)
        rig.say("running", memory=memory)
    assert rig.told == ["false", "unknown", "true"]


def test_labels_of_a_watch_are_the_records_fields_or_the_labels_it_carries(rig: Rig) -> None:
    rig.ask(on="network.probe", labels={"service": "shop", "port": "80"}, when="record.ok")
    rig.harness.advance(1)
    rig.harness.batch("network.probe", {"ok": False, "labels": {"service": "mail"}, "port": 80})
    rig.harness.batch("network.probe", {"ok": True, "labels": {"service": "shop"}, "port": 80})
    assert rig.told == ["true"]


def test_a_watch_of_records_sees_the_inputs_and_the_cause(rig: Rig) -> None:
    variables = {"inputs": {"most": 100}, "cause": {"labels": {"service": "shop"}}}
    when = "record.memory < inputs.most && record.service == cause.labels.service"
    rig.ask(on="service.state", when=when, variables=variables)
    rig.harness.advance(1)
    rig.say("running", memory=99)
    assert rig.told == ["true"]


def test_a_watch_of_records_keeps_to_its_host_where_it_has_one(rig: Rig) -> None:
    rig.ask(on="service.state", when='record.state == "running"')
    rig.harness.advance(1)
    rig.harness.batch("service.state", {"service": "shop", "state": "running"}, host="web-2")
    assert rig.told == []


def test_a_late_record_is_no_evidence_for_a_watch_of_records(rig: Rig) -> None:
    rig.ask(on="service.state", when='record.state == "running"')
    rig.harness.advance(5)
    rig.say("running")
    rig.say("exited", time=rig.harness.now - 1)
    assert rig.told == ["true"]


@pytest.mark.parametrize("fields", [{}, {"on": "service.state", "when": 'record.state == "running"'}])
def test_a_watch_ends(rig: Rig, fields: dict[str, str]) -> None:
    rig.ask(**fields)
    rig.harness.advance(60)
    rig.say("running")
    assert rig.told == []
    assert not [key for key in rig.harness.desks["analyzers"].kept if key.startswith("watch/")]


def test_a_watch_that_is_repeated_lasts_as_long_as_the_newer_one_says(rig: Rig) -> None:
    rig.ask()
    rig.harness.advance(30)
    rig.ask()
    rig.harness.advance(45)
    rig.say("running")
    assert rig.told == ["true"]


@pytest.mark.parametrize(
    "fields",
    [
        {"hold": 3.0, "samples": 2},
        {"on": "service.state", "when": 'record.state == "running"', "samples": 3},
        {"clock": "received", "settle": 4.0},
    ],
)
def test_recalled_after_every_step_it_tells_the_same(tmp_path: Path, fields: dict[str, Any]) -> None:
    told = []
    for crashes in (range(0), range(1000)):
        rig = Rig(tmp_path)
        rig.harness.crashes = crashes
        rig.ask(after=None, **fields)
        rig.says("running")
        rig.ask(**fields)
        rig.says("exited", "running", "running", None, "running", "running", "exited", *["running"] * 5)
        told.append([(sighting.id, sighting.holds, sighting.samples) for sighting in rig.harness.of(Sighting)])
    assert len(told[0]) >= 3
    assert told[0] == told[1]


def test_a_fault_must_be_gone_for_as_long_as_its_fact_would_take_to_close(tmp_path: Path) -> None:
    rig = Rig(tmp_path, YAML.replace("when:", "keep: 3s, when:"))
    rig.ask()
    rig.says("running", "running", "exited")
    assert "true" not in rig.told
    rig.says("running", "running", "running", "running")
    assert rig.told[-1] == "true"
    assert rig.harness.of(Fact)[-1].reason == "cleared"
