"""What the agent decides: each key once, and nothing that is late, stale, used, or not allowed here."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from agents.agent import AgentDecider, Arrival, Errand
from agents.gate import Refusal
from agents.journal import AT_ONCE, KEEP_AT_LEAST, KEEP_FOR, MOST_KEYS, Answer, age
from exhaust.messages import Command, Order, Result
from exhaust.worker import Effect, Keep, Perform

NOW = 1_800_000_000.0
DONE = Answer("key-1", "succeeded", "", NOW + 1, NOW + 2, changed=True, output={"pid": 7})


class Disk:
    """Does what the worker's store would do with effects."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.asked: list[Errand] = []
        self.results: list[Result] = []

    def under(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, value) for key, value in self.rows.items() if key.startswith(prefix)))

    def take(self, effects: Iterable[Effect]) -> None:
        for effect in list(effects):
            match effect:
                case Keep(key, None):
                    self.rows.pop(key, None)
                case Keep(key, value):
                    self.rows[key] = msgspec.json.encode(value)
                case Perform(work):
                    self.asked.append(work)
                case Result():
                    self.results.append(effect)


class Host:
    """An agent's decider over its disk."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.start()

    def start(self) -> None:
        self.decider = AgentDecider("web-01")
        self.decider.recall(self.disk.under)
        self.disk.take(self.decider.resume(NOW))

    def give(self, message: Command, refusal: Refusal | None = None, at: float = NOW) -> Result | None:
        before = len(self.disk.results)
        self.disk.take(self.decider.handle(Arrival(message, b"sealed", refusal), at))
        return self.disk.results[-1] if len(self.disk.results) > before else None

    def settle(self, answer: Answer | None = DONE, at: float = NOW + 2) -> None:
        self.disk.take(self.decider.performed(self.disk.asked[-1], answer, at))


def command(n: int = 1, **changes: Any) -> Command:
    given: dict[str, Any] = {
        "id": f"command-{n}", "time": NOW, "execution": "run", "task": "restart", "host": "web-01",
        "action": "service.restart", "params": {"service": "shop"}, "audience": "me", "epoch": 3, "seq": n,
        "expires": NOW + 60, "key": f"key-{n}", "timeout": 30.0,
    }  # fmt: skip
    return Command(**(given | changes))


def test_a_command_is_journalled_and_performed() -> None:
    host = Host()
    assert host.give(command()) is None
    assert "open/key-1" in host.disk.rows
    assert [errand.entry.envelope for errand in host.disk.asked] == [b"sealed"]


def test_the_outcome_becomes_the_result_of_the_command() -> None:
    host = Host()
    host.give(command())
    host.settle()
    result = host.disk.results[-1]
    assert (result.command, result.key, result.state, result.started) == ("command-1", "key-1", "succeeded", NOW + 1)
    assert "open/key-1" not in host.disk.rows
    assert "done/key-1" in host.disk.rows


def test_a_key_that_is_done_gets_its_result_again_whatever_expiry_epoch_and_sequence() -> None:
    host = Host()
    host.give(command())
    host.settle()
    host.start()
    late = command(id="again", epoch=0, seq=0, expires=NOW - 9000)
    result = host.give(late, Refusal("halted"), at=NOW + 3600)
    assert result is not None
    assert (result.command, result.state, result.output) == ("again", "succeeded", {"pid": 7})
    assert len(host.disk.asked) == 1


def test_a_key_under_way_is_not_performed_again_and_the_newest_command_gets_the_result() -> None:
    host = Host()
    host.give(command())
    assert host.give(command(id="again")) is None
    assert len(host.disk.asked) == 1
    host.settle()
    assert [result.command for result in host.disk.results] == ["again"]


def test_what_was_under_way_is_asked_for_again_after_a_restart() -> None:
    host = Host()
    host.give(command())
    host.start()
    assert [(errand.entry.command.key, errand.resumed) for errand in host.disk.asked] == [
        ("key-1", False),
        ("key-1", True),
    ]


def test_what_was_given_up_at_the_end_stays_under_way() -> None:
    host = Host()
    host.give(command())
    host.settle(None)
    assert host.disk.results == []
    assert "open/key-1" in host.disk.rows


def test_a_command_may_be_as_late_as_clocks_may_differ() -> None:
    assert Host().give(command(), at=NOW + 65) is None
    result = Host().give(command(), at=NOW + 65.1)
    assert result is not None
    assert (result.state, result.reason, result.started) == ("refused", "expired", None)


def test_a_command_from_the_future_is_refused_by_the_clock() -> None:
    result = Host().give(command(), at=NOW - 6)
    assert result is not None
    assert result.reason == "clock"


def test_a_refusal_is_kept_under_its_key() -> None:
    host = Host()
    host.give(command(), Refusal("halted", "HALT exists"))
    host.start()
    result = host.give(command(id="again"))
    assert result is not None
    assert (result.reason, result.output) == ("halted", {"detail": "HALT exists"})
    assert host.disk.asked == []


def test_an_older_epoch_is_stale_even_after_a_restart() -> None:
    host = Host()
    host.give(command(1, epoch=4))
    host.start()
    result = host.give(command(2, epoch=3))
    assert result is not None
    assert result.reason == "stale_epoch"
    assert host.decider.fence == {"epoch": 4, "seq": 1}


def test_a_refused_command_raises_the_epoch_too() -> None:
    host = Host()
    host.give(command(1, epoch=9), Refusal("halted"))
    result = host.give(command(2, epoch=8))
    assert result is not None
    assert result.reason == "stale_epoch"


def test_a_sequence_number_serves_one_key_only() -> None:
    host = Host()
    host.give(command(1, seq=5))
    result = host.give(command(2, seq=5))
    assert result is not None
    assert result.reason == "replayed"


def test_a_command_that_was_overtaken_is_still_done() -> None:
    host = Host()
    host.give(command(1, seq=900))
    assert host.give(command(2, seq=3)) is None
    assert host.give(command(3, seq=2000)) is None
    result = host.give(command(4, seq=4))
    assert result is not None
    assert result.reason == "replayed"


def test_a_new_epoch_counts_its_own_sequence() -> None:
    host = Host()
    host.give(command(1, epoch=1, seq=500))
    assert host.give(command(2, epoch=2, seq=0)) is None


def test_two_commands_of_one_key_in_one_transaction_are_performed_once() -> None:
    host = Host()
    both = [Arrival(command(), b"", Refusal("halted")), Arrival(command(id="again"), b"", None)]
    effects = [effect for arrival in both for effect in host.decider.handle(arrival, NOW)]
    results = [effect for effect in effects if isinstance(effect, Result)]
    assert [(result.command, result.reason) for result in results] == [("command-1", "halted"), ("again", "halted")]
    assert not any(isinstance(effect, Perform) for effect in effects)


def test_a_key_that_begins_like_another_is_another() -> None:
    host = Host()
    host.give(command(1, key="key-10"), Refusal("halted"))
    host.start()
    assert host.give(command(2, key="key-1")) is None


def test_keys_are_forgotten_after_a_week() -> None:
    host = Host()
    host.give(command(1), Refusal("halted"))
    host.give(command(2, time=NOW + 100, expires=NOW + 160), at=NOW + 100)
    host.disk.take(host.decider.tick(NOW + KEEP_FOR + 50))
    assert "done/key-1" not in host.disk.rows
    assert "open/key-2" in host.disk.rows
    assert len([row for row in host.disk.rows if row.startswith("age/")]) == 1


def test_of_too_many_keys_only_those_of_the_last_day_are_known() -> None:
    host = Host()
    days = {"old": NOW - 2 * KEEP_AT_LEAST, "new": NOW - KEEP_AT_LEAST / 2}
    for name, received in days.items():
        keys = [f"{name}-{n}" for n in range(MOST_KEYS // 2 + 200)]
        host.disk.rows |= {age(received, key): b"1" for key in keys} | dict.fromkeys((f"done/{k}" for k in keys), b"{}")
    host.start()
    while host.decider.due <= NOW + 60:
        host.disk.take(host.decider.tick(max(NOW, host.decider.due)))
    known = [row for row in host.disk.rows if row.startswith("done/")]
    assert MOST_KEYS - AT_ONCE < len(known) <= MOST_KEYS
    assert sum(row.startswith("done/new") for row in known) == MOST_KEYS // 2 + 200
    assert sum(row.startswith("age/") for row in host.disk.rows) == len(known)


def test_the_same_command_gives_the_same_result_id() -> None:
    first, second = Host().give(command(), Refusal("halted")), Host().give(command(), Refusal("policy"))
    assert first is not None
    assert second is not None
    assert first.id == second.id


def test_refusals_are_counted_by_reason() -> None:
    host = Host()
    host.give(command(1), Refusal("halted"))
    host.give(command(2), Refusal("policy"))
    host.give(command(3), Refusal("policy"))
    assert host.decider.counts == {"halted": 1, "policy": 2}


def test_a_halted_host_refuses_until_it_is_resumed_also_after_a_restart() -> None:
    host = Host()
    halt = Order(id="o1", time=NOW, order="halt", target=None, by="ann", reason="look first")
    host.disk.take(host.decider.handle(halt, NOW))
    host.start()
    host.give(command())
    assert (host.disk.results[-1].state, host.disk.results[-1].reason) == ("refused", "halted")
    assert host.disk.results[-1].output == {"detail": "by ann: look first"}
    resume = msgspec.structs.replace(halt, id="o2", time=NOW + 1, order="resume")
    host.disk.take(host.decider.handle(resume, NOW + 1))
    host.give(command(2))
    assert len(host.disk.asked) == 1
