"""What the commands that read show: 80 columns, nothing that a terminal would obey, and the right exit code."""

import io
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from exhaust.commands.client import Client
from exhaust.commands.glance import status_lines
from exhaust.commands.letters import whole_lines
from exhaust.commands.reading import run_explain, run_items, run_status
from exhaust.commands.rendering import amount, chain_lines, columns, fit, item_lines, record_line, span, when

T = 1767323045.678
LONG = "0190163d-8694-739b-aea5-966c26f8ad91"
HOSTILE = "a\x1b[31m\n\u202e\x07 界界" + "b" * 300
STATUS: dict[str, Any] = {
    "time": T,
    "halt": True,
    "halts": [{"target": None, "by": "ann", "reason": "lunch 界", "since": T - 75}],
    "components": {
        "activator": {"state": "down", "last_error": "activator.sock: connection refused"},
        "agent": {
            "state": "ready", "policy": {"fault": "policy.yaml:1:1: unknown key 'x'"}, "outbox": 2,
            "refused": {"forged": 3, "unusable": 1}, "reload": {"refused": "site.yaml:2:1: unknown key 'hots'"},
        },
        "collector": {
            "state": "ready", "since": T - 192, "rates": {"handled": 1204.5}, "lag": 0.0021, "restarts": 1, "outbox": 0,
            "checks": {"broker": False}, "broker": {"connected": False, "last_error": "connection refused"},
            "people": {"bob": "bob.token: others may read this token: chmod 600 it"},
        },
        "emitters": {
            "state": "ready",
            "emitters": {"service": {"last_error": "no such file"}, "performance": {"last_error": ""}},
            "spool": {"unsent": 12, "bytes": 33773, "dropped": {"spool_full": 1204}, "last_error": ""},
        },
    },
    "ledger": [
        {"host": "db-1.internal.example.org", "emitter": "performance", "received": 40, "duplicates": 0, "dead": 0,
         "given_up": 0, "in_flight": 2, "missing": 0, "records": 40, "dropped": 0, "reasons": {}, "last": T - 30,
         "last_heard": T - 1.5, "open": ["clock.skew"]},
        {"host": "web-01", "emitter": "performance", "received": 12034, "duplicates": 12, "dead": 1,
         "given_up": 1024, "in_flight": 0,
         "missing": 3, "records": 1203400, "dropped": 1304, "reasons": {"spool_full": 1204, "too_big": 100},
         "last": T - 90, "last_heard": T - 90, "open": ["emitter.silent", "telemetry.gap"]},
        {"host": "web-01", "emitter": "service", "received": 5, "duplicates": 0, "dead": 0, "given_up": 0,
         "in_flight": 0, "missing": 0, "records": 0, "dropped": 0, "reasons": {},
         "last": T - 0.5, "last_heard": T - 0.25, "open": []},
    ],
    "dead_letters": 3,
    "open_facts": 12,
    "worst_facts": [
        {"id": LONG, "name": "service.down", "host": "web-01", "labels": {"service": "shop"}, "severity": "critical",
         "since": T - 8.2, "summary": "shop ist tot 界界"},
        {"id": LONG, "name": "traffic.high", "host": None, "labels": {"site": "a"}, "severity": "warning",
         "since": T - 7200, "summary": ""},
    ],
    "running_executions": [
        {"id": LONG, "workflow": "restart-service", "host": "web-01", "state": "verifying", "started": T - 1.5,
         "time": T - 2},
    ],
}  # fmt: skip
FACT = {
    "id": LONG, "time": T, "state": "open", "severity": "critical", "name": "service.down", "host": "web-01",
    "summary": "shop is dead", "value": None, "reason": "asserted", "labels": {"service": "shop"},
}  # fmt: skip
PREDICTION = {**FACT, "name": "disk.filling", "due": T + 3600, "probability": 0.9, "horizon": 43200.0}
LETTER = {
    "id": LONG, "message": LONG, "time": T, "received": T + 0.5, "type": "batch/1", "host": "web-01",
    "stream": "service.state", "queue": "exhaust.analyzers.telemetry", "exchange": "exhaust.telemetry",
    "key": "web-01.service.state", "reason": "unusable: the body is no message of ours: " + "no luck, " * 9 + "sorry",
    "attempts": 2, "size": 17, "headers": {"host": "web-01", "seq": 7}, "batch": None,
}  # fmt: skip
HOST = {
    "id": "web-01", "name": "web-01", "labels": {"role": "web", "env": "prod"}, "known": True, "last_heard": T,
    "emitters": ["service"], "streams": ["service.state"], "open_facts": 2,
}  # fmt: skip
RECORD = {"id": f"{LONG}#0", "host": "web-01", "stream": "service.state", "time": T, "service": "shop", "wanted": True}
ORDER = {
    "id": LONG, "time": T, "order": "trigger", "target": "restart-service", "host": "web-01", "by": "ann",
    "reason": "after the upgrade", "inputs": {}, "execution": LONG,
}  # fmt: skip
DECISION = {
    "id": LONG, "time": T, "outcome": "refused", "rule": "restart-dead-service", "rung": 1, "host": None, "count": 12,
    "reasons": [{"guard": "cooldown", "have": 3, "want": 20}, {"guard": "limit", "have": 3, "want": 2}],
}  # fmt: skip
EXECUTION = {
    "id": LONG, "time": T, "state": "succeeded", "verdict": "recovered", "workflow": "restart-service",
    "host": "web-01", "started": T, "ended": T + 1.25, "reason": None, "rule": "restart-dead-service",
}  # fmt: skip
CHAIN = {
    "id": LONG, "records": [], "orders": [ORDER], "facts": [FACT], "predictions": [PREDICTION],
    "decisions": [{**DECISION, "outcome": "fired"}],
    "executions": [EXECUTION],
    "steps": [
        {"ms": 0.0, "time": T, "kind": "record", "id": f"{LONG}#0", "what": "record service=shop, state=dead"},
        {"ms": 4.012, "time": T, "kind": "fact", "id": LONG, "what": "service.down opened: shop is dead"},
        {"ms": 8.5, "time": T, "kind": "task", "id": "v1", "what": "task restart failed: " + "no luck " * 13},
        {"ms": 12000.0, "time": T, "kind": "verdict", "id": "v2", "what": "restart-service succeeded, recovered"},
    ],
}  # fmt: skip


def shown(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)


def test_status_at_a_glance() -> None:
    assert (
        shown(status_lines(STATUS))
        == """\
2026-01-02 03:04:05.678Z  HALTED: nothing that acts is started
  everything, for 1m15s, by ann: lunch 界

component       state         since  handled/s      lag  restarts
activator       down              -          -        -         -
  activator.sock: connection refused
agent           ready             -          -        -         -
  reload refused: site.yaml:2:1: unknown key 'hots'
  policy: policy.yaml:1:1: unknown key 'x'
  outbox: 2 messages wait for their confirm
  refused messages: 3 forged, 1 unusable
collector       ready         3m12s       1204      2ms         1
  waits for broker
  broker: connection refused
  token of bob: bob.token: others may read this token: chmod 600 it
emitters        ready             -          -        -         -
  emitter service: no such file
  spool: 12 batches wait for their confirm, 33773 bytes
  spool: dropped 1204 (spool_full)

  emitter     batches records  twice dropped  dead given up flying missing heard
db-1.internal.example.org  ! clock.skew
  performance      40      40      0       0     0        0      2       0  1.5s
web-01
  performance   12034    1.2M     12    1304     1     1024      0       3 1m30s
    ! emitter.silent, telemetry.gap
    dropped 1204 spool_full, 100 too_big
  service           5       0      0       0     0        0      0       0 250ms

dead letters: 3: 'exhaust dead-letters' lists them
open facts: 12
  critical    8.2s  service.down          web-01          shop ist tot 界界
  warning       2h  traffic.high          -               site=a
  and more: 'exhaust facts --filter state=open' lists them
running executions: 1
  restart-service             web-01                    verifying      1.5s
  0190163d-8694-739b-aea5-966c26f8ad91
"""
    )


def test_an_item_of_each_kind_and_a_record() -> None:
    items = {
        "facts": FACT, "predictions": PREDICTION, "decisions": DECISION, "executions": EXECUTION, "hosts": HOST,
        "dead-letters": LETTER,
    }  # fmt: skip
    lines = [line for kind, item in items.items() for line in item_lines(kind, item)]
    lines.append(record_line(RECORD))
    assert (
        shown(lines)
        == """\
2026-01-02 03:04:05.678Z  open    critical  service.down
  0190163d-8694-739b-aea5-966c26f8ad91  web-01          shop is dead
2026-01-02 03:04:05.678Z  open    critical  disk.filling
  0190163d-8694-739b-aea5-966c26f8ad91  web-01          90% by 2026-01-02 04:04
2026-01-02 03:04:05.678Z  refused   restart-dead-service/1
  0190163d-8694-739b-aea5-966c26f8ad91  -               cooldown, limit (x12)
2026-01-02 03:04:05.678Z  succeeded      recovered      restart-service
  0190163d-8694-739b-aea5-966c26f8ad91  web-01             1.2s  restart-dead-s…
web-01                          known     2026-01-02 03:04:05.678Z     2 open
  env=prod role=web                     service.state
2026-01-02 03:04:06.178Z  batch/1        web-01/service.state
  0190163d-8694-739b-aea5-966c26f8ad91  exhaust.analyzers.telemetry
    unusable: the body is no message of ours: no luck, no luck, no luck, no
    luck, no luck, no luck, no luck, no luck, no luck, sorry, sent again 2 times
03:04:05.678Z  web-01          service=shop wanted=true
"""
    )


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ({"body": {"kind": "batch/1", "records": []}}, ["{", '  "kind": "batch/1",', '  "records": []', "}"]),
        ({"text": "no\x1b[31m JSON"}, ["no\\x1b[31m JSON"]),
        ({"base64": "/wA="}, ["in base64:", "/wA="]),
    ],
)
def test_a_dead_letter_is_shown_whole(content: dict[str, Any], lines: list[str]) -> None:
    told = list(whole_lines({**LETTER, **content}))
    assert told[told.index("") + 1 :] == lines
    assert (
        shown(told[: told.index("")])
        == f"""\
time       2026-01-02 03:04:05.678Z
received   2026-01-02 03:04:06.178Z
id         {LONG}
message    {LONG}
type       batch/1
host       web-01
stream     service.state
queue      exhaust.analyzers.telemetry
reason     unusable: the body is no message of ours: no luck, no luck, no luck,
           no luck, no luck, no luck, no luck, no luck, no luck, sorry
exchange   exhaust.telemetry
key        web-01.service.state
attempts   2
size       17
header host  web-01
header seq  7
"""
    )


def test_an_explanation_is_a_time_line() -> None:
    assert (
        shown(chain_lines(CHAIN))
        == """\
order      trigger restart-service on web-01, by ann
           0190163d-8694-739b-aea5-966c26f8ad91
fact       service.down on web-01, open: asserted
           0190163d-8694-739b-aea5-966c26f8ad91
prediction disk.filling on web-01, open: asserted
           0190163d-8694-739b-aea5-966c26f8ad91
decision   restart-dead-service/1: fired
execution  restart-service on web-01: succeeded, recovered
           0190163d-8694-739b-aea5-966c26f8ad91

          ms  since 2026-01-02 03:04:05.678Z
         0.0  record     service=shop, state=dead
         4.0  fact       service.down opened: shop is dead
         8.5  task       restart failed: no luck no luck no luck no luck no luck
                         no luck no luck no luck no luck no luck no luck no luck
                         no luck
     12000.0  verdict    restart-service succeeded, recovered
"""
    )


def _poisoned(content: Any) -> Any:
    """The same data, but every text in it is hostile."""
    match content:
        case str():
            return HOSTILE
        case list():
            return [_poisoned(one) for one in content]
        case dict():
            return {key: _poisoned(value) for key, value in content.items()}
    return content


@pytest.mark.parametrize("poison", [False, True])
def test_no_line_is_wider_than_80_columns_or_obeyed_by_a_terminal(poison: bool) -> None:
    given = _poisoned if poison else (lambda content: content)
    status = {**given(STATUS), "components": {HOSTILE: given(STATUS["components"]["activator"])}}
    lines = [
        *status_lines(status), *chain_lines(given(CHAIN)), *item_lines("facts", given(FACT)),
        *item_lines("decisions", given(DECISION)), *item_lines("executions", given(EXECUTION)),
        *item_lines("predictions", given(PREDICTION)), *item_lines("hosts", given(HOST)), record_line(given(RECORD)),
        *item_lines("dead-letters", given(LETTER)), *whole_lines(given({**LETTER, "text": "x", "headers": {}})),
        *whole_lines({**LETTER, "body": {HOSTILE: [HOSTILE]}, "headers": {HOSTILE: HOSTILE}}),
    ]  # fmt: skip
    for line in lines:
        assert columns(line) <= 80, line
        assert line.replace("界", "").replace("…", "").isascii()
        assert line.isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"), (0.0021, "2ms"), (1.44, "1.4s"), (61, "1m1s"), (3600, "1h"), (100_000, "1d3h"), (-5, "0ms"),
        (59.99, "1m"), (0.9999, "1.0s"), (None, "-"), ("x", "-"), (float("nan"), "-"),
    ],
)  # fmt: skip
def test_durations_are_for_people(seconds: Any, text: str) -> None:
    assert span(seconds) == text


def test_times_and_numbers() -> None:
    assert [when(0), when(T), when(None), when(1e300), when("x")] == [
        "1970-01-01 00:00:00.000Z", "2026-01-02 03:04:05.678Z", "-", "-", "-",
    ]  # fmt: skip
    assert [amount(n) for n in (0, 12, 99.5, 123456, 1_234_567, 3e9, None)] == [
        "0", "12", "99.5", "123456", "1.2M", "3.0G", "-",
    ]  # fmt: skip


def test_wide_characters_count_twice() -> None:
    assert [fit("界界界", 6), fit("界界界", 5), fit("e\u0301" * 3, 3)] == ["界界界", "界界…", "e\u0301" * 3]


class Answers(Client):
    """A client that has all its answers already."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.found = found

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self.found[path]

    async def find(self, path: str) -> Any:
        return self.found.get(path)

    async def items(self, kind: str, filters: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
        return list(self.found[kind][:limit])

    async def events(self, *kinds: str) -> AsyncIterator[dict[str, Any]]:
        for kind in kinds:
            for event in self.found[kind]:
                yield event


async def test_status_says_by_its_exit_code_whether_all_is_well() -> None:
    out = io.StringIO()
    assert await run_status(Answers({"/status": STATUS}), False, out) == 1
    well = {**STATUS, "components": {"agent": STATUS["components"]["agent"]}}
    assert await run_status(Answers({"/status": well}), True, out) == 0
    assert json.loads(out.getvalue().splitlines()[-1]) == well


async def test_json_is_one_object_a_line_of_plain_characters() -> None:
    out = io.StringIO()
    given = [{**FACT, "summary": HOSTILE + "\x7f\x9b😀"}, FACT]
    assert await run_items(Answers({"facts": given}), "facts", {}, as_json=True, out=out) == 0
    lines = out.getvalue().splitlines()
    assert [json.loads(line) for line in lines] == given
    assert all(line.isascii() and line.isprintable() for line in lines)


async def test_following_shows_what_matches_as_it_comes() -> None:
    out = io.StringIO()
    event = {**EXECUTION, "execution": "x1", "task": "restart"}
    client = Answers({"execution": [event, {**event, "host": "db-1"}]})
    await run_items(client, "executions", {"host": "web-01"}, follow=True, out=out)
    assert out.getvalue().splitlines()[0].endswith("restart-service: restart")
    assert len(out.getvalue().splitlines()) == 2


async def test_explaining_what_nobody_knows_is_exit_code_1() -> None:
    out, err = io.StringIO(), io.StringIO()
    assert await run_explain(Answers({}), "x\x1b", False, out, err) == 1
    assert (out.getvalue(), err.getvalue().count("\n")) == ("", 1)
    assert "\x1b" not in err.getvalue()
    assert await run_explain(Answers({"/api/v1/explain/a%230": CHAIN}), "a#0", True, out, err) == 0
    assert json.loads(out.getvalue()) == CHAIN
