"""Candidates are found by what is asked of them, and stand in turn, whatever comes and goes."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from activator.candidates import Candidate, Candidates
from activator.rules import NOTICE
from exhaust.messages import Fact
from tests.standing import fact

RULES = st.sampled_from(["mend", "tell", "mend/often"])
PLACES = st.tuples(st.sampled_from("abcde"), st.sampled_from(["web-1", "web-2", None]), st.integers(0, 2))
STEPS = st.tuples(st.sampled_from(["add", "add", "add", "move", "remove"]), PLACES, RULES, st.sampled_from([0, NOTICE]))


def test_a_notice_beside_a_run_is_a_candidate_of_its_own() -> None:
    candidates = Candidates()
    run, notice = Candidate("e", "mend", 2), Candidate("e", "mend", NOTICE)
    for one in (run, notice):
        candidates.add(one, fact())
    assert (run.key, notice.key) == ("candidate/e/mend", "candidate/e/mend/notice")
    assert (candidates.get("e", run.name), candidates.get("e", notice.name)) == (run, notice)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_they_agree_with_a_list_of_them(steps: list[tuple[str, tuple[Any, ...], str, int]]) -> None:
    candidates = Candidates()
    open_facts: dict[str, Fact] = {}
    model: dict[str, Candidate] = {}
    for step, (episode, host, since), rule, rung in steps:
        known = open_facts.get(episode)
        now = fact(episode=episode, host=host, since=since)
        candidate = Candidate(episode, rule, rung)
        if step == "remove" and known is not None:
            gone = candidates.remove(open_facts.pop(episode))
            assert {one.key for one in gone} == {key for key, one in model.items() if one.episode == episode}
            model = {key: one for key, one in model.items() if one.episode != episode}
        elif step == "move" and known is not None:
            candidates.move(known, now)
            open_facts[episode] = now
        elif step == "add" and candidate.key not in model:
            candidates.add(candidate, open_facts.setdefault(episode, now))
            model[candidate.key] = candidate
    agree(candidates, open_facts, model)


def agree(candidates: Candidates, facts: dict[str, Fact], model: dict[str, Candidate]) -> None:
    turn = sorted(model, key=lambda key: (facts[model[key].episode].since, model[key].episode, key))
    assert len(candidates) == len(model)
    assert [one.key for one in candidates.in_turn()] == turn
    for rule in ("mend", "tell"):
        assert [one.key for one in candidates.of_rule(rule)] == [key for key in turn if model[key].rule == rule]
    for host in ("web-1", None):
        wanted = [key for key in turn if facts[model[key].episode].host == host and model[key].rule != "tell"]
        assert [one.key for one in candidates.of_host(host, {"mend", "mend/often"})] == wanted
    assert all(candidates.get(one.episode, one.name) is one for one in model.values())
