"""What the activator decides: facts and what became of executions in, decisions and activations out."""

import fnmatch
import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from activator.answers import Answers, Candidate, identity, render, run_of
from activator.guards import Question, Refusal, Run, ask, closes_until
from activator.rules import NOTICE, Rule
from activator.triggers import Triggers
from exhaust.halts import Halts
from exhaust.ids import derived_id
from exhaust.language import Defined, cause_of
from exhaust.messages import TERMINAL, ExecutionEvent, Fact, Order, Prediction, Reason
from exhaust.worker import Effect, Keep, Rows

# Far beyond any deadline: its activation, or the orchestrator's store, must have been lost.
_LOST_AFTER = 24 * 3600.0
_FORGET_RUNS_AFTER = 7 * 86_400.0

Hosts = Callable[[str], Mapping[str, Any]]


class Activator:
    """The decider. `epoch` is the leader's, sent along so that what comes from an older one can be told."""

    def __init__(self, rules: Sequence[Defined[Rule]], hosts: Hosts, lists: Mapping[str, Any], epoch: int) -> None:
        self._rules = {rule.value.name: rule.value for rule in rules}
        self._answers = Answers({rule.value.name: rule.hash for rule in rules}, epoch)
        self._halts = Halts()
        self._triggers = Triggers(hosts, self._halts, epoch)
        self._hosts = hosts
        self._lists = lists
        self._clear()

    def _clear(self) -> None:
        self._facts: dict[str, Fact] = {}
        self._candidates: dict[str, Candidate] = {}
        self._runs: dict[str, Run] = {}
        self._timers: list[tuple[float, str]] = []

    @property
    def due(self) -> float:
        return self._timers[0][0] if self._timers else math.inf

    def recall(self, rows: Rows) -> None:
        self._clear()
        self._halts.recall(rows)
        for _, body in rows("fact/"):
            fact = msgspec.json.decode(body, type=Fact | Prediction)
            self._facts[fact.episode] = fact
        for _, body in rows("run/"):
            run = msgspec.json.decode(body, type=Run)
            self._runs[run.execution] = run
            self._expect(run)
        for key, body in rows("candidate/"):
            candidate = msgspec.json.decode(body, type=Candidate)
            if candidate.rule in self._rules:
                self._candidates[key] = candidate
                self._remind(key, candidate)

    def resume(self, now: float) -> Iterator[Effect]:
        """Do what has come due, then judge what is open by the rules as they are now: they may have changed since."""
        yield from self.tick(now)
        for fact in self._oldest_first():
            yield from self._judge_fact(fact, now, resumed=True)

    def status(self) -> dict[str, Any]:
        running = sum(run.ended is None for run in self._runs.values())
        return {"facts": len(self._facts), "candidates": len(self._candidates), "running": running}

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        raise TypeError(f"the activator asks for no work, and got {outcome!r} for {work!r}")

    def handle(self, message: Any, received: float) -> Iterator[Effect]:
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
        while self._timers and self._timers[0][0] <= now:
            due, key = heapq.heappop(self._timers)
            candidate = self._candidates.get(key)
            if candidate is not None and candidate.again == due:
                candidate.again = None
                yield from self._judge(key, candidate, (candidate.last_id,), now, due)
        yield from self._forget(now)

    # What comes in

    def _opened(self, fact: Fact, now: float) -> Iterator[Effect]:
        known = self._facts.get(fact.episode)
        if known is not None and known.time >= fact.time:
            return
        self._facts[fact.episode] = fact
        yield Keep(f"fact/{fact.episode}", fact)
        if known is None:
            yield from self._judge_fact(fact, now)
            yield from self._judge_neighbours(fact, now)
        elif known.valid_until < now:
            yield from self._judge_fact(fact, now)

    def _closed(self, fact: Fact, now: float) -> Iterator[Effect]:
        if self._facts.pop(fact.episode, None) is None:
            return
        yield Keep(f"fact/{fact.episode}", None)
        for key in [key for key, candidate in self._candidates.items() if candidate.episode == fact.episode]:
            del self._candidates[key]
            yield Keep(key, None)
        yield from self._judge_neighbours(fact, now)

    def _ran(self, event: ExecutionEvent, now: float) -> Iterator[Effect]:
        run = self._runs.get(event.execution)
        if run is None or event.state not in TERMINAL or (run.ended is not None and run.verdict == event.verdict):
            return
        run.ended = run.ended if run.ended is not None else event.time
        run.verdict = event.verdict
        if event.verdict == "relapsed":
            run.back = event.causes[0] if event.causes else None
        yield Keep(f"run/{run.execution}", run)
        for key, candidate in self._in_turn():
            if candidate.rule == run.rule:
                yield from self._judge(key, candidate, (event.id,), now)
                if candidate.rung == run.rung and run.failed and self._same_fault(candidate, run):
                    yield from self._climb(key, candidate, (event.id,), now)

    def _asked(self, order: Order, now: float) -> Iterator[Effect]:
        decision, activation, run = self._triggers.answer(order, tuple(self._runs.values()), now)
        yield decision
        if activation is not None and run is not None:
            yield activation
            self._runs[run.execution] = run
            self._expect(run)
            yield Keep(f"run/{run.execution}", run)

    def _ordered(self, order: Order, now: float) -> Iterator[Effect]:
        """Halt or resume; then whatever it concerns is judged anew."""
        yield from self._halts.take(order)
        for key, candidate in self._in_turn():
            yield from self._judge(key, candidate, (order.id,), now)

    def _same_fault(self, candidate: Candidate, run: Run) -> bool:
        """Whether the candidate is about what the run was for, be it in a later episode."""
        fact = self._facts.get(candidate.episode)
        return fact is not None and identity(fact) == run.identity

    def _judge_fact(self, fact: Fact, now: float, *, resumed: bool = False) -> Iterator[Effect]:
        for rule in self._rules.values():
            if any(fnmatch.fnmatchcase(fact.name, pattern) for pattern in rule.names):
                for rung in (0, NOTICE) if rule.run and rule.notify else (0,):
                    key = f"candidate/{fact.episode}/{rule.name}" + ("/notice" if rung == NOTICE else "")
                    candidate = self._candidates.setdefault(key, Candidate(fact.episode, rule.name, rung))
                    yield from self._judge(key, candidate, (fact.id,), now, resumed=resumed)
                key = f"candidate/{fact.episode}/{rule.name}"
                candidate = self._candidates[key]
                if any(run.back == fact.episode and run.rung == candidate.rung for run in self._runs_of(rule.name)):
                    yield from self._climb(key, candidate, (fact.id,), now)  # the relapse was heard of before the fact

    def _runs_of(self, rule: str) -> Iterator[Run]:
        return (run for run in self._runs.values() if run.rule == rule)

    def _judge_neighbours(self, fact: Fact, now: float) -> Iterator[Effect]:
        """Judge anew, as a fact of their host comes or goes, the candidates whose rules look at it."""
        for key, candidate in self._in_turn():
            other, condition = self._facts.get(candidate.episode), self._rules[candidate.rule].when
            if other is None or other.host != fact.host or other.episode == fact.episode:
                continue
            if condition is not None and "facts" in condition.variables:
                yield from self._judge(key, candidate, (fact.id,), now)

    def _oldest_first(self) -> list[Fact]:
        return sorted(self._facts.values(), key=_age)

    def _in_turn(self) -> list[tuple[str, Candidate]]:
        """Return the candidates in the order in which a slot that is free is theirs, which no start changes."""
        turn = {fact.episode: number for number, fact in enumerate(self._oldest_first())}
        return sorted(self._candidates.items(), key=lambda item: (turn.get(item[1].episode, len(turn)), item[0]))

    # Deciding

    def _judge(
        self,
        key: str,
        candidate: Candidate,
        causes: tuple[str, ...],
        now: float,
        due: float | None = None,
        *,
        resumed: bool = False,
    ) -> Iterator[Effect]:
        """Answer a candidate; a decision is made only where the answer is another than before."""
        question = self._question(candidate, now)
        if question is None or self._settled(candidate, question):
            return
        until = closes_until(question)
        if now < until:
            candidate.again = until
            self._remind(key, candidate)
            yield Keep(key, candidate)
            return
        refusals = ask(question)
        again = min((refusal.until for refusal in refusals), default=math.inf)
        candidate.again = again if math.isfinite(again) else None
        if resumed and refusals and candidate.told.partition(" ")[0] == _outcome(refusals):
            pass  # to be asked again after a start is no repeat, and what else may refuse by now is no news
        elif refusals:
            yield from self._refuse(key, candidate, question, refusals, causes, due)
        else:
            yield from self._fire(key, candidate, question, causes, due)
        self._remind(key, candidate)
        yield Keep(key, candidate)

    def _settled(self, candidate: Candidate, question: Question) -> bool:
        """Whether nothing is left to decide: a notice was given, or a run is under way for it."""
        if question.rung.run is None:
            return candidate.fired > 0
        return any(run.ended is None and run.episode == candidate.episode for run in question.own_runs)

    def _question(self, candidate: Candidate, now: float) -> Question | None:
        fact = self._facts.get(candidate.episode)
        rule = self._rules.get(candidate.rule)
        if fact is None or rule is None or candidate.rung >= len(rule.ladder):
            return None
        host = None if fact.host is None else self._hosts(fact.host)
        others = (other for other in self._facts.values() if other.host == fact.host)
        facts = {other.name: cause_of(other) for other in sorted(others, key=_age)}
        runs = tuple(self._runs.values())
        halt = self._halts.over(fact.host)
        return Question(rule, candidate.rung, fact, identity(fact), host, runs, now, self._lists, facts, halt)

    def _refuse(
        self,
        key: str,
        candidate: Candidate,
        question: Question,
        refusals: Sequence[Refusal],
        causes: tuple[str, ...],
        due: float | None,
    ) -> Iterator[Effect]:
        reasons = [refusal.reason for refusal in refusals]
        yield from self._decide(candidate, question, _outcome(refusals), reasons, causes, due)

    def _fire(
        self, key: str, candidate: Candidate, question: Question, causes: tuple[str, ...], due: float | None
    ) -> Iterator[Effect]:
        values, missing = render(question)
        if missing:
            reason = Reason("when", missing, "values for all of 'with'")
            yield from self._decide(candidate, question, "refused", [reason], causes, due)
            return
        candidate.fired += 1
        notice = question.rung.notify
        attempt = candidate.fired
        workflow = "notify" if notice else str(question.rung.run)
        inputs = {"to": notice.to, "text": values["text"]} if notice else values
        execution = derived_id("execution", (candidate.episode,), question.rule.name, str(candidate.rung), attempt)
        decision = self._answers.decision(candidate, question, "fired", [], causes, due, execution)
        yield decision
        yield self._answers.activation(question, decision, workflow, inputs, attempt, execution)
        if question.rung.run is not None:
            run = run_of(question, candidate, execution)
            self._runs[execution] = run
            self._expect(run)
            yield Keep(f"run/{execution}", run)

    def _climb(self, key: str, candidate: Candidate, causes: tuple[str, ...], now: float) -> Iterator[Effect]:
        """Go to the next rung if the one before has used up its attempts on this verdict."""
        question = self._question(candidate, now)
        if question is None or self._settled(candidate, question):
            return
        if not any(refusal.reason.guard == "attempts" for refusal in ask(question)):
            return
        if candidate.rung + 1 < len(question.rule.ladder):
            candidate.rung += 1
            candidate.fired, candidate.told, candidate.count, candidate.again = 0, "", 0, None
            yield from self._judge(key, candidate, causes, now)

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
        told = f"{outcome} {[reason.guard for reason in reasons]}"
        if told == candidate.told:
            candidate.count += 1
            return
        candidate.told = told
        yield self._answers.decision(candidate, question, outcome, reasons, causes, due, None)

    def _remind(self, key: str, candidate: Candidate) -> None:
        if candidate.again is not None:
            heapq.heappush(self._timers, (candidate.again, key))

    def _expect(self, run: Run) -> None:
        """Set the timer of a run that may never be heard of again."""
        if run.ended is None:
            heapq.heappush(self._timers, (run.started + _LOST_AFTER, f"run/{run.execution}"))

    def _forget(self, now: float) -> Iterator[Effect]:
        """Drop runs that no guard can look back to; one never heard of again is over, and nobody knows how."""
        for run in self._runs.values():
            if run.ended is None and run.started + _LOST_AFTER <= now:
                run.ended, run.verdict = run.started + _LOST_AFTER, "unknown"
                yield Keep(f"run/{run.execution}", run)
        longest = max((rule.guard.window for rule in self._rules.values()), default=0.0)
        before = now - max(longest, _FORGET_RUNS_AFTER)
        for execution, run in list(self._runs.items()):
            if run.ended is not None and run.ended < before:
                del self._runs[execution]
                yield Keep(f"run/{execution}", None)


def _outcome(refusals: Sequence[Refusal]) -> str:
    return "observed" if [refusal.reason.guard for refusal in refusals] == ["mode"] else "refused"


def _age(fact: Fact) -> tuple[float, str]:
    return fact.since, fact.episode
