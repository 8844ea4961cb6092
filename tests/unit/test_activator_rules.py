"""Which rules are on a fact: as if each were asked, in the order of the configuration."""

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from activator.rules import Rule, Rules
from exhaust.language import define

NAMES = st.text("ab.*?[]!-", min_size=1, max_size=4)


def rules(*on: list[str]) -> Rules:
    sources = ({"name": f"r{number}", "on": names, "run": "mend"} for number, names in enumerate(on))
    return Rules([define(Rule, source) for source in sources])


@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=6), NAMES)
def test_a_rule_is_on_what_one_of_its_patterns_matches(on: list[list[str]], name: str) -> None:
    expected = [f"r{n}" for n, names in enumerate(on) if any(fnmatch.fnmatchcase(name, one) for one in names)]
    assert [rule.name for rule in rules(*on).on(name)] == expected


def test_only_a_rule_whose_condition_reads_facts_looks_at_others() -> None:
    own = {"on": "a", "run": "mend"}
    found = Rules(
        [
            define(Rule, own | {"name": "blind"}),
            define(Rule, own | {"name": "looking", "when": "has(facts.b)"}),
            define(Rule, own | {"name": "reading", "with": {"text": "${{ facts.b.summary }}"}}),
        ]
    )
    assert found.looking == {"looking"}
    assert found.reading == {"looking", "reading"}
