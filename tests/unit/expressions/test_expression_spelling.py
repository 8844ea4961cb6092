"""Trees are written as the text that is parsed to them, with no parentheses but those needed."""

import pytest

from exhaust.expressions.parser import parse
from exhaust.expressions.spelling import shown, spell


@pytest.mark.parametrize(
    "text",
    [
        "a ? b : c ? 1 : 2",
        "(a ? b : c) ? 1 : 2",
        "a ? b || c : c",
        "a && b || !c && (a || b)",
        "(a && b) && c",
        "a == b == c",
        "a == (b == c)",
        "a < (b ? 1 : 2)",
        "1 - (2 - 3) - -4",
        "(1 - 2) - 3",
        "1 + 2 * 3 / (4 + 5)",
        "-(a + b) * -a",
        "!(a in b) == !b",
        "--5 - -(5) - !a",
        "!!a",
        "!(-a)",
        "-(5).a - (-5).a",
        "(1.5).a + (a + b).c",
        'a.b[0]["x-y"][b ? 1 : 2].c',
        "has(a.b.c) && has((a + b).c)",
        "a.size() + size(b)",
        '"x".matches(a) || matches("x", a)',
        'a.contains("\\"\\n\\u0007é") && a.getHours() > b.getHours("UTC")',
        "math.least(1, -2.5, 1e+300)",
        '[a, [], {}, {"x": 1, 2: [null, true, false]}]',
        '{"x": 1}.x',
    ],
)
def test_what_is_parsed_is_spelled_the_same(text: str) -> None:
    assert spell(parse(text, "abc")) == text


def test_spaces_quotes_and_needless_parentheses_go() -> None:
    assert spell(parse("(a)  &&(b||( c == 'it') )", "abc")) == 'a && (b || c == "it")'


def test_what_is_long_is_cut_where_it_is_shown() -> None:
    tree = parse(" + ".join("a" * 100), "abc")
    assert len(shown(tree)) == 60
    assert shown(tree).endswith("a +…")
    assert len(spell(tree)) == 397
