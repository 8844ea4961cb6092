"""What the ledger finds is told apart: a silent emitter, a dead host, a slow or absent broker, a wrong clock, a gap."""

import itertools
from typing import Any

import msgspec
import pytest

from collector.letters import Letter
from collector.telemetry import FORGET_AFTER
from exhaust.messages import Codec
from tests.unit.collector_listening import EPOCH, OWN, START, Listening, arrival

SILENT = ("emitter.silent", "web-01", "service")
DEAD = ("host.silent", "web-01")
SKEW = ("clock.skew", "web-01")
GAP = ("telemetry.gap", "web-01", "service", "state")
LAG = ("telemetry.lag", "-")
EARLIER = EPOCH - 100


@pytest.fixture
def listening() -> Listening:
    """Two hosts with two emitters each, a minute after the start."""
    found = Listening()
    for host in ("web-01", "web-02"):
        found.beat(host, "service", "performance")
    found.advance(60)
    assert found.facts == []
    return found


def test_an_emitter_is_silent_while_others_of_its_host_are_heard(listening: Listening) -> None:
    listening.stop("web-01", "service")
    listening.advance(20)
    assert listening.opened == set()
    listening.advance(25)
    assert listening.opened == {SILENT}
    (fact,) = listening.facts
    assert (fact.host, fact.labels, fact.detector, fact.severity) == (
        "web-01",
        {"emitter": "service"},
        "ledger",
        "error",
    )
    assert 30 < fact.value <= 40
    assert fact.value == fact.time - fact.since
    listening.beat("web-01", "service")
    listening.advance(2)
    assert listening.told("emitter.silent")[-1] == ("closed", "cleared")


def test_a_dead_host_is_one_fact(listening: Listening) -> None:
    listening.stop("web-01")
    listening.advance(300)
    assert listening.opened == {DEAD}
    assert {fact.name for fact in listening.facts} == {"host.silent"}
    listening.beat("web-01", "service")
    listening.advance(25)
    assert listening.told("host.silent")[-1] == ("closed", "cleared")
    assert listening.opened == set(), "its other emitters have as long as ever to be heard"
    listening.advance(25)
    assert listening.opened == {("emitter.silent", "web-01", "performance")}


def test_a_host_that_is_heard_again_after_a_restart_has_as_long_as_ever_for_its_other_emitters(
    listening: Listening,
) -> None:
    listening.stop("web-01")
    listening.advance(60)
    listening.start()
    listening.advance(28)
    listening.beat("web-01", "service")
    listening.advance(20)
    assert listening.opened == set()


def test_what_comes_late_of_an_emitter_is_no_sign_that_it_lives(listening: Listening) -> None:
    listening.stop("web-01", "service")
    for number in range(50):
        listening.advance(1)
        listening.tell(arrival(number, EARLIER, time=listening.now, live=False, backlog=True))
    assert listening.opened == {SILENT}


def test_a_silent_emitter_is_no_news_once_its_whole_host_is_silent(listening: Listening) -> None:
    listening.stop("web-01", "service")
    listening.advance(60)
    listening.stop("web-01")
    listening.advance(60)
    assert listening.opened == {DEAD}
    assert listening.told("emitter.silent")[-1] == ("closed", "withdrawn")


def test_the_host_of_the_collector_is_never_silent_what_it_lacks_are_emitters() -> None:
    listening = Listening()
    listening.beat(OWN, "service")
    listening.advance(20)
    listening.stop(OWN)
    listening.advance(60)
    assert listening.opened == {("emitter.silent", OWN, "service")}


def test_what_people_feed_is_never_silent(listening: Listening) -> None:
    listening.tell(arrival(0, emitter="custom", time=listening.now))
    listening.advance(300)
    assert listening.facts == []


def test_an_emitter_that_is_no_longer_configured_is_not_missed(listening: Listening) -> None:
    listening.stop("web-01", "performance")
    listening.stop("web-02", "performance")
    listening.begin_anew()
    listening.advance(300)
    assert listening.facts == []
    listening.beat("web-01", "performance")
    listening.advance(5)
    listening.stop("web-01", "performance")
    listening.advance(60)
    assert listening.opened == {("emitter.silent", "web-01", "performance")}


def test_a_silent_emitter_that_is_taken_out_of_the_configuration_is_withdrawn(listening: Listening) -> None:
    listening.stop("web-01", "service")
    listening.advance(60)
    listening.begin_anew()
    listening.advance(25)
    assert listening.opened == {SILENT}, "its first sign of life may yet come"
    listening.away = True
    listening.advance(60)
    listening.away = False
    listening.advance(25)
    assert listening.opened == {SILENT}
    listening.advance(20)
    assert listening.told("emitter.silent")[-1] == ("closed", "withdrawn")
    assert listening.opened == set()


@pytest.mark.parametrize("forged", [1, 9])
@pytest.mark.parametrize("emitter", ["service", "performance", "unheard"])
def test_an_epoch_of_the_future_hides_no_silence(listening: Listening, forged: int, emitter: str) -> None:
    listening.tell(*(arrival(0, 2**53 - number, emitter) for number in range(forged)))
    listening.advance(60)
    assert listening.opened == set()
    listening.stop("web-01", "service")
    listening.advance(50)
    assert listening.opened == {SILENT}
    listening.start()
    listening.advance(60)
    assert listening.opened == {SILENT}


def test_a_host_whose_clock_was_years_ahead_is_judged_by_the_epoch_that_it_sends_now(listening: Listening) -> None:
    listening.epoch = EPOCH + 10 * 365 * 86_400_000
    listening.advance(60)
    listening.begin_anew()
    listening.advance(60)
    assert listening.opened == set()
    listening.stop("web-01", "service")
    listening.advance(50)
    assert listening.opened == {SILENT}


def test_a_slow_broker_is_neither_silence_nor_a_wrong_clock(listening: Listening) -> None:
    listening.lag = 8.0
    listening.advance(300)
    assert listening.opened == {LAG}
    assert {fact.name for fact in listening.facts} == {"telemetry.lag"}
    assert 7.5 < listening.facts[-1].value < 8.5
    assert listening.facts[0].host is None
    listening.lag = 4.0
    listening.advance(60)
    assert listening.opened == {LAG}, "it closes only below half of what opens it"
    listening.lag = 1.0
    listening.advance(20)
    assert listening.told("telemetry.lag")[-1] == ("closed", "cleared")


def test_a_probe_that_stays_away_while_others_are_heard_tells_of_lag_before_it_is_back(listening: Listening) -> None:
    listening.held = True
    for number in range(16):
        listening.advance(1)
        listening.tell(arrival(number, emitter="load", time=listening.now))
    assert listening.opened == {LAG}
    assert 5 < listening.facts[-1].value < 16
    listening.held = False
    listening.advance(10)
    assert listening.told("telemetry.lag")[-1] == ("closed", "cleared")


def test_a_probe_that_is_lost_does_not_end_the_listening(listening: Listening) -> None:
    listening.held = True
    listening.advance(6)
    assert len(listening.waiting) == 1
    listening.waiting.clear()
    listening.held = False
    listening.advance(100)
    listening.stop("web-01", "service")
    listening.advance(60)
    assert SILENT in listening.opened
    assert LAG not in listening.opened


@pytest.mark.parametrize("ahead", [7.0, -7.0, 3600.0, -3600.0])
def test_a_wrong_clock_is_that_of_its_host_alone(listening: Listening, ahead: float) -> None:
    listening.clocks["web-01"] = ahead
    listening.advance(60)
    assert listening.opened == {SKEW}
    assert listening.facts[-1].value == pytest.approx(ahead, abs=0.1)
    listening.clocks["web-01"] = ahead / abs(ahead) * 3.0
    listening.advance(60)
    assert listening.opened == {SKEW}, "it closes only below half of what opens it"
    listening.clocks["web-01"] = 0.0
    listening.advance(30)
    assert listening.told("clock.skew")[-1] == ("closed", "cleared")


def test_the_clock_of_a_silent_host_is_not_known(listening: Listening) -> None:
    listening.clocks["web-01"] = 60.0
    listening.advance(60)
    listening.stop("web-01")
    listening.advance(60)
    assert listening.told("clock.skew")[-1] == ("closed", "withdrawn")
    assert listening.opened == {DEAD}


def test_a_clock_that_is_a_little_off_is_no_fact(listening: Listening) -> None:
    listening.clocks["web-01"] = 4.9
    listening.advance(120)
    assert listening.facts == []


def test_what_was_held_up_for_once_is_no_wrong_clock(listening: Listening) -> None:
    for first in range(0, 60, 10):
        listening.tell(*(arrival(first + n, emitter="load", time=listening.now - 20 + n) for n in range(9)))
        listening.advance(6)
        listening.tell(arrival(first + 9, emitter="load", time=listening.now))
        listening.advance(6)
    assert listening.facts == []


@pytest.mark.parametrize("how", [{"live": False, "backlog": True}, {"live": False}, {"emitter": "custom"}])
def test_what_was_held_up_or_comes_of_people_tells_of_no_clock(listening: Listening, how: dict[str, Any]) -> None:
    for n in range(20):
        listening.advance(1)
        listening.tell(arrival(n, host="web-03", time=START - 500 + n, **how))
    assert listening.facts == []


def test_a_wrong_clock_is_told_by_three_batches_at_least(listening: Listening) -> None:
    listening.clocks["web-03"] = 60.0
    listening.beat("web-03", "service")
    listening.advance(15)
    assert listening.opened == set()
    listening.advance(10)
    assert listening.opened == {("clock.skew", "web-03")}


def test_what_telemetry_takes_is_not_the_clocks(listening: Listening) -> None:
    listening.lag, listening.clocks["web-01"] = 2.0, -4.0
    listening.advance(120)
    assert listening.facts == []


def test_a_broker_that_gets_slower_and_slower_is_no_wrong_clock(listening: Listening) -> None:
    for number in range(40):
        listening.lag = 0.8 * number
        listening.advance(1)
        listening.tell(arrival(number, emitter="load", time=listening.now))
    listening.advance(40)
    assert {fact.name for fact in listening.facts} == {"telemetry.lag"}


def test_our_own_clock_set_wrong_differs_from_all_and_resolves_when_it_is_right_again(listening: Listening) -> None:
    for ahead in (60.0, -60.0):
        listening.clocks[OWN] = ahead
        listening.advance(60)
        assert listening.opened == {SKEW, ("clock.skew", "web-02")}
        listening.clocks[OWN] = 0.0
        listening.advance(60)
        assert listening.opened == set()
    assert {fact.name for fact in listening.facts} == {"clock.skew"}


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_our_own_clock_that_jumps_makes_nobody_silent_and_what_is_open_is_asserted_on(
    listening: Listening, jump: float
) -> None:
    listening.stop("web-02", "service")
    listening.advance(60)
    asserted = len(listening.facts)
    for host in (OWN, "web-01", "web-02"):
        listening.clocks[host] = jump
    listening.advance(120)
    assert listening.opened == {("emitter.silent", "web-02", "service")}
    assert len(listening.facts) - asserted >= 3
    listening.stop("web-01", "service")
    listening.advance(60)
    assert SILENT in listening.opened


def test_while_the_broker_is_away_nothing_is_asserted_and_nothing_piles_up(listening: Listening) -> None:
    listening.stop("web-02", "service")
    listening.advance(60)
    facts = list(listening.facts)
    listening.away = True
    listening.stop("web-01", "service")
    listening.advance(3600)
    mine = [one for one in listening.waiting if not getattr(one, "id", "").startswith(("service", "performance"))]
    assert [type(one).__name__ for one in mine] == ["Batch"], "one probe"
    assert listening.facts == facts
    listening.away = False
    listening.beat("web-01", "service")
    listening.advance(60)
    assert {fact.name for fact in listening.facts} == {"emitter.silent"}
    assert listening.opened == {("emitter.silent", "web-02", "service")}
    assert {fact.episode for fact in listening.facts} == {facts[0].episode}


def test_after_a_restart_nobody_is_silent_for_want_of_a_listener_and_facts_go_on(listening: Listening) -> None:
    listening.stop("web-01", "service")
    listening.advance(60)
    (episode,) = {fact.episode for fact in listening.facts}
    listening.away = True
    listening.advance(600)
    listening.away = False
    listening.start()
    listening.advance(60)
    assert listening.opened == {SILENT}
    assert {fact.episode for fact in listening.facts} == {episode}
    listening.beat("web-01", "service")
    listening.advance(5)
    assert listening.facts[-1].reason == "cleared"


def test_a_gap_is_in_flight_for_a_minute_then_missing_and_cleared_by_what_fills_it(listening: Listening) -> None:
    listening.tell(*(arrival(n, emitter="load") for n in (0, 4)))
    listening.advance(55)
    assert (listening.row("load")["in_flight"], listening.row("load")["missing"]) == (3, 0)
    assert listening.told("telemetry.gap") == []
    listening.advance(10)
    assert listening.opened == {("telemetry.gap", "web-01", "load", "state"), ("emitter.silent", "web-01", "load")}
    assert (listening.row("load")["in_flight"], listening.row("load")["missing"]) == (0, 3)
    assert listening.row("load")["open"] == ["emitter.silent", "telemetry.gap"]
    (fact,) = [one for one in listening.facts if one.name == "telemetry.gap"]
    assert (fact.value, fact.labels) == (3, {"emitter": "load", "stream": "state"})
    listening.tell(arrival(2, emitter="load"), arrival(1, emitter="load"))
    assert listening.told("telemetry.gap") == [("open", "asserted")]
    listening.tell(arrival(3, emitter="load", live=False, backlog=True))
    assert listening.told("telemetry.gap")[-1] == ("closed", "cleared")


def test_while_its_host_sends_what_was_held_up_nothing_is_missing(listening: Listening) -> None:
    listening.tell(arrival(100, emitter="service", epoch=EARLIER), arrival(0, emitter="service", epoch=EARLIER))
    for n in range(1, 99, 3):
        listening.advance(3)
        listening.tell(arrival(n, epoch=EARLIER, live=False, backlog=True))
    assert listening.facts == []
    assert listening.row()["missing"] == 0
    listening.advance(70)
    assert listening.opened == {GAP}
    assert listening.row()["missing"] == 66


def test_the_time_of_an_outage_makes_nothing_late(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(2, EARLIER))
    listening.advance(70)
    assert listening.opened == {GAP}
    listening.tell(arrival(4, EARLIER))
    listening.away = True
    listening.advance(600)
    listening.away = False
    listening.tell(arrival(1, EARLIER))
    assert listening.told("telemetry.gap")[-1] == ("closed", "cleared"), "the other is in flight still"
    listening.advance(80)
    assert listening.opened == {GAP}


def test_a_gap_of_an_epoch_that_is_forgotten_is_withdrawn_and_stays_counted(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(2, EARLIER))
    listening.advance(70)
    assert listening.opened == {GAP}
    for _ in range(8):
        listening.begin_anew()
        listening.advance(11)
    assert listening.told("telemetry.gap")[-1] == ("closed", "withdrawn")
    assert listening.row()["missing"] == 1


def test_a_dead_letter_accounts_for_its_number(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(2, EARLIER))
    listening.advance(70)
    listening.dead(arrival(1, EARLIER))
    listening.advance(1)
    assert listening.told("telemetry.gap")[-1] == ("closed", "cleared")
    (row,) = (row for _, row in listening.rows("letter/"))
    counts = (listening.row()["dead"], listening.row()["missing"], listening.row()["in_flight"])
    listening.send_again(msgspec.json.decode(row, type=Letter))
    listening.advance(5)
    assert counts == (1, 0, 0)
    assert listening.opened == {GAP}, "it never came otherwise"
    listening.dead(arrival(1, EARLIER))
    assert (listening.row()["dead"], listening.row()["missing"], listening.row()["in_flight"]) == (1, 0, 0)


def test_a_host_that_is_silent_for_a_week_is_forgotten_and_welcome_again(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(2, EARLIER))
    listening.advance(70)
    listening.stop("web-01")
    listening.advance(60)
    listening.now += FORGET_AFTER
    listening.advance(20)
    assert listening.told("host.silent")[-1] == ("closed", "withdrawn")
    assert listening.told("telemetry.gap")[-1] == ("closed", "withdrawn")
    assert not [key for key in listening.kept if "web-01" in key and key.startswith(("account/", "finding/"))]
    listening.beat("web-01", "service")
    listening.advance(120)
    assert listening.opened == set(), "what came before it was forgotten is not missing"
    assert listening.row()["missing"] == 0


def test_a_fact_is_asserted_every_half_minute_and_after_a_crash_with_the_same_ids() -> None:
    def lived(*crashes: int) -> list[bytes]:
        listening = Listening()
        listening.beat("web-01", "service", "performance")
        listening.advance(20)
        listening.stop("web-01", "service")
        for second in range(200):
            listening.advance(1)
            if second in crashes:
                model = listening.model
                model.recall(listening.rows)
        return [Codec.encode(fact) for fact in listening.facts]

    facts = lived()
    assert len(facts) == 6
    assert lived(60, 61, 100, 131) == facts


def test_what_opens_again_soon_is_asserted_by_its_own_time(listening: Listening) -> None:
    for lag in (8.0, 0.5, 8.0):
        listening.lag = lag
        listening.advance(20)
    listening.advance(40)
    _, second = dict.fromkeys(fact.episode for fact in listening.facts)
    times = [fact.time for fact in listening.facts if fact.episode == second]
    assert [later - time for time, later in itertools.pairwise(times)] == [30.0]


def test_a_stream_that_makes_room_leaves_nothing_behind(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    listening.tell(arrival(0, emitter="load"), arrival(2, emitter="load"))
    listening.advance(70)
    monkeypatch.setattr("collector.ledger.MOST_STREAMS", 4)
    listening.advance(30)
    assert listening.opened == set()
    assert {fact.reason for fact in listening.facts[-2:]} == {"withdrawn"}
    assert not [key for key in listening.kept if "load" in key]


def test_what_waits_for_time_grows_with_hosts_and_not_with_messages(listening: Listening) -> None:
    for number in range(0, 2000, 2):
        listening.tell(arrival(number, EARLIER, time=listening.now))
        if number % 20 == 0:
            listening.advance(1)
    telemetry = listening.model.telemetry
    assert len(telemetry._silence._due) == 2
    assert len(telemetry._gaps._due) == 1
    assert len(telemetry._findings._due) == len(listening.opened) == 1
