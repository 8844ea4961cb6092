"""Absence: silence is a fact by the clock, but only while its source is known to live."""

from pathlib import Path

import pytest

from exhaust.messages import Fact
from tests.harness import HOST, NOW, Harness


def rig(folder: Path, *lines: str, on: str = "custom.backup", by: str = "[job]") -> Harness:
    more = "".join(f"    {line}\n" for line in lines)
    entry = f"  - use: absence\n    fact: backup.missing\n    on: {on}\n    for: 60s\n    by: {by}\n{more}"
    return Harness(folder, f"hosts: [{{name: {HOST}}}]\nanalyzers:\n{entry}")


def told(harness: Harness) -> list[tuple[float, str, str]]:
    return [(fact.time - NOW, fact.state, fact.reason) for fact in harness.of(Fact)]


def live(harness: Harness, seconds: float) -> None:
    """Let time pass while the host's other emitters give signs of life."""
    until = harness.now + seconds
    while harness.now < until:
        harness.batch("performance.system")
        harness.advance(min(10, until - harness.now))


def test_silence_opens_the_fact_and_the_next_record_closes_it(tmp_path: Path) -> None:
    harness = rig(tmp_path, 'summary: "no ${{ record.job }}"')
    harness.batch("custom.backup", {"job": "db"})
    live(harness, 61)
    assert told(harness) == [(60, "open", "asserted")]
    batch = harness.batch("custom.backup", {"job": "db"})
    opened, closed = harness.of(Fact)
    assert (opened.labels, opened.since, opened.value, opened.summary) == ({"job": "db"}, NOW + 60, 60.0, "no db")
    assert told(harness)[1:] == [(61, "closed", "cleared")]
    assert closed.causes == (f"{batch.id}#0", opened.id)


def test_each_record_puts_it_off_and_each_silence_is_an_episode_of_its_own(tmp_path: Path) -> None:
    harness = rig(tmp_path, "refresh: 1h")
    for pause in (40, 40, 70, 70):
        harness.batch("custom.backup", {"job": "db"})
        live(harness, pause)
    assert told(harness) == [(140, "open", "asserted"), (150, "closed", "cleared"), (210, "open", "asserted")]
    assert len({fact.episode for fact in harness.of(Fact)}) == 2


def test_what_was_never_heard_of_is_not_missed(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    live(harness, 600)
    assert told(harness) == []


def test_silence_of_a_source_that_is_gone_says_nothing(tmp_path: Path) -> None:
    harness = rig(tmp_path, on="service.state", by="[service]")
    harness.batch("service.state", {"service": "db"})
    harness.advance(600)
    assert told(harness) == []
    harness.batch("service.state")
    harness.advance(30)
    assert [told(harness)[0][1:]] == [("open", "asserted")]


def test_signs_of_life_do_not_end_it_and_their_end_lets_it_expire(tmp_path: Path) -> None:
    harness = rig(tmp_path, on="service.state", by="[service]")
    harness.batch("service.state", {"service": "db"})
    for _ in range(20):
        harness.advance(10)
        harness.batch("service.state")
    assert {state for _, state, _ in told(harness)} == {"open"}
    harness.advance(600)
    assert told(harness)[-1][1:] == ("closed", "expired")


def test_a_fact_of_a_stream_that_people_feed_lasts_until_they_do(tmp_path: Path) -> None:
    harness = rig(tmp_path)
    harness.batch("custom.backup", {"job": "db"})
    live(harness, 7200)
    assert {state for _, state, _ in told(harness)} == {"open"}


def test_only_records_that_count_end_the_silence(tmp_path: Path) -> None:
    harness = rig(tmp_path, "where: record.ok", "refresh: 1h")
    harness.batch("custom.backup", {"job": "db", "ok": True})
    live(harness, 50)
    harness.batch("custom.backup", {"job": "db", "ok": False}, {"job": "db"})
    live(harness, 20)
    assert told(harness) == [(60, "open", "asserted")]


@pytest.mark.parametrize("away", [5, 300])
def test_a_restart_forgets_no_silence_and_gives_what_is_under_way_time_to_come(tmp_path: Path, away: float) -> None:
    harness = rig(tmp_path, "refresh: 1h")
    harness.batch("custom.backup", {"job": "db"})
    live(harness, 50)
    harness.now += away
    harness.restart()
    live(harness, 29)
    assert told(harness) == []
    live(harness, 2)
    assert [state for _, state, _ in told(harness)] == ["open"]


def test_an_absence_cannot_be_an_event(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has no 'expires'"):
        rig(tmp_path, "expires: 5m")
