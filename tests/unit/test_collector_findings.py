"""What the ledger finds is told apart: a silent emitter, a dead host, a slow broker, one that is away, a restart."""

import pytest

from exhaust.messages import Codec
from tests.unit.collector_listening import EPOCH, OWN, Listening, arrival, settled

SILENT = ("emitter.silent", "web-01", "service")
DEAD = ("host.silent", "web-01")
LAG = ("telemetry.lag", "-")
EARLIER = EPOCH - 100


@pytest.fixture
def listening() -> Listening:
    return settled()


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


STRANGER = ("host.silent", "stranger")


def met(listening: Listening, seconds: int, *hosts: str) -> None:
    """Hear of these hosts for so long, and then no more."""
    for host in hosts:
        listening.beat(host, "service")
    listening.advance(seconds)
    for host in hosts:
        listening.stop(host)


def test_a_host_that_nobody_listed_is_missed_once_it_was_heard_of_for_ten_minutes(listening: Listening) -> None:
    met(listening, 590, "stranger")
    listening.advance(700)
    assert listening.facts == []
    met(listening, 620, "stranger")
    listening.start()
    listening.advance(60)
    assert listening.opened == {STRANGER}
    listening.start()
    listening.advance(60)
    assert listening.opened == {STRANGER}
    met(listening, 10, "stranger")
    assert listening.told("host.silent")[-1] == ("closed", "cleared")


def test_a_restart_makes_nobody_known_for_longer(listening: Listening) -> None:
    listening.advance(700)
    met(listening, 300, "stranger")
    listening.advance(600)
    listening.start()
    listening.advance(60)
    assert listening.facts == []


def test_a_host_that_nobody_listed_is_forgotten_after_an_hour_of_silence(listening: Listening) -> None:
    met(listening, 620, "stranger")
    listening.stop("web-01")
    listening.advance(100)
    assert listening.opened == {STRANGER, DEAD}
    listening.advance(3600 + 600)
    assert listening.opened == {DEAD}
    assert [one.reason for one in listening.facts if one.host == "stranger"][-1] == "withdrawn"
    assert not [key for key in listening.kept if "stranger" in key and key.startswith(("account/", "finding/"))]


def test_one_that_was_never_missed_is_forgotten_as_well(listening: Listening) -> None:
    met(listening, 10, "stranger")
    listening.advance(3600 + 700)
    assert listening.facts == []
    assert not [key for key in listening.kept if "stranger" in key]


def test_of_hosts_that_nobody_listed_only_so_many_are_missed_and_of_the_others_all(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("collector.silence.MOST_STRANGERS", 3)
    met(listening, 620, *(f"stranger-{n}" for n in range(8)))
    listening.stop("web-01")
    listening.advance(100)
    assert len(listening.opened) == 4
    assert DEAD in listening.opened
    assert [record.message for record in caplog.records] == [
        "too many hosts of no inventory are silent, telling of no more"
    ]
