"""What the analyzers make of batches: facts that open, are asserted again, and end; and the same after a restart."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from exhaust.messages import Fact
from tests.harness import HOST, NOW, Harness

STREAM = "custom.state"


def rig(folder: Path, *lines: str, when: str = 'record.state != "running"', by: str = "[service]") -> Harness:
    more = "".join(f"    {line}\n" for line in lines)
    entry = f"  - use: condition\n    fact: service.down\n    on: custom.*\n    when: '{when}'\n    by: {by}\n{more}"
    return Harness(folder, f"hosts: [{{name: {HOST}}}]\nanalyzers:\n{entry}")


def say(harness: Harness, state: Any, **fields: Any) -> None:
    harness.batch(STREAM, {"service": "shop", "state": state, **fields})


def told(harness: Harness) -> list[tuple[float, str, str]]:
    """Return when, in seconds since the start, which state was told for what reason."""
    return [(fact.time - NOW, fact.state, fact.reason) for fact in harness.of(Fact)]


def test_a_fact_opens_and_closes_with_the_records_that_say_so(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    for state in ("running", "exited", "exited", "running", "running"):
        say(harness, state)
        harness.advance(1)
    assert told(harness) == [(1, "open", "asserted"), (3, "closed", "cleared")]
    opened, closed = harness.of(Fact)
    assert (opened.name, opened.host, opened.labels) == ("service.down", HOST, {"service": "shop"})
    assert (opened.episode, closed.episode) == (opened.id, opened.id)
    assert (opened.since, closed.since, closed.valid_until) == (NOW + 1, NOW + 1, NOW + 3)


def test_its_causes_are_the_record_and_when_it_closes_the_episode_too(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    first = harness.batch(STREAM, {"service": "shop", "state": "running"}, {"service": "shop", "state": "exited"})
    second = harness.batch(STREAM, {"service": "shop", "state": "running"})
    opened, closed = harness.of(Fact)
    assert opened.causes == (f"{first.id}#1",)
    assert closed.causes == (f"{second.id}#0", opened.id)


def test_for_and_keep_run_on_the_records_time_and_not_on_their_receipt(tmp_path: Path) -> None:
    harness = rig(tmp_path, "for: 10s", "keep: 5s")
    times = [(-20, "exited"), (-10, "exited"), (-6, "running"), (-1, "running")]
    records = [{"service": "shop", "state": state, "time": NOW + at} for at, state in times]
    harness.batch(STREAM, *records)
    assert told(harness) == [(0, "open", "asserted"), (0, "closed", "cleared")]
    assert [harness.of(Fact)[1].since, harness.of(Fact)[1].valid_until] == [NOW - 20, NOW - 6]


def test_until_makes_a_hysteresis(tmp_path: Path) -> None:
    harness = rig(tmp_path, "until: record.used < 70", when="record.used > 90")
    for used in (80, 95, 80, 69.5, 80):
        say(harness, "running", used=used)
        harness.advance(1)
    assert told(harness) == [(1, "open", "asserted"), (3, "closed", "cleared")]


def test_a_late_record_opens_and_closes_nothing_and_is_counted(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited")
    say(harness, "running", time=NOW - 1)
    assert told(harness) == [(0, "open", "asserted")]
    say(harness, "running", time=NOW)
    say(harness, "exited", time=NOW - 1)
    assert told(harness)[1:] == [(0, "closed", "cleared")]
    assert harness.desks["analyzers"].decider.counts["late"] == 2  # type: ignore[attr-defined]


def test_a_record_from_the_future_counts_as_five_seconds_ahead(tmp_path: Path) -> None:
    harness = rig(tmp_path, "for: 6s")
    say(harness, "exited")
    say(harness, "exited", time=NOW + 3600)
    assert told(harness) == []
    harness.advance(6)
    say(harness, "exited")
    assert told(harness) == [(6, "open", "asserted")]


def test_a_record_without_time_has_its_batchs(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited", time=None)
    assert harness.of(Fact)[0].since == NOW


@pytest.mark.parametrize("state", [None, 7.0])
def test_unknown_neither_opens_nor_closes(tmp_path: Path, state: Any) -> None:
    harness = rig(tmp_path, when='record.state.startsWith("ex")')
    say(harness, state)
    say(harness, "exited")
    say(harness, state)
    assert told(harness) == [(0, "open", "asserted")]


def test_a_record_without_its_label_belongs_to_no_series(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    harness.batch(STREAM, {"state": "exited"}, {"service": None, "state": "exited"})
    assert told(harness) == []


def test_series_are_apart_by_host_and_labels(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    for host, service in (("web-1", "shop"), ("web-1", "mail"), ("web-2", "shop")):
        harness.batch(STREAM, {"service": service, "state": "exited"}, host=host)
    harness.batch(STREAM, {"service": "shop", "state": "running"})
    closed = harness.of(Fact)[-1]
    assert [fact.state for fact in harness.of(Fact)] == ["open"] * 3 + ["closed"]
    assert (closed.host, closed.labels) == ("web-1", {"service": "shop"})


def test_labels_that_look_like_others_do_not_share_a_series(tmp_path: Path) -> None:
    harness = rig(tmp_path, by="[service, zone]")
    harness.batch(STREAM, {"service": "a,zone=b", "zone": "c", "state": "exited"})
    harness.batch(STREAM, {"service": "a", "zone": "b,zone=c", "state": "running"})
    assert told(harness) == [(0, "open", "asserted")]


def test_labels_may_be_computed(tmp_path: Path) -> None:
    harness = rig(tmp_path, by='{unit: record.service + ".service"}')
    say(harness, "exited")
    assert harness.of(Fact)[0].labels == {"unit": "shop.service"}


def test_an_open_fact_is_asserted_again_while_its_source_lives(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited")
    for _ in range(12):
        harness.advance(10)
        harness.batch(STREAM)
    assert told(harness) == [(at, "open", "asserted") for at in (0, 30, 60, 90, 120)]
    facts = harness.of(Fact)
    assert [fact.valid_until - fact.time for fact in facts] == [90, 80, 80, 80, 80]
    assert len({fact.id for fact in facts}) == 5
    assert [fact.causes for fact in facts[1:]] == [(fact.id,) for fact in facts[:-1]]


def test_silence_lets_it_expire_which_is_not_cleared(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited")
    harness.advance(600)
    assert told(harness)[:-1] == [(at, "open", "asserted") for at in (0, 30, 60)]
    assert told(harness)[-1] == (90, "closed", "expired")


def test_a_sign_of_life_of_another_host_or_stream_prolongs_nothing(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited")
    harness.advance(60)
    harness.batch(STREAM, host="web-2")
    harness.batch("performance.load")
    harness.advance(40)
    assert told(harness)[-1] == (90, "closed", "expired")


def test_an_event_is_open_for_its_time_after_the_last_true_record(tmp_path: Path) -> None:
    harness = rig(tmp_path, "expires: 20s")
    say(harness, "exited")
    harness.advance(15)
    say(harness, "exited")
    say(harness, "running")
    harness.advance(15)
    harness.batch(STREAM)
    harness.advance(60)
    assert told(harness) == [(0, "open", "asserted"), (20, "open", "asserted"), (35, "closed", "expired")]
    assert [fact.valid_until - NOW for fact in harness.of(Fact)] == [20, 35, 35]


def test_after_it_expired_the_next_record_opens_a_new_episode(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited")
    harness.advance(100)
    say(harness, "exited")
    first, last = harness.of(Fact)[0], harness.of(Fact)[-1]
    assert (last.state, last.episode == last.id, last.episode == first.episode) == ("open", True, False)


def test_ids_follow_from_the_input_alone(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        harness = rig(tmp_path / name)
        say(harness, "exited")
        harness.advance(45)
        say(harness, "running")
        digests.append(harness.digest())
    assert digests[0] == digests[1]


def test_a_late_tick_leaves_the_later_ids_as_they_are(tmp_path: Path) -> None:
    ids = []
    for name, lateness in (("prompt", 0), ("late", 2)):
        (tmp_path / name).mkdir()
        harness = rig(tmp_path / name)
        say(harness, "exited")
        harness.now += 30 + lateness
        harness.advance(0)
        harness.advance(31 - lateness)
        ids.append([fact.id for fact in harness.of(Fact)])
    assert len(ids[0]) == 3
    assert ids[0] == ids[1]


def test_after_a_long_sleep_it_is_asserted_once_and_not_for_every_refresh_missed(tmp_path: Path) -> None:
    harness = rig(tmp_path, "expires: 1h")
    say(harness, "exited")
    harness.now += 1000
    harness.advance(0)
    assert told(harness) == [(0, "open", "asserted"), (1000, "open", "asserted")]


def test_another_definition_gives_other_ids(tmp_path: Path) -> None:
    ids = set()
    for severity in ("error", "critical"):
        harness = rig(tmp_path, f"severity: {severity}")
        say(harness, "exited")
        ids.add(harness.of(Fact)[0].id)
    assert len(ids) == 2


def test_the_summary_is_rendered_escaped_and_cut(tmp_path: Path) -> None:
    harness = rig(tmp_path, 'summary: "${{ record.service }} is ${{ record.state }}"')
    say(harness, "dead\n\x1b[2J\u202e")
    harness.batch(STREAM, {"service": "long", "state": "x" * 1000})
    first, second = (fact.summary for fact in harness.of(Fact))
    assert first == "shop is dead\\n\\x1b[2J\\u202e"
    assert (len(second), second[-1]) == (300, "…")


def test_a_summary_that_cannot_be_rendered_is_the_analyzers_name(tmp_path: Path) -> None:
    harness = rig(tmp_path, 'summary: "${{ record.nothing }}"')
    say(harness, "exited")
    assert harness.of(Fact)[0].summary == "condition/service.down"


def test_evidence_is_at_most_eight_records_and_four_kibibytes(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    for number in range(20):
        say(harness, "exited", number=number)
    say(harness, "running", number=20)
    evidence = harness.of(Fact)[-1].evidence
    assert [record["number"] for record in evidence] == list(range(13, 21))
    for _ in range(8):
        say(harness, "exited", text="x" * 1500)
    say(harness, "running", text="x" * 5000)
    assert len(msgspec.json.encode(harness.of(Fact)[-1].evidence)) <= 4096


@pytest.mark.parametrize("keys", [("for: 3s", "keep: 3s"), ("expires: 7s",), ("refresh: 2s",)])
def test_recalled_after_every_step_it_goes_on_as_if_nothing_had_been(tmp_path: Path, keys: tuple[str, ...]) -> None:
    digests = []
    for crashes in (range(0), range(1000)):
        harness = rig(tmp_path, *keys)
        harness.crashes = crashes
        for number in range(60):
            say(harness, "exited" if number // 7 % 2 else "running")
            harness.advance(1)
        digests.append(harness.digest())
    assert digests[0].count(b"fact/1") >= 7
    assert digests[0] == digests[1]


def test_time_in_which_nobody_listened_is_not_the_sources_silence(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited")
    harness.now += 3600
    harness.restart("analyzers")
    harness.advance(89)
    assert [state for _, state, _ in told(harness)] == ["open"] * len(harness.of(Fact))
    harness.advance(2)
    assert told(harness)[-1][1:] == ("closed", "expired")


def test_what_an_analyzer_has_opened_that_is_gone_is_withdrawn(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited")
    kept = harness.desks["analyzers"].kept
    without = Harness(tmp_path, f"hosts: [{{name: {HOST}}}]")
    without.desks["analyzers"].kept.update(kept)
    without.restart("analyzers")
    assert told(without) == [(0, "closed", "withdrawn")]
    assert without.of(Fact)[0].episode == harness.of(Fact)[0].episode
    assert not any(key.startswith("series/") for key in without.desks["analyzers"].kept)


def test_a_record_whose_time_is_none_is_counted_and_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    harness.batch(
        STREAM, {"service": "shop", "state": "exited", "time": "soon"}, {"service": "mail", "state": "exited"}
    )
    assert [fact.labels for fact in harness.of(Fact)] == [{"service": "mail"}]
    assert harness.desks["analyzers"].decider.status()["records"]["unusable"] == 1


def test_records_of_others_are_no_sign_of_life_of_a_subject(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    say(harness, "exited")
    for _ in range(10):
        harness.advance(10)
        harness.batch(STREAM, {"service": "mail", "state": "running"})
    assert told(harness)[-1][1:] == ("closed", "expired")
