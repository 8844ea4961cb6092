"""What is missing is in flight for a while, then a fact, and over when it came, was refused or is forgotten."""

import msgspec
import pytest

from collector.letters import Letter
from collector.telemetry import FORGET_AFTER
from tests.unit.collector_listening import EPOCH, Listening, arrival, settled

GAP = ("telemetry.gap", "web-01", "service", "state")
EARLIER = EPOCH - 100


@pytest.fixture
def listening() -> Listening:
    return settled()


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


def test_what_its_emitter_gave_up_withdraws_a_gap(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(4, EARLIER))
    listening.advance(70)
    listening.tell(arrival(5, EARLIER, forgone=((EARLIER, 1, 2),)))
    assert (listening.row()["given_up"], listening.row()["missing"]) == (2, 1)
    assert listening.opened == {GAP}
    listening.model.recall(listening.rows)
    listening.tell(arrival(3, EARLIER))
    assert listening.told("telemetry.gap")[-1] == ("closed", "withdrawn"), "some of it was never seen"
    listening.advance(70)
    assert listening.opened == set()


def test_a_gap_that_was_given_up_before_it_was_missed_for_long_is_none(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(4, EARLIER, forgone=((EARLIER, 1, 3),)))
    listening.advance(70)
    assert listening.facts == []
    assert listening.row()["given_up"] == 3


def test_a_batch_that_came_before_gives_nothing_up(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(4, EARLIER), arrival(4, EARLIER, forgone=((EARLIER, 1, 3),)))
    listening.advance(70)
    assert listening.opened == {GAP}
    assert (listening.row()["given_up"], listening.row()["missing"]) == (0, 3)


def test_a_number_that_was_given_up_and_has_come_spoils_no_gap(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(2, EARLIER))
    listening.advance(70)
    listening.tell(arrival(3, EARLIER, forgone=((EARLIER, 0, 0),)), arrival(1, EARLIER))
    assert listening.told("telemetry.gap")[-1] == ("closed", "cleared")


def test_a_dead_letter_that_anybody_may_have_written_closes_no_gap(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(2, EARLIER))
    listening.advance(70)
    listening.dead(arrival(1, EARLIER))
    assert listening.opened == {GAP}
    assert (listening.row()["dead"], listening.row()["missing"]) == (0, 1)
    listening.tell(arrival(1, EARLIER))
    assert listening.told("telemetry.gap")[-1] == ("closed", "cleared")
    assert (listening.row()["dead"], listening.row()["missing"]) == (1, 0)


def test_a_dead_letter_of_the_broker_s_accounts_for_its_number(listening: Listening) -> None:
    listening.tell(arrival(0, EARLIER), arrival(2, EARLIER))
    listening.advance(70)
    listening.dead(arrival(1, EARLIER), "delivery_limit")
    listening.advance(1)
    assert listening.told("telemetry.gap")[-1] == ("closed", "withdrawn")
    (row,) = (row for _, row in listening.rows("letter/"))
    counts = (listening.row()["dead"], listening.row()["missing"], listening.row()["in_flight"])
    listening.send_again(msgspec.json.decode(row, type=Letter))
    listening.advance(5)
    assert counts == (1, 0, 0)
    assert listening.opened == {GAP}, "it never came otherwise"
    listening.dead(arrival(1, EARLIER), "delivery_limit")
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
