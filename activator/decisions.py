"""What the activator decides: facts and what became of executions in, decisions and activations out."""

import heapq
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from activator.answers import Answers, decided, identity, render, run_of
from activator.candidates import FIRED, Candidate, Candidates
from activator.facts import Facts
from activator.guards import Question, Refusal, ask, closes_until
from activator.questions import Questions, Surroundings
from activator.rules import NOTICE, Rule, Rules
from activator.run import Run
from activator.runs import Runs
from activator.triggers import Triggers
from exhaust.depot import no_rows
from exhaust.halts import Halts
from exhaust.ids import derived_id
from exhaust.language import Defined
from exhaust.messages import TERMINAL, ExecutionEvent, Fact, Order, Reason
from exhaust.worker import Effect, Keep, Rows

_FORGET_RUNS_AFTER = 7 * 86_400.0
# A candidate that nothing but these hold back waits for its time.
_TIME_TELLS = frozenset({"for", "during", "mode"})
_FLEET_TELLS = frozenset({"fleet", "healthy", "correlated"})


class Activator:
    """The decider. `epoch` is the leader's, sent along so that what comes from an older one can be told."""

    def __init__(self, rules: Sequence[Defined[Rule]], around: Surroundings, epoch: int) -> None:
        self._rules = Rules(rules)
        self._around = around
        self._answers = Answers(self._rules.hashes, epoch)
        self._halts = Halts()
        self._triggers = Triggers(around.hosts, self._halts, epoch)
        self._take_up(no_rows)

    def _take_up(self, rows: Rows) -> None:
        self._facts = Facts(rows)
        self._candidates = Candidates()
        self._runs = Runs(self._rules.named, rows)
        self._questions = Questions(self._rules, self._around, self._facts, self._runs, self._halts)
        self._timers: list[tuple[float, str, str]] = []
        self._now = -math.inf

    @property
    def due(self) -> float:
        return min(self._timers[0][0] if self._timers else math.inf, self._runs.due)

    def recall(self, rows: Rows) -> None:
        self._take_up(rows)
        self._halts.recall(rows)
        for _, body in rows("candidate/"):
            candidate = msgspec.json.decode(body, type=Candidate)
            fact = self._facts.get(candidate.episode)
            if fact is not None and candidate.rule in self._rules.named:
                self._candidates.add(candidate, fact)
                if candidate.again is not None:
                    self._timers.append((candidate.again, candidate.episode, candidate.name))
        heapq.heapify(self._timers)

    def resume(self, now: float) -> Iterator[Effect]:
        """Do what has come due, then judge what is open by the rules as they are now: they may have changed since."""
        yield from self.tick(now)
        yield from self._judge_all(now)

    def status(self) -> dict[str, Any]:
        return {"facts": len(self._facts), "candidates": len(self._candidates), "running": len(self._runs)}

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        raise TypeError(f"the activator asks for no work, and got {outcome!r} for {work!r}")

    def handle(self, message: Any, received: float) -> Iterator[Effect]:
        yield from self._set_back(received)
        match message:
            case Fact(state="open"):
                yield from self._opened(message, received)
            case Fact():
                yield from self._closed(message, received)
            case ExecutionEvent(task=None):
                yield from self._ran(message, received)
            case Order(order="trigger"):
                yield from self._asked(message, received)
            case Order():
                yield from self._ordered(message, received)

    def tick(self, now: float) -> Iterator[Effect]:
        yield from self._set_back(now)
        while self._timers and self._timers[0][0] <= now:
            due, episode, name = heapq.heappop(self._timers)
            candidate = self._candidates.get(episode, name)
            if candidate is not None and candidate.again == due:
                candidate.again = None
                yield from self._judge(candidate, (candidate.last_id,), now, due)
        yield from self._forget(now)

    def _set_back(self, now: float) -> Iterator[Effect]:
        """Where the clock was set back, bring the runs along, and judge anew what waits for a time after their ends."""
        before, self._now = self._now, now
        if now < before or self._runs.ahead_of(now):
            yield from self._runs.set_back(now)
            yield from self._judge_all(now)

    # What comes in

    def _opened(self, fact: Fact, now: float) -> Iterator[Effect]:
        known = self._facts.get(fact.episode)
        if known is not None and fact.time <= known.time <= now:
            return
        yield self._facts.put(fact, known)
        if known is None:
            yield from self._judge_fact(fact, now)
            yield from self._judge_neighbours(fact, now)
            return
        self._candidates.move(known, fact)
        if known.valid_until < now:
            yield from self._judge_fact(fact, now)

    def _closed(self, fact: Fact, now: float) -> Iterator[Effect]:
        known = self._facts.get(fact.episode)
        if known is None:
            return
        yield self._facts.remove(known)
        for candidate in self._candidates.remove(known):
            yield Keep(candidate.key, None)
        yield from self._judge_neighbours(fact, now)

    def _ran(self, event: ExecutionEvent, now: float) -> Iterator[Effect]:
        run = self._runs.get(event.execution)
        if run is None or event.state not in TERMINAL or (run.ended is not None and run.verdict == event.verdict):
            return
        back = next(iter(event.causes), None) if event.verdict == "relapsed" else run.back
        yield self._runs.end(run, min(event.time, now), event.verdict, back)
        yield from self._judge_after(run, event.id, now)

    def _judge_after(self, run: Run, cause: str, now: float) -> Iterator[Effect]:
        """Judge whom the end of a run is news to: its own fault, and what waits."""
        alike = self._same_fault(run) if run.failed else set()
        rules = {run.rule: None} | (dict.fromkeys(sorted(self._rules.keyed)) if run.key else {})
        for candidate in chain.from_iterable(map(self._candidates.of_rule, rules)):
            if candidate.told == FIRED and candidate.episode != run.episode and candidate.episode not in alike:
                continue  # it waits for nothing: its own run is under way
            yield from self._judge(candidate, (cause,), now)
            if (candidate.rule, candidate.rung) == (run.rule, run.rung) and candidate.episode in alike:
                yield from self._climb(candidate, (cause,), now)

    def _asked(self, order: Order, now: float) -> Iterator[Effect]:
        decision, activation, run = self._triggers.answer(order, self._runs, now)
        yield decision
        if activation is not None and run is not None:
            yield activation
            yield self._runs.start(run)

    def _ordered(self, order: Order, now: float) -> Iterator[Effect]:
        """Halt or resume; then whatever it concerns is judged anew."""
        yield from self._halts.take(order)
        for candidate in self._candidates.in_turn():
            yield from self._judge(candidate, (order.id,), now)

    def _same_fault(self, run: Run) -> set[str]:
        """Return the episodes that are about what the run was for, which may be later ones."""
        nearby = self._candidates.of_host(run.host, (run.rule,))
        facts = (self._facts.get(candidate.episode) for candidate in nearby)
        return {fact.episode for fact in facts if fact is not None and identity(fact) == run.identity}

    def _judge_all(self, now: float) -> Iterator[Effect]:
        """Judge what is open, though nothing was heard of it."""
        for fact in self._facts.oldest_first():
            yield from self._judge_fact(fact, now, resumed=True)

    def _judge_fact(self, fact: Fact, now: float, *, resumed: bool = False) -> Iterator[Effect]:
        runs = self._runs.of_fault(identity(fact))
        for rule in self._rules.on(fact.name):
            candidate = self._candidate(fact, rule, 0)
            yield from self._judge(candidate, (fact.id,), now, resumed=resumed)
            if rule.run and rule.notify:
                yield from self._judge(self._candidate(fact, rule, NOTICE), (fact.id,), now, resumed=resumed)
            if any((run.back, run.rule, run.rung) == (fact.episode, rule.name, candidate.rung) for run in runs):
                yield from self._climb(candidate, (fact.id,), now)  # the relapse was heard of before the fact

    def _candidate(self, fact: Fact, rule: Rule, rung: int) -> Candidate:
        fresh = Candidate(fact.episode, rule.name, rung)
        known = self._candidates.get(fact.episode, fresh.name)
        if known is None:
            self._candidates.add(fresh, fact)
        return known or fresh

    def _judge_neighbours(self, fact: Fact, now: float) -> Iterator[Effect]:
        """Judge anew, as a fact comes or goes, the candidates whose rules look at it: of its host, or of any."""
        near = self._candidates.of_host(fact.host, self._rules.looking)
        watching = (self._candidates.of_rule(rule) for rule in self._rules.watching(fact.name))
        for candidate in {one.key: one for one in chain(near, *watching)}.values():
            if candidate.episode != fact.episode and candidate.told != FIRED:
                yield from self._judge(candidate, (fact.id,), now)

    # Deciding

    def _judge(
        self,
        candidate: Candidate,
        causes: tuple[str, ...],
        now: float,
        due: float | None = None,
        *,
        resumed: bool = False,
    ) -> Iterator[Effect]:
        """Answer a candidate; a decision is made only where the answer is another than before."""
        question = self._questions.of(candidate, now)
        if question is None or self._settled(candidate, question):
            return
        candidate.since = question.since
        until = closes_until(question)
        if now < until:
            self._remind(candidate, until)
            yield Keep(candidate.key, candidate)
            return
        refusals = ask(question)
        lasting = _without_fleet(refusals) or refusals
        reminded = self._remind(candidate, min((refusal.until for refusal in lasting), default=math.inf))
        if resumed and refusals and candidate.told.partition(" ")[0] == _outcome(lasting):
            # To be asked again after a start is no repeat, and what else may refuse by now is no news.
            if not reminded:
                return
        elif refusals:
            yield from self._refuse(candidate, question, refusals, causes, due)
        else:
            yield from self._fire(candidate, question, causes, due)
        yield Keep(candidate.key, candidate)

    def _settled(self, candidate: Candidate, question: Question) -> bool:
        """Whether nothing is left to decide: a notice was given, or a run is under way for it."""
        if question.rung.run is None:
            return candidate.fired > 0
        return any(run.ended is None and run.episode == candidate.episode for run in question.own_runs)

    def _refuse(
        self,
        candidate: Candidate,
        question: Question,
        refusals: Sequence[Refusal],
        causes: tuple[str, ...],
        due: float | None,
    ) -> Iterator[Effect]:
        reasons = [refusal.reason for refusal in refusals]
        yield from self._decide(candidate, question, _outcome(refusals), reasons, causes, due)

    def _fire(
        self, candidate: Candidate, question: Question, causes: tuple[str, ...], due: float | None
    ) -> Iterator[Effect]:
        values, missing = render(question)
        if missing:
            reason = Reason("when", missing, "values for all of 'with'")
            yield from self._decide(candidate, question, "refused", [reason], causes, due)
            return
        notice = question.rung.notify
        attempt = candidate.fired + 1
        workflow = "notify" if notice else str(question.rung.run)
        inputs = {"to": notice.to, "text": values["text"]} if notice else values
        execution = derived_id("execution", (candidate.episode,), question.rule.name, str(candidate.rung), attempt)
        cause = self._facts.whole(question.fact)
        activation, fault = self._answers.activation(question, cause, workflow, inputs, attempt, execution)
        if fault:
            reason = Reason("when", fault, "an activation that can be sent")
            yield from self._decide(candidate, question, "refused", [reason], causes, due)
            return
        candidate.fired = attempt
        decision = self._answers.decision(candidate, question, FIRED, [], causes, due, execution)
        yield decision
        yield decided(activation, decision)
        if question.rung.run is not None:
            yield self._runs.start(run_of(question, candidate, execution))

    def _climb(self, candidate: Candidate, causes: tuple[str, ...], now: float) -> Iterator[Effect]:
        """Go to the next rung if the one before has used up its attempts on this verdict."""
        question = self._questions.of(candidate, now)
        if question is None or self._settled(candidate, question):
            return
        if not any(refusal.reason.guard == "attempts" for refusal in ask(question)):
            return
        if question.rule.has(candidate.rung + 1):
            candidate.rung += 1
            candidate.fired, candidate.told, candidate.count, candidate.again = 0, "", 0, None
            yield from self._judge(candidate, causes, now)

    def _decide(
        self,
        candidate: Candidate,
        question: Question,
        outcome: str,
        reasons: list[Reason],
        causes: tuple[str, ...],
        due: float | None,
    ) -> Iterator[Effect]:
        """Yield a decision if it says something else than the candidate's last one."""
        told = sys.intern(f"{outcome} {[reason.guard for reason in reasons]}")
        if told == candidate.told:
            candidate.count += 1
            return
        candidate.told = told
        yield self._answers.decision(candidate, question, outcome, reasons, causes, due, None)

    def _remind(self, candidate: Candidate, again: float) -> bool:
        """Set when a candidate is judged again, never where it is infinity; return whether that is another time."""
        known, candidate.again = candidate.again, again if math.isfinite(again) else None
        if candidate.again is not None and candidate.again != known:
            heapq.heappush(self._timers, (candidate.again, candidate.episode, candidate.name))
        return candidate.again != known

    def _forget(self, now: float) -> Iterator[Effect]:
        """Drop runs that no guard can look back to; one never heard of again is over, and nobody knows how."""
        for due, run in self._runs.lost(now):
            yield self._runs.end(run, due, "unknown", None)
            yield from self._judge_after(run, run.execution, now)
        yield from self._runs.forget(now - max(self._rules.window, _FORGET_RUNS_AFTER))


def _without_fleet(refusals: Sequence[Refusal]) -> list[Refusal]:
    """Return what refuses for other reasons than how other hosts are, which no candidate hears of as it changes."""
    return [refusal for refusal in refusals if refusal.reason.guard not in _FLEET_TELLS]


def _outcome(refusals: Sequence[Refusal]) -> str:
    guards = {refusal.reason.guard for refusal in refusals}
    if guards == {"mode"}:
        return "observed"
    return "pending" if guards <= _TIME_TELLS else "refused"
