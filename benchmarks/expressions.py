"""How many evaluations a second: a compiled condition, and the same one in another implementation of CEL.

`--check` fails below the goal. Each case takes the best of several rounds, so that a busy moment does not count.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, Final

import cel

from benchmarks.machine import save, table, typed
from exhaust.expressions import Unknown, compile_expression

SOURCE: Final = "record.cpu_percent > 90 && host.labels.role == 'web'"
HOST: Final = {"name": "web-1", "labels": {"role": "web", "env": "prod"}, "known": True}
CASES: Final[dict[str, dict[str, Any]]] = {
    "true": {"cpu_percent": 95.5, "load": 1.0},
    "first term false": {"cpu_percent": 5.5, "load": 1.0},
    "field missing": {"load": 1.0},
}
TITLE: Final = "Expressions: a compiled condition, beside another implementation of CEL"
GOAL: Final = 3_000_000  # evaluations a second on one core, where both terms count
ROUNDS: Final = 7


def best(run: Callable[[], None], evaluations: int) -> float:
    """Evaluations a second of the quickest round."""
    return evaluations / min(_seconds(run) for _ in range(ROUNDS))


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ours(record: dict[str, Any]) -> float:
    function = compile_expression(SOURCE, ["record", "host"]).function
    host = HOST

    def run() -> None:
        for _ in range(200_000):
            function(record, host)

    return best(run, 200_000)


def theirs(record: dict[str, Any]) -> float:
    program = cel.compile(SOURCE)
    variables = {"record": record, "host": HOST}

    def run() -> None:
        for _ in range(2_000):
            try:
                program.execute(variables)
            except KeyError:
                continue

    return best(run, 2_000)


def compilations() -> float:
    def run() -> None:
        for _ in range(200):
            compile_expression(SOURCE, ["record", "host"])

    return best(run, 200)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help=f"fail below {GOAL:,} evaluations a second")
    parser.add_argument("--quick", action="store_true", help="keep the figures apart: a smoke run")
    arguments = parser.parse_args()
    assert compile_expression(SOURCE, ["record", "host"])(CASES["true"], HOST) is True
    assert isinstance(compile_expression(SOURCE, ["record", "host"])(CASES["field missing"], HOST), Unknown)
    rows, speeds = [], {}
    for case, record in CASES.items():
        speeds[case], other = ours(record), theirs(record)
        row = {"case": case, "ours": round(speeds[case]), "cel": round(other), "ratio": round(speeds[case] / other)}
        rows.append(row)
    lines = table(("evaluations a second", "ours", "cel", "ratio"), [list(row.values()) for row in rows])
    text = f"{SOURCE}\n\n{lines}\n\ncompiled in {1e3 / compilations():.2f} ms"
    print(text)
    quick = arguments.check or arguments.quick
    save("expressions", title=TITLE, command=typed("expressions"), text=text, rows=rows, quick=quick)
    return 1 if arguments.check and speeds["true"] < GOAL else 0


if __name__ == "__main__":
    raise SystemExit(main())
