"""How a run goes on: which task is next, when the tasks are over, and what verdict the evidence allows."""

from collections.abc import Iterator, Sequence
from typing import Any

from exhaust.expressions import to_json
from exhaust.halts import Halts
from exhaust.ids import derived_id
from exhaust.messages import ExecutionEvent, ExecutionState, Verdict, Watch
from exhaust.worker import Effect, Keep
from orchestrator.journal import NOTIFY, Journal
from orchestrator.reach import Reach, Unsayable
from orchestrator.run import Entry, Run
from orchestrator.workflows import TaskSpec

_STALE_WAIT = 30.0
_WATCH_AGAIN = 10.0
_WATCH_FIRST = 1.0
_ANSWER_GRACE = 5.0
# A run ends at most a minute after its deadline, or after we came back: verification takes the first part of that
# minute where it must, `on_failure` the rest.
_VERIFY_WITHIN = 25.0
_FAILURE_WITHIN = 50.0
# What ran out of time while we were away may have been answered meanwhile: for as long the answer is waited for.
_BACK_GRACE = 15.0


class Course:
    """Moves runs on. All that happens to a run is an entry of its journal; what is sent follows from those."""

    def __init__(self, journal: Journal, reach: Reach, halts: Halts) -> None:
        self._journal = journal
        self._reach = reach
        self._halts = halts
        self._back = 0.0

    def advance(self, run: Run, now: float, causes: Sequence[str] = ()) -> Iterator[Effect]:
        """Do all that can be done now."""
        while not run.over:
            entries = run.entries
            yield from (self._verify if run.state == "verifying" else self._work)(run, now, tuple(causes))
            if run.entries == entries:
                return

    def resume(self, run: Run, now: float) -> Iterator[Effect]:
        """Send again, under the same keys, what was begun and not answered; then go on."""
        self._back = now
        if run.misfit and not run.over:
            yield from self.end(run, "indeterminate", "unknown", now, (run.activation.id,), reason=run.misfit)
            return
        for name in run.running():
            yield from self._send(run, run.spec(name), now)
        if run.state == "verifying":
            yield self.watch(run, now)
        yield from self.advance(run, now)

    def set_back(self, run: Run, now: float) -> Iterator[Effect]:
        """Bring a run along to a clock that was set back, by an event; of a run that is over nobody is told."""
        self._back = min(self._back, now)
        if run.latest > now:
            deadline = min(run.deadline, now + run.workflow.longest)
            said = self.own(run, run.state, now, (), reason=run.reason, deadline=deadline)
            yield from (effect for effect in said if isinstance(effect, Keep) or not run.over)

    def next_moment(self, run: Run, now: float) -> float:
        """Return when a run that is not over wants to be advanced though nothing was heard."""
        moments = [self._give_up(run, name) for name in run.running()]
        moments += [task.retry_at for task in run.tasks.values() if task.retry_at is not None]
        if run.state == "verifying":
            moments += [self.verify_until(run), *([self._look_again(run, now)] if run.sighting is None else [])]
        else:
            moments.append(run.since + _STALE_WAIT if run.reason == "stale" else self._tasks_until(run))
        # What has passed already is waited for by something else: a step that is not over, an answer under way.
        return min((moment for moment in moments if moment > now), default=max(run.deadline, now + _ANSWER_GRACE))

    def _look_again(self, run: Run, now: float) -> float:
        """When the analyzers are asked next, until they answer.

        Where the cause's closing is enough it most often comes by itself, and asking would only cost time just when
        it counts; what the analyzers answer from, their last records, is there a second later too.
        """
        first = run.since + min(_WATCH_FIRST, run.workflow.verify.within / 2)
        return first if run.workflow.verify.closing_suffices and now < first else now + _WATCH_AGAIN

    # Tasks

    def _work(self, run: Run, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        yield from self._time_out(run, now)
        step = run.current_step()
        if failed := run.failure():
            yield from self._tasks_over(run, failed, now, causes)
        elif not step:
            yield from self._tasks_over(run, "succeeded", now, causes)
        elif now >= self._tasks_until(run):
            if not run.running():
                yield from self._tasks_over(run, "timed_out", now, causes)
        elif self._halted(run, step, now):
            if not run.running() and run.reason != "halted":
                yield from self.own(run, "waiting", now, causes, reason="halted")
        elif run.reason == "halted" and run.mutated is not None and self._gone(run, now) in ("gone", "stale"):
            yield from self._tasks_over(run, "skipped", now, causes)
        elif run.mutated is None and self._mutating(run, step) and (how := self._gone(run, now)):
            yield from self._not_needed(run, how, now, causes)
        else:
            if run.state == "waiting":
                yield from self.own(run, "running", now, causes)
            for spec in step:
                yield from self._begin(run, spec, now, causes)

    def _time_out(self, run: Run, now: float) -> Iterator[Effect]:
        """Give up on running tasks that nobody answered for: whether they had an effect is not known."""
        for name in run.running():
            if now >= self._give_up(run, name):
                yield from self.finish(run, name, "indeterminate", now, (), error="no result came in time")

    def _give_up(self, run: Run, name: str) -> float:
        latest = run.task(name).began + self._reach.waits(run, run.spec(name))
        return self._not_while_away(min(latest, self._tasks_until(run)) + _ANSWER_GRACE)

    def _tasks_until(self, run: Run) -> float:
        """Return until when tasks may be begun."""
        return self._end_of(run) + _FAILURE_WITHIN if run.handling_failure else run.began + run.workflow.timeout

    def _not_while_away(self, moment: float) -> float:
        """Put off until we have listened for a while what passed before we were back."""
        return moment if moment > self._back else self._back + _BACK_GRACE

    def _end_of(self, run: Run) -> float:
        """Return what the promised minute begins with."""
        return max(run.deadline, self._back)

    def _mutating(self, run: Run, step: Sequence[TaskSpec]) -> bool:
        return any(self._reach.mutates(run, spec) for spec in step)

    def _halted(self, run: Run, step: Sequence[TaskSpec], now: float) -> bool:
        """Whether a halt holds the run's host, or that of one of its tasks. People are told all the same."""
        hosts = {run.activation.host, *(self._reach.host(run, spec, now) for spec in step)}
        return run.workflow.name != NOTIFY and any(self._halts.over(host) for host in hosts)

    def _gone(self, run: Run, now: float) -> str:
        """Judge anew, just before the first mutating task: say how the cause is not what it was, or nothing."""
        newest = run.cause or run.activation.cause
        if newest is None:
            return ""
        if newest.state == "closed":
            return "gone" if newest.reason == "cleared" else "stale"
        if now <= newest.valid_until:
            return ""
        return "wait" if run.reason != "stale" or now < run.since + _STALE_WAIT else "stale"

    def _not_needed(self, run: Run, how: str, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        if how == "gone":
            yield from self.end(run, "skipped", "recovered", now, causes, reason="before_action")
        elif how == "stale":
            yield from self.end(run, "skipped", "unknown", now, causes, reason="stale")
        elif run.reason != "stale":
            yield from self.own(run, "waiting", now, causes, reason="stale")

    def _begin(self, run: Run, spec: TaskSpec, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        task = run.task(spec.name)
        if task.state == "running" or task.over or (task.retry_at is not None and now < task.retry_at):
            return
        mutates = self._reach.mutates(run, spec)
        first = mutates and run.mutated is None
        reason = "mutating" if mutates else None
        yield from self._event(run, "running", now, causes, task=spec.name, attempt=task.attempt + 1, reason=reason)
        if first and not run.workflow.verify.closing_suffices:
            yield self.watch(run, now)
        yield from self._send(run, spec, now)

    def _send(self, run: Run, spec: TaskSpec, now: float) -> Iterator[Effect]:
        try:
            yield self._reach.order(run, spec, now)
        except Unsayable as exc:
            yield from self.finish(run, spec.name, "failed", now, (), error=str(exc))

    def finish(
        self,
        run: Run,
        name: str,
        state: ExecutionState,
        now: float,
        causes: tuple[str, ...],
        *,
        output: Any = None,
        error: str | None = None,
        retry: bool = False,
        started: float | None = None,
    ) -> Iterator[Effect]:
        """Write down how the newest attempt of a task ended; `retry` says whether another may be made."""
        task = run.task(name)
        again = retry and state == "failed" and task.attempt < run.spec(name).retry.attempts
        reason = "retry" if again else None
        outcome = {"output": output, "error": error, "started": started, "reason": reason}
        yield from self._event(run, state, now, causes, task=name, attempt=task.attempt, **outcome)

    # The verdict

    def _tasks_over(self, run: Run, outcome: ExecutionState, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        if run.handling_failure:
            yield from self._conclude(run, run.tasks_ended or outcome, run.verdict or "unknown", now, causes)
        elif run.mutated is not None and run.verifiable:
            yield from self.own(run, "verifying", now, causes, output={"tasks": outcome})
            if not run.workflow.verify.closing_suffices:
                yield self.watch(run, now)
        else:
            yield from self._conclude(run, outcome, "unknown", now, causes)

    def _verify(self, run: Run, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        outcome = run.tasks_ended or "succeeded"
        if self._recovered(run):
            yield from self._conclude(run, outcome, "recovered", now, causes)
        elif now >= self.verify_until(run):
            holds = run.sighting.holds if run.sighting else "unknown"
            yield from self._conclude(run, outcome, "not_recovered" if holds == "false" else "unknown", now, causes)

    def verify_until(self, run: Run) -> float:
        """Return when the verdict is due on whatever evidence there is."""
        return min(self._not_while_away(run.verify_until), self._end_of(run) + _VERIFY_WITHIN)

    def _recovered(self, run: Run) -> bool:
        """Whether fresh evidence says so: a sighting, or where that suffices the cause's own closing."""
        if run.sighting is not None and run.sighting.holds == "true":
            return True
        closing = run.cause
        if closing is None or closing.reason != "cleared" or not run.workflow.verify.closing_suffices:
            return False
        after, clock = run.freshness
        moment = closing.valid_until if clock == "time" else closing.time
        return moment > after and moment >= after + run.workflow.verify.settle

    def _conclude(
        self, run: Run, outcome: ExecutionState, verdict: Verdict, now: float, causes: tuple[str, ...]
    ) -> Iterator[Effect]:
        """The tasks are over and the verdict is known: end, by way of `on_failure` where that applies."""
        failed = outcome != "succeeded" or verdict == "not_recovered"
        if failed and run.workflow.on_failure and not run.handling_failure:
            yield from self.own(run, "running", now, causes, verdict, reason="on_failure", output={"tasks": outcome})
            return
        state: ExecutionState = "failed" if outcome == "succeeded" and failed else outcome
        yield from self.end(run, state, verdict, now, causes)

    def end(
        self,
        run: Run,
        state: ExecutionState,
        verdict: Verdict,
        now: float,
        causes: tuple[str, ...],
        reason: str | None = None,
    ) -> Iterator[Effect]:
        yield from self.own(run, state, now, causes, verdict, reason=reason)
        if verdict != "recovered":
            yield from self._journal.leave(run)

    # Entries

    def note(self, run: Run, entry: Entry) -> Iterator[Effect]:
        """Add an entry to the journal."""
        yield self._journal.add(run, entry)

    def own(
        self,
        run: Run,
        state: ExecutionState,
        now: float,
        causes: tuple[str, ...],
        verdict: Verdict | None = None,
        *,
        reason: str | None = None,
        deadline: float | None = None,
        output: Any = None,
    ) -> Iterator[Effect]:
        """Write down a state of the run itself."""
        fields = {"verdict": verdict, "reason": reason, "deadline": deadline, "output": output}
        yield from self._event(run, state, now, causes, **fields)

    def _event(
        self, run: Run, state: ExecutionState, now: float, causes: tuple[str, ...], **fields: Any
    ) -> Iterator[Effect]:
        given = run.activation
        if not run.events:
            cause = given.cause.episode if given.cause else None
            fields |= {"host": given.host, "rule": given.rule, "rung": given.rung, "cause": cause}
            fields |= {"mode": given.mode, "attempt": given.attempt}
        event = ExecutionEvent(
            id=derived_id("execution/1", (run.id,), "orchestrator", run.definition, run.entries),
            time=now,
            causes=causes or (given.id,),
            execution=run.id,
            workflow=run.workflow.name,
            definition=run.definition,
            state=state,
            **fields,
        )
        yield from self.note(run, event)
        yield event

    def watch(self, run: Run, now: float) -> Watch:
        """Return the question to the analyzers; what counts as fresh is known once the tasks are over."""
        verify, cause = run.workflow.verify, run.activation.cause
        over = run.state == "verifying"
        fresh, clock = run.freshness
        until = self.verify_until(run) if over else now + run.workflow.longest
        return Watch(
            id=derived_id("watch/1", (run.id,), "orchestrator", run.definition, run.entries, now),
            time=now,
            causes=(run.id,),
            execution=run.id,
            host=run.activation.host,
            until=until + _ANSWER_GRACE,
            episode=cause.episode if cause and verify.by_cause else None,
            on=verify.on,
            labels={name: cause.labels.get(name, "") for name in verify.same} if cause else {},
            when=verify.when.source if verify.when else None,
            variables={} if verify.by_cause else to_json({"inputs": run.inputs, "cause": run.cause_variable()}),
            after=fresh if over else None,
            clock=clock,
            settle=verify.settle,
            hold=verify.hold,
            samples=verify.samples,
        )
