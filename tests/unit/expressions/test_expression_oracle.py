"""Random expressions against another implementation of CEL, kept to the part where that one keeps to the language."""

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import cel

from exhaust.expressions import Unknown, compile_expression, to_json

EXPRESSIONS = 10_500
VARIABLES: dict[str, Any] = {
    "record": {
        "cpu": 93.5,
        "load": 0.25,
        "count": 7,
        "zero": 0,
        "state": "running",
        "name": "web-1",
        "empty": "",
        "wanted": True,
        "stopped": False,
        "tags": ["a", "b", 3],
        "sub": {"x": 1, "deep": {"y": "z"}},
    },
    "host": {"labels": {"role": "web", "env": "prod"}, "known": True},
}
UNKNOWN = "unknown"


class Source(NamedTuple):
    """One expression twice: with its literals, and with variables in their place, where no constant helps."""

    literal: str
    variable: str


class Writer:
    """Writes expressions of a wanted type; about one operand in twelve is missing or of another type."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.constants: dict[str, Any] = {}

    def write(self) -> Source:
        self.constants = {}
        return self._boolean(self._random.randint(1, 4))

    def _pick(self, *choices: Callable[[], Source]) -> Source:
        return self._random.choice(choices)()

    def _constant(self, value: Any) -> Source:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        literal = json.dumps(value)
        return Source(f"({literal})" if literal.startswith("-") else literal, name)

    def _field(self, *paths: str) -> Source:
        path = self._random.choice(paths)
        return Source(path, path)

    def _join(self, template: str, *parts: Source) -> Source:
        return Source(*(template.format(*texts) for texts in zip(*parts, strict=True)))

    def _boolean(self, depth: int) -> Source:
        if depth == 0:
            return self._field("record.wanted", "record.stopped", "host.known", "record.nothing", "host.no.thing")
        inner = depth - 1
        return self._pick(
            lambda: self._join("({} && {})", self._boolean(inner), self._boolean(inner)),
            lambda: self._join("({} || {})", self._boolean(inner), self._boolean(inner)),
            lambda: self._join("({} && {} && {})", *(self._boolean(inner) for _ in range(3))),
            lambda: self._join("!{}", self._boolean(inner)),
            lambda: self._join("({} ? {} : {})", *(self._boolean(inner) for _ in range(3))),
            lambda: self._comparison(inner),
            lambda: self._comparison(inner),
            lambda: self._membership(inner),
            lambda: self._presence(),
            lambda: self._string_test(inner),
        )

    def _comparison(self, depth: int) -> Source:
        left, right = self._value(depth), self._value(depth)
        if self._random.random() < 0.6:  # of one type, so that more than equality is defined
            kind = self._random.choice((self._double, self._string, self._number))
            left, right = kind(depth), kind(depth)
        sign = self._random.choice(("==", "!=", "<", "<=", ">", ">="))
        return self._join(f"({{}} {sign} {{}})", left, right)

    def _membership(self, depth: int) -> Source:
        return self._pick(
            lambda: self._join("({} in [{}, {}])", *(self._value(depth) for _ in range(3))),
            lambda: self._join("({} in record.tags)", self._value(depth)),
            lambda: self._join("({} in host.labels)", self._constant(self._random.choice(("role", "zone")))),
            lambda: self._join("({} in [{}, {}])", self._string(0), self._constant("web"), self._constant("prod")),
        )

    def _presence(self) -> Source:
        return self._field(
            *("has(record.cpu)", "has(record.nothing)", "has(record.sub.x)", "has(record.no.thing)"),
            *("has(host.labels.role)", "has(host.labels.zone)"),
        )

    def _string_test(self, depth: int) -> Source:
        test = self._random.choice(("contains", "startsWith", "endsWith"))
        if self._random.random() < 0.2:
            return self._join("{}.matches({})", self._string(depth), self._constant(self._random.choice(("^w", "b$"))))
        return self._join(f"{{}}.{test}({{}})", self._string(depth), self._string(depth))

    def _value(self, depth: int) -> Source:
        return self._pick(
            lambda: self._number(depth),
            lambda: self._double(depth),
            lambda: self._string(depth),
            lambda: self._constant(self._random.choice((True, False))),
            lambda: self._constant([1, "a"]),
            lambda: self._field("record.tags", "record.sub", "record.sub.deep", "record.nothing", "record.wanted"),
            lambda: self._join("[{}, {}]", self._string(0), self._double(0)),
            lambda: self._join("{{'x': {}}}", self._number(0)),
        )

    def _number(self, _: int) -> Source:
        return self._pick(
            lambda: self._constant(self._random.randint(-3, 9)),
            lambda: self._field("record.count", "record.zero", "record.sub.x", "record.tags[2]", "record.tags[9]"),
            lambda: self._constant(self._random.choice((0.0, 1.0, -2.5, 7.0))),
        )

    def _double(self, depth: int) -> Source:
        if depth == 0:
            return self._pick(
                lambda: self._constant(self._random.choice((0.0, 0.5, 1.5, 93.5, -7.25, 1e300))),
                lambda: self._field("record.cpu", "record.load", "record.nothing", "record.state"),
            )
        sign = self._random.choice("+-*")
        return self._pick(
            lambda: self._join(f"({{}} {sign} {{}})", self._double(depth - 1), self._double(depth - 1)),
            lambda: self._join("({} / {})", self._double(depth - 1), self._constant(self._random.choice((0.5, -3.0)))),
            lambda: self._double(0),
        )

    def _string(self, depth: int) -> Source:
        if depth == 0:
            return self._pick(
                lambda: self._constant(self._random.choice(("web", "b", "", "running", "role", "Z"))),
                lambda: self._field(
                    "record.state", "record.name", "host.labels.role", "record.empty", "record.nothing"
                ),
                lambda: self._field("record.sub['deep'].y", "host['labels']['env']", "record.cpu"),
            )
        return self._pick(
            lambda: self._join("({} + {})", self._string(depth - 1), self._string(depth - 1)),
            lambda: self._join("({} ? {} : {})", self._boolean(0), self._string(0), self._string(0)),
            lambda: self._string(0),
        )


def theirs(source: str) -> Any:
    try:
        return cel.evaluate(source, VARIABLES)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, OverflowError):
        return UNKNOWN


def ours(source: str, variables: dict[str, Any]) -> Any:
    value = compile_expression(source, list(variables))(*variables.values())
    return UNKNOWN if isinstance(value, Unknown) else to_json(value)


def test_random_expressions_agree_with_another_implementation() -> None:
    seed = random.randrange(2**32)
    writer = Writer(seed)
    outcomes = {UNKNOWN: 0, True: 0, False: 0}
    for number in range(EXPRESSIONS):
        source = writer.write()
        expected = theirs(source.literal)
        found = ours(source.literal, VARIABLES)
        assert found is expected or found == expected == UNKNOWN, (seed, source.literal, found, expected)
        if number % 4 == 0:
            dynamic = ours(source.variable, VARIABLES | writer.constants)
            assert dynamic is found or dynamic == found == UNKNOWN, (seed, source.variable, writer.constants, dynamic)
        outcomes[found] += 1
    assert sum(outcomes.values()) >= 10_000
    assert min(outcomes.values()) >= EXPRESSIONS // 20, outcomes  # no outcome is a rarity
    print(f"{EXPRESSIONS} expressions, seed {seed}: {outcomes}")
