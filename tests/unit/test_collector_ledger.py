"""The ledger accounts for every sequence number."""

import random
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from collector.account import MOST_AWAITED, MOST_EPOCHS, MOST_STRETCHES
from collector.arrival import Arrival, read_arrival
from collector.ledger import Ledger
from exhaust.broker.interface import Delivery
from exhaust.errors import MessageError
from exhaust.messages import Batch
from exhaust.received import MOST_GAPS
from exhaust.wire import pack
from tests.unit.collector_listening import EPOCH, START, arrival

COUNTS = ("received", "missing", "duplicates", "records", "dead", "dropped")


class Book:
    """A ledger, and the rows that it asked to keep."""

    def __init__(self, *arrivals: Arrival) -> None:
        self.kept: dict[str, bytes] = {}
        self.ledger = Ledger()
        self.tell(*arrivals)

    def tell(self, *arrivals: Arrival) -> None:
        for one in arrivals:
            self.do(self.ledger.add(one, 0.0, one.time + 0.25))
            self.do(self.ledger.forgo(one))

    def do(self, keeps: Any) -> None:
        for keep in list(keeps):
            if keep.value is None:
                self.kept.pop(keep.key, None)
            else:
                self.kept[keep.key] = msgspec.json.encode(keep.value)

    def row(self) -> dict[str, Any]:
        (row,) = self.ledger.table(lambda host, gap: False)
        return row

    def counts(self) -> list[int]:
        return [self.row()[name] for name in COUNTS]

    def again(self) -> "Book":
        """The same after a restart."""
        other = Book()
        other.kept = dict(self.kept)
        other.ledger.recall(lambda prefix: (pair for pair in sorted(self.kept.items()) if pair[0].startswith(prefix)))
        return other


def test_what_comes_in_order_is_complete() -> None:
    book = Book(*(arrival(seq, time=100.0 + seq) for seq in range(5)))
    assert book.counts() == [5, 0, 0, 50, 0, 0]
    assert (book.row()["last"], book.row()["last_heard"]) == (104.0, 104.25)


def test_a_gap_is_missing_until_it_is_filled() -> None:
    book = Book(arrival(0), arrival(4))
    assert book.counts()[:2] == [2, 3]
    book.tell(arrival(2))
    assert book.counts() == [3, 2, 0, 30, 0, 0]


def test_the_first_of_an_epoch_is_number_0() -> None:
    assert Book(arrival(3)).counts()[:2] == [1, 3]


def test_of_an_epoch_that_began_before_the_ledger_only_what_follows_is_accounted_for() -> None:
    book = Book()
    book.do(book.ledger.begin(10.0))
    book.tell(arrival(3, epoch=9_999), arrival(5, epoch=9_999))
    assert book.counts()[:2] == [2, 1]
    book.tell(arrival(1, epoch=9_999), arrival(1, epoch=9_999))
    assert book.counts()[:3] == [3, 1, 1]
    book.tell(arrival(3, epoch=10_001))
    assert book.again().counts()[:3] == [4, 4, 1]


def test_what_comes_twice_is_counted_but_not_its_records() -> None:
    assert Book(arrival(0, dropped={"full": 1}), arrival(0, dropped={"full": 1})).counts() == [1, 0, 1, 10, 0, 1]


@pytest.mark.parametrize("seed", range(10))
def test_every_number_is_received_missing_or_a_duplicate_in_any_order(seed: int) -> None:
    chance = random.Random(seed)
    came = [chance.randrange(60) for _ in range(80)]
    received, missing, duplicates, *_ = Book(*(arrival(seq) for seq in came)).counts()
    assert received == len(set(came))
    assert duplicates == len(came) - len(set(came))
    assert missing == max(came) + 1 - len(set(came))


def test_a_late_batch_of_an_older_epoch_fills_its_gap() -> None:
    book = Book(arrival(0, 1), arrival(2, 1), arrival(0, 2))
    book.tell(arrival(1, 1), arrival(1, 1))
    assert book.counts()[:3] == [4, 0, 1]


def test_old_epochs_are_summed_up_and_nothing_is_lost() -> None:
    book = Book(*(arrival(seq, epoch) for epoch in range(1, 13) for seq in (0, 2)))
    assert book.counts()[:3] == [24, 12, 0]
    (stream,) = book.ledger.streams()
    assert [epoch.epoch for epoch in stream.epochs] == list(range(13 - MOST_EPOCHS, 13))
    assert len(book.kept) == MOST_EPOCHS + 1
    book.tell(arrival(1, 3), arrival(1, 3), arrival(3, 3))
    assert book.again().counts()[:3] == [26, 13, 1], "what comes of a forgotten epoch is counted anew"


def test_epochs_of_the_future_hide_nothing_of_those_that_are_true() -> None:
    book = Book(arrival(0), arrival(1))
    book.tell(*(arrival(0, 2**53 - number, time=START + 1) for number in range(2 * MOST_EPOCHS)))
    before = 2 + 2 * MOST_EPOCHS
    book.tell(arrival(7), arrival(9), arrival(9))
    assert book.again().counts()[:3] == [before + 2, 1, 1], "of what it missed while it was forgotten nobody knows"
    later = EPOCH + 3_600_000
    book.tell(*(arrival(seq, later, time=START + 3600) for seq in (1, 3, 3)))
    assert book.again().counts()[:3] == [before + 4, 3, 2]


def test_the_epoch_that_was_heard_of_longest_ago_is_forgotten_whatever_its_number() -> None:
    book = Book()
    for reading, epoch in enumerate((*range(1, MOST_EPOCHS + 1), 1, 2**53)):
        book.do(book.ledger.add(arrival(reading, epoch), float(reading), START))
    (stream,) = book.again().ledger.streams()
    assert [one.epoch for one in stream.epochs] == [1, *range(3, MOST_EPOCHS + 1), 2**53]


def test_the_present_epoch_is_not_forgotten_for_what_was_held_up_of_many_others() -> None:
    book = Book(arrival(0), *(arrival(0, EPOCH - number, live=False) for number in range(1, 2 * MOST_EPOCHS)))
    book.tell(arrival(0))
    assert book.again().counts()[2] == 1


def test_more_gaps_than_are_remembered_stay_missing_and_what_fills_them_is_told_as_a_duplicate() -> None:
    book = Book(*(arrival(seq) for seq in range(0, 2 * MOST_GAPS + 200, 2)))
    assert book.counts()[:3] == [1100, 1099, 0]
    book.tell(arrival(1))
    assert book.counts()[:3] == [1100, 1099, 1]


def test_a_dead_letter_is_delivered_no_more_and_once_it_was_sent_again_it_is() -> None:
    book = Book(arrival(0), arrival(1))
    for _ in range(2):
        book.do(book.ledger.bury(arrival(1), certain=False))
    assert book.counts() == [1, 0, 0, 10, 1, 0]
    book.do(book.ledger.redeem(arrival(1)))
    book.do(book.ledger.redeem(arrival(1)))
    assert book.counts() == [2, 0, 0, 20, 0, 0]


def test_a_dead_letter_that_never_came_otherwise_is_not_missing_and_may_still_come() -> None:
    book = Book(arrival(0), arrival(9))
    for seq in (3, 4, 5, 12):
        book.do(book.ledger.bury(arrival(seq, dropped={"full": 2}), certain=True))
    assert book.counts() == [2, 5, 0, 20, 4, 8]
    book.tell(arrival(4, dropped={"full": 2}), arrival(12), arrival(12))
    assert book.again().counts() == [2, 7, 1, 20, 4, 8]
    book.do(book.ledger.redeem(arrival(4)))
    assert book.again().counts() == [3, 7, 1, 30, 3, 8]


def test_dead_letters_open_no_gap_and_no_epoch_for_anybody_may_write_them() -> None:
    book = Book(arrival(0))
    for letter in (arrival(10**9), arrival(0, epoch=arrival(0).epoch + 1), arrival(0, host="web-02")):
        book.do(book.ledger.bury(letter, certain=True))
    assert book.counts() == [1, 0, 0, 10, 1, 0]


def test_a_dead_letter_that_anybody_may_have_written_accounts_for_nothing_that_did_not_come() -> None:
    book = Book(arrival(0), arrival(2))
    book.do(book.ledger.bury(arrival(1, dropped={"full": 2}), certain=False))
    assert book.counts() == [2, 1, 0, 20, 0, 0]


def test_what_the_emitter_gave_up_is_missing_no_more_unless_it_came() -> None:
    book = Book(arrival(0), arrival(3), arrival(9))
    book.tell(arrival(10, forgone=((EPOCH, 1, 4), (EPOCH, 8, 30), (EPOCH - 1, 0, 3))))
    assert (book.counts()[:2], book.row()["given_up"]) == ([4, 3], 8)
    book.tell(*(arrival(seq, live=False) for seq in (2, 8, 6, 20)))
    assert (book.again().counts()[:2], book.again().row()["given_up"]) == ([8, 11], 6)
    book.do(book.ledger.bury(arrival(1), certain=True))
    assert (book.counts()[:2], book.row()["given_up"], book.row()["dead"]) == ([8, 11], 5, 1)


def test_what_was_given_up_of_an_epoch_is_known_when_the_first_of_it_comes_late() -> None:
    book = Book(arrival(0, 7, forgone=((5, 1, 2),))).again()
    assert (book.counts()[:2], book.row()["given_up"]) == ([1, 0], 2)
    book.tell(arrival(4, 5, live=False))
    assert (book.again().counts()[:2], book.again().row()["given_up"]) == ([2, 2], 2)


def test_what_was_given_up_beyond_all_that_came_of_an_epoch_is_counted_wherever_it_is_remembered() -> None:
    book = Book(*(arrival(n, 1) for n in range(10)), arrival(0, 2, forgone=((1, 10, 20),)))
    assert (book.counts()[:2], book.row()["given_up"]) == ([11, 0], 11)
    book.tell(*(arrival(0, epoch) for epoch in range(3, 13)))
    assert (book.again().counts()[:2], book.again().row()["given_up"]) == ([21, 0], 11)
    told = tuple((epoch, 0, 4) for epoch in range(20, 20 + 2 * MOST_AWAITED))
    book.tell(arrival(0, 100, forgone=told), arrival(1, 100, forgone=((20 + MOST_AWAITED, 3, 6),)))
    assert book.again().row()["given_up"] == 11 + 5 * 2 * MOST_AWAITED + 2


def test_nothing_that_is_not_yet_used_can_be_given_up() -> None:
    book = Book(*(arrival(seq) for seq in range(5)))
    book.tell(arrival(5, forgone=((EPOCH, 0, 9_999_999_999_999), (EPOCH + 1, 0, 9))), arrival(1000))
    assert (book.counts()[:2], book.row()["given_up"], book.ledger.counts["ignored"]) == ([7, 994], 0, 2)


@pytest.mark.parametrize(
    "forged", [arrival(1 << 40, forgone=((EPOCH, 0, 1 << 40),)), arrival(0, EPOCH + 5, forgone=((EPOCH, 0, 9999),))]
)
def test_what_was_given_up_in_the_name_of_a_stream_that_goes_on_is_not_believed(forged: Arrival) -> None:
    book = Book(*(arrival(seq) for seq in range(5)))
    book.tell(forged, arrival(7), arrival(9))
    stream = book.ledger.get((forged.host, forged.emitter, forged.stream))
    assert stream is not None
    assert [(gap.first, gap.last) for gap in stream.gaps()][:2] == [(5, 6), (8, 8)]
    assert book.row()["given_up"] == 0


def test_what_was_given_up_of_forgotten_epochs_and_gaps_stays_counted() -> None:
    book = Book(*(arrival(n, epoch, forgone=((epoch, 1, 1),)) for epoch in range(1, 13) for n in (0, 3)))
    assert (book.again().counts()[:2], book.again().row()["given_up"]) == ([24, 12], 12)
    book = Book(
        arrival(0), arrival(4, forgone=((EPOCH, 1, 1),)), *(arrival(n) for n in range(6, 2 * MOST_GAPS + 200, 2))
    )
    assert book.again().row()["given_up"] == 1
    assert sum(book.counts()[:2]) + 1 == 2 * MOST_GAPS + 199


def test_more_stretches_of_dead_letters_than_are_remembered_stay_what_they_were() -> None:
    book = Book(*(arrival(seq) for seq in range(2 * MOST_STRETCHES + 20)))
    for seq in range(0, 2 * MOST_STRETCHES + 20, 2):
        book.do(book.ledger.bury(arrival(seq), certain=True))
    assert book.counts()[0] + book.counts()[4] == 2 * MOST_STRETCHES + 20
    assert book.counts()[4] == MOST_STRETCHES


def test_a_ledger_recalls_what_it_asked_to_keep() -> None:
    book = Book(*(arrival(seq, dropped={"full": 2}) for seq in (0, 1, 5, 3)))
    again = book.again()
    assert again.row() == book.row()
    again.tell(arrival(2))
    assert again.counts() == [5, 1, 0, 50, 0, 8]


def test_a_batch_writes_the_row_of_its_epoch_alone() -> None:
    book = Book(arrival(0, 1), arrival(0, 2, stream="other"), arrival(0, 2))
    (keep,) = book.ledger.add(arrival(1, 2), 0.0, 1.0)
    assert keep.key.endswith("/state/2")


def test_dropped_records_are_told_by_reason_and_the_reasons_are_bounded() -> None:
    book = Book(*(arrival(seq, dropped={f"reason {seq}": 2, "full": 1}) for seq in range(40)))
    assert book.row()["dropped"] == 120
    assert book.row()["reasons"]["full"] == 40
    assert len(book.row()["reasons"]) == 17
    assert book.row()["reasons"]["other"] == 2 * (40 - 15)


def test_the_stream_silent_longest_is_surplus_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.ledger.MOST_STREAMS", 2)
    book = Book(*(arrival(n, emitter=name) for n, name in ((0, "a"), (0, "b"), (1, "a"))))
    before = book.ledger.surplus
    book.tell(arrival(0, emitter="c"))
    assert (before, getattr(book.ledger.surplus, "emitter", "")) == (None, "b")


def _delivery(**headers: Any) -> Delivery:
    batch = Batch(
        id="b1", time=5.0, host="web.01", emitter="custom", stream="traffic", epoch=1, seq=4,
        dropped={"full": 2, "too_big": 1}, records=[{"time": 5.0, "x": 1}],
    )  # fmt: skip
    out = pack(batch)
    return Delivery(out.exchange, out.key, out.id, out.type, out.body, out.time, {**out.headers, **headers}, "q", 1)


def test_a_batch_is_counted_by_its_headers_and_only_where_records_were_dropped_its_body_says_why() -> None:
    told = ("web.01", "custom", "traffic", 1, 4, 1, 5.0, "b1", True, False)
    assert read_arrival(_delivery()) == Arrival(*told, {"full": 2, "too_big": 1})
    assert read_arrival(replace(_delivery(), body=b"\xff")) == Arrival(*told, {"unknown": 3})
    assert read_arrival(_delivery(dropped=4)) == Arrival(*told, {"unknown": 4})
    assert read_arrival(replace(_delivery(dropped=0), body=b"not looked at")) == Arrival(*told)


def test_what_was_given_up_is_read_from_the_headers() -> None:
    assert read_arrival(_delivery(forgone="1:2-3,0:4-4,1:9-8")).forgone == ((1, 2, 3), (0, 4, 4))


def test_an_id_that_is_none_leads_nowhere() -> None:
    assert [read_arrival(replace(_delivery(), id=name)).id for name in ("", "a/b", "x" * 129, "b1")] == [
        "",
        "",
        "",
        "b1",
    ]


def test_by_which_road_a_batch_came_is_told() -> None:
    backlog = read_arrival(replace(_delivery(), exchange="exhaust.backlog"))
    again = read_arrival(_delivery(), resent=True)
    assert [(one.live, one.backlog) for one in (backlog, again)] == [(False, True), (False, False)]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "other"}, {"seq": -1}, {"seq": "4"}, {"epoch": None}, {"count": 1.5}, {"emitter": ""}, {"seq": 2**41},
        {"dropped": None}, {"forgone": "1:2"}, {"forgone": 3}, {"forgone": ",".join(["1:2-3"] * 300)},
    ],
)  # fmt: skip
def test_headers_that_are_not_the_batchs_are_refused(headers: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        read_arrival(_delivery(**headers))


def test_a_host_whose_facts_could_not_be_told_is_refused() -> None:
    for host in ("w" * 231, "." * 77):
        batch = Batch(id="b", time=5.0, host=host, emitter="custom", stream="x", epoch=1, seq=4)
        out = pack(batch)
        with pytest.raises(MessageError, match="too long"):
            read_arrival(Delivery(out.exchange, out.key, out.id, out.type, out.body, 5.0, out.headers, "q", 1))
