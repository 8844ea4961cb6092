"""Processor time of a record in the analyzers: decoding a batch, and what conditions make of it.

A batch is 500 metric records of 230 bytes, of 20 devices. Half of the conditions have a series for each device. `one by
one` is the same with methods that judge record by record, as those of third parties may.
"""

import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from analyzers.condition import ConditionSettings, Judge
from analyzers.inference import Analysis, Inference
from benchmarks import command
from benchmarks.command import Findings
from benchmarks.flood import FIELDS, Source
from benchmarks.machine import table
from exhaust.ids import new_id
from exhaust.language import define
from exhaust.messages import Batch, Codec
from exhaust.plugins import Judgement, Method
from exhaust.turn import Turn

RECORDS: Final = 500
_NOW: Final = 1_800_000_000.0
_BATCHES: Final = 60
_ROUNDS: Final = 9


class Case(NamedTuple):
    """`by` is whether the conditions have a series for each device: 0 none, 1 half of them, 2 all."""

    conditions: int
    by: int
    hits: float
    slowly: bool = False


CASES: Final = (
    Case(0, 0, 0.0),
    Case(1, 0, 0.0),
    Case(1, 2, 0.0),
    Case(10, 0, 0.0),
    Case(10, 1, 0.0),
    Case(10, 2, 0.0),
    Case(10, 1, 0.01),
    Case(10, 1, 0.0, slowly=True),
)
_BY: Final = ("none", "half", "all")


class OneByOne:
    """A method that offers nothing but to judge one record."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self.silence = method.silence

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        return self._method.judge(record, time, host)


def inference(case: Case) -> Inference:
    """Return analyzers with the conditions of a case."""
    analyses = []
    for number in range(case.conditions):
        field = FIELDS[number % len(FIELDS)]
        by = ["device"] if case.by == 2 or (case.by == 1 and number % 2) else []
        source: dict[str, Any] = {"use": "condition", "fact": f"fact.{number}", "on": "flood.metric", "by": by}
        defined = define(ConditionSettings, {**source, "when": f'record.{field} > 99.9 && record.unit == "percent"'})
        method: Method = Judge(defined.value, {})
        analyses.append(
            Analysis(source["fact"], defined.value, OneByOne(method) if case.slowly else method, defined.hash)
        )
    return Inference(analyses, lambda host: {"name": host, "labels": {}, "known": True}, {})


def bodies(hits: float) -> list[bytes]:
    """Return batches as they come from the broker, one a second; a share of the records has one field that hits."""
    found, number, every = [], 0, round(1 / hits) if hits else 0
    for seq in range(_BATCHES):
        now, records = _NOW + seq, []
        for _ in range(RECORDS):
            number += 1
            fields = Source.metric(number)
            if every and number % every == 0:
                fields[FIELDS[number // every % len(FIELDS)]] = 100.0
            records.append({"time": now, **fields})
        own = new_id(now, number.to_bytes(10, "big"))
        about: dict[str, Any] = {"host": "web-1", "emitter": "flood", "stream": "metric", "epoch": 1, "seq": seq}
        found.append(Codec.encode(Batch(id=own, time=now, records=records, **about)))
    return found


def cost(prepare: Callable[[], Callable[[bytes], Any]], messages: Sequence[bytes]) -> float:
    """Return µs of processor time a record: of several rounds, each newly prepared, the quickest.

    What others do on this machine only ever adds to it.
    """
    found = []
    for _ in range(_ROUNDS):
        take = prepare()
        began = time.process_time()
        for body in messages:
            take(body)
        found.append(time.process_time() - began)
    return min(found) / (_BATCHES * RECORDS) * 1e6


def infer(case: Case) -> Callable[[bytes], Turn]:
    """Return what decodes, decides and encodes what follows, as a transaction is made ready."""
    decider, count = inference(case), itertools.count()

    def take(body: bytes) -> Turn:
        turn = Turn()
        turn.take(decider.handle(Codec.decode(body), _NOW + next(count)), None)
        return turn

    return take


def row(case: Case) -> dict[str, Any]:
    messages = bodies(case.hits)
    decoding, whole = cost(lambda: Codec.decode, messages), cost(lambda: infer(case), messages)
    facts = sum(len(turn.send) for turn in map(infer(case), messages))
    return {
        "conditions": case.conditions,
        "by": _BY[case.by],
        "hits_percent": 100 * case.hits,
        "one_by_one": case.slowly,
        "decode_us": round(decoding, 3),
        "infer_us": round(whole - decoding, 3),
        "whole_us": round(whole, 3),
        "facts": facts,
    }


def _named(found: Mapping[str, Any]) -> str:
    series = "" if found["by"] == "none" else f", {found['by']} by device"
    hits = f", {found['hits_percent']:g} % of the records hit" if found["hits_percent"] else ""
    conditions = "1 condition" if found["conditions"] == 1 else f"{found['conditions']} conditions"
    return f"{conditions}{series}{hits}{', one by one' if found['one_by_one'] else ''}"


async def measure(folder: Path, quick: bool) -> Findings:
    rows = [row(case) for case in (CASES[:2] if quick else CASES)]
    rows = [{**one, "bytes": len(msgspec.json.encode(Source.metric(1)))} for one in rows]
    text = table(
        ("processor time of a record, µs", "decode", "infer", "together", "records/s of a core", "facts"),
        [
            (
                _named(one),
                one["decode_us"],
                one["infer_us"],
                one["whole_us"],
                round(1e6 / one["whole_us"]),
                one["facts"],
            )
            for one in rows
        ],
    )
    return Findings("Inference: processor time of a record in the analyzers", text, rows)


if __name__ == "__main__":
    sys.exit(command.run("inference", (__doc__ or "").partition("\n")[0], measure))
