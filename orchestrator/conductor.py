"""What the orchestrator decides: activations, results and sightings in; commands, watches and events out."""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exhaust.expressions import Timestamp, Unknown, to_json, to_text
from exhaust.ids import derived_id, effect_key
from exhaust.language import Defined, define
from exhaust.messages import (
    Activation,
    Codec,
    Command,
    ExecutionEvent,
    ExecutionState,
    Fact,
    Result,
    Sighting,
    Verdict,
    Watch,
)
from exhaust.plugins import Adapter, Task
from exhaust.worker import Effect, Keep, Perform, Rows
from orchestrator.journal import NOTIFY, Journal
from orchestrator.run import Entry, Run
from orchestrator.workflows import TaskSpec, Workflow

COMMAND_LIFE = 60.0
_STALE_WAIT = 30.0
_WATCH_AGAIN = 10.0
_ANSWER_GRACE = 5.0

Hosts = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Doing:
    """A task that an adapter of this process is to do."""

    adapter: str
    task: Task


@dataclass(frozen=True)
class Done:
    """How that went."""

    output: Any = None
    error: str | None = None
    retry: bool = False


class Conductor:
    """The decider. `epoch` is the leader's; `audience` is the fingerprint of the agents' key."""

    def __init__(
        self,
        workflows: Sequence[Defined[Workflow]],
        adapters: Mapping[str, Adapter[Any]],
        hosts: Hosts,
        lists: Mapping[str, Any],
        epoch: int,
        audience: str,
    ) -> None:
        self._adapters = adapters
        self._hosts = hosts
        self._lists = lists
        self._epoch = epoch
        self._audience = audience
        self._journal = Journal(workflows)
        self._clear()

    def _clear(self) -> None:
        self._runs: dict[str, Run] = {}
        self._closed: dict[str, Fact] = {}
        self._timers: list[tuple[float, str]] = []
        self._commands = 0

    @property
    def due(self) -> float:
        return self._timers[0][0] if self._timers else math.inf

    def recall(self, rows: Rows) -> None:
        self._clear()
        self._journal.recall(rows)
        for run in self._journal.active():
            self._runs[run.id] = run
        for _, body in rows("closed/"):
            fact = Codec.decode(body)
            if isinstance(fact, Fact):
                self._closed[fact.episode] = fact

    def resume(self, now: float) -> Iterator[Effect]:
        """Send again, under the same keys, what was begun and not answered; go on with the rest."""
        for run in list(self._runs.values()):
            for name in run.running():
                yield from self._send_task(run, run.spec(name), now)
            if run.state == "verifying":
                yield self._watch(run, now)
            yield from self._advance(run, now, ())
        yield from self._forget(now)

    def handle(self, message: Any, received: float) -> Iterator[Effect]:
        match message:
            case Activation():
                yield from self._accept(message, received)
            case Result():
                yield from self._answer(message.execution, message.key, message, received)
            case Command():
                yield from self._unread(message, received)
            case Fact():
                yield from self._fact(message, received)
            case Sighting():
                run = self._runs.get(message.execution)
                if run is not None and run.state == "verifying":
                    yield from self._note(run, message)
                    yield from self._advance(run, received, (message.id,))

    def performed(self, work: Any, outcome: Any, now: float) -> Iterator[Effect]:
        task: Task = work.task
        run = self._runs.get(task.execution)
        if run is None or run.task(task.name).state != "running":
            return
        state: ExecutionState = "succeeded" if outcome.error is None else "failed"
        yield from self._finish(run, task.name, state, now, (), outcome.output, outcome.error, outcome.retry)
        yield from self._advance(run, now, ())

    def tick(self, now: float) -> Iterator[Effect]:
        while self._timers and self._timers[0][0] <= now:
            execution = heapq.heappop(self._timers)[1]
            run = self._runs.get(execution)
            if run is None:
                continue
            if run.over:
                yield from self._forget_run(run, now)
            else:
                if run.state == "verifying" and run.sighting is None:
                    yield self._watch(run, now)
                yield from self._advance(run, now, ())
        yield from self._forget(now)

    # What comes in

    def _accept(self, activation: Activation, now: float) -> Iterator[Effect]:
        if activation.execution in self._runs or self._journal.knows(activation.execution):
            return
        workflow = self._journal.workflow(activation.workflow)
        run = Run(activation, workflow or define(Workflow, {"name": activation.workflow, "tasks": []}))
        self._runs[run.id] = run
        yield from self._journal.begin(run)
        trouble = self._trouble(run, workflow is not None, now)
        if trouble:
            yield from self._end(run, "rejected", "unknown", now, (activation.id,), reason=trouble)
            return
        closed = self._closed.get(activation.cause.episode) if activation.cause else None
        if closed is not None:
            yield from self._note(run, closed)
        yield from self._own(run, "running", now, (activation.id,), deadline=now + run.workflow.longest)
        yield from self._advance(run, now, (activation.id,))

    def _trouble(self, run: Run, known: bool, now: float) -> str:
        """Return why an activation is not followed, or nothing."""
        if not known:
            return f"no workflow is called '{run.workflow.name}'"
        if now > run.activation.expires:
            return "expired"
        return run.misfit

    def _answer(self, execution: str, key: str, result: Result, now: float) -> Iterator[Effect]:
        run = self._runs.get(execution)
        name = None if run is None else self._task_of(run, key)
        if run is None or name is None:
            return
        state: ExecutionState = "failed" if result.state == "refused" else result.state
        error = None if state == "succeeded" else f"{result.state}: {result.reason}" if result.reason else result.state
        retry = result.state == "failed"
        yield from self._finish(run, name, state, now, (result.id,), result.output, error, retry, result.started)
        yield from self._advance(run, now, (result.id,))

    def _unread(self, command: Command, now: float) -> Iterator[Effect]:
        """A command that expired in the agent's queue: it was never begun."""
        run = self._runs.get(command.execution)
        name = None if run is None else self._task_of(run, command.key)
        if run is not None and name is not None:
            error = f"no_agent: nobody took the command on {command.host} within {COMMAND_LIFE:g} s"
            yield from self._finish(run, name, "failed", now, (command.id,), None, error, True)
            yield from self._advance(run, now, (command.id,))

    def _fact(self, fact: Fact, now: float) -> Iterator[Effect]:
        if fact.state == "closed":
            self._closed[fact.episode] = fact
            yield Keep(f"closed/{fact.episode}", fact)
        for run in list(self._runs.values()):
            cause = run.activation.cause
            if cause is None or (fact.name, fact.host, fact.labels) != (cause.name, cause.host, cause.labels):
                continue
            if fact.episode == cause.episode:
                if not run.over and fact.time > (run.cause or cause).time:
                    yield from self._note(run, fact)
                    yield from self._advance(run, now, (fact.id,))
            elif fact.state == "open" and run.verdict == "recovered" and fact.since > cause.since:
                yield from self._relapse(run, fact, now)

    def _relapse(self, run: Run, fact: Fact, now: float) -> Iterator[Effect]:
        if now <= run.ended + run.workflow.verify.relapse:
            yield from self._own(run, run.state, now, (fact.id,), "relapsed", reason="relapsed")
            yield from self._forget_run(run, math.inf)

    def _task_of(self, run: Run, key: str) -> str | None:
        """Return the running task whose effect has this key."""
        for name in run.running():
            if effect_key(run.id, name, run.task(name).attempt) == key:
                return name
        return None

    # Going on

    def _advance(self, run: Run, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        """Do all that can be done now, then set the timer for what cannot."""
        while not run.over:
            entries = run.entries
            if run.state == "verifying":
                yield from self._verify(run, now, causes)
            else:
                yield from self._work(run, now, causes)
            if run.entries == entries:
                break
        self._remind(run, now)

    def _work(self, run: Run, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        yield from self._time_out(run, now)
        step = run.current_step()
        if failed := run.failure():
            yield from self._tasks_over(run, failed, now, causes)
        elif not step:
            yield from self._tasks_over(run, "succeeded", now, causes)
        elif not run.handling_failure and now >= run.began + run.workflow.timeout:
            if not run.running():
                yield from self._tasks_over(run, "timed_out", now, causes)
        elif run.mutated is None and self._mutating(run, step) and (how := self._gone(run, now)):
            yield from self._not_needed(run, how, now, causes)
        else:
            for spec in step:
                yield from self._begin(run, spec, now, causes)

    def _time_out(self, run: Run, now: float) -> Iterator[Effect]:
        """Give up on running tasks that nobody answered for: whether they had an effect is not known."""
        for name in run.running():
            if now >= self._give_up(run, name):
                yield from self._finish(run, name, "indeterminate", now, (), None, "no result came in time", False)

    def _adapter(self, run: Run, spec: TaskSpec) -> tuple[str, Adapter[Any] | None]:
        name = str(run.inputs.get("to")) if run.workflow.name == NOTIFY else spec.use
        return name, self._adapters.get(name)

    def _give_up(self, run: Run, name: str) -> float:
        """When no answer of a running task is waited for any more."""
        spec = run.spec(name)
        adapter = self._adapter(run, spec)[1]
        life = COMMAND_LIFE if adapter is not None and adapter.act is None else 0.0
        return min(run.task(name).began + spec.timeout + life, run.deadline) + _ANSWER_GRACE

    def _mutating(self, run: Run, step: Sequence[TaskSpec]) -> bool:
        adapters = (self._adapter(run, spec)[1] for spec in step)
        return any(adapter is not None and adapter.mutates for adapter in adapters)

    def _gone(self, run: Run, now: float) -> str:
        """Judge anew, just before the first mutating task: say how the cause is not what it was, or nothing."""
        newest = run.cause or run.activation.cause
        if newest is None:
            return ""
        if newest.state == "closed":
            return "gone" if newest.reason == "cleared" else "stale"
        if now <= newest.valid_until:
            return ""
        return "wait" if now < run.began + _STALE_WAIT else "stale"

    def _not_needed(self, run: Run, how: str, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        if how == "gone":
            yield from self._end(run, "skipped", "recovered", now, causes, reason="before_action")
        elif how == "stale":
            yield from self._end(run, "skipped", "unknown", now, causes, reason="stale")
        elif run.state != "waiting":
            yield from self._own(run, "waiting", now, causes, reason="stale")

    def _begin(self, run: Run, spec: TaskSpec, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        task = run.task(spec.name)
        if task.state == "running" or task.over or (task.retry_at is not None and now < task.retry_at):
            return
        mutating = self._mutating(run, [spec])
        first = mutating and run.mutated is None
        attempt = task.attempt + 1
        reason = "mutating" if mutating else None
        yield from self._event(run, "running", now, causes, task=spec.name, attempt=attempt, reason=reason)
        yield from self._send_task(run, spec, now)
        if first:
            yield self._watch(run, now)

    def _send_task(self, run: Run, spec: TaskSpec, now: float) -> Iterator[Effect]:
        """Send the command, or ask for the work; what cannot even be said fails at once."""
        attempt = run.task(spec.name).attempt
        use, adapter = self._adapter(run, spec)
        params, host, trouble = self._rendered(run, spec, now)
        if adapter is None:
            trouble = trouble or f"no adapter is called '{use}'"
        elif adapter.act is None and (host is None or not self._hosts(host)["known"]):
            trouble = trouble or f"host '{host}' is not in the inventory"
        if trouble or adapter is None:
            yield from self._finish(run, spec.name, "failed", now, (), None, trouble, False)
            return
        key = effect_key(run.id, spec.name, attempt)
        if adapter.act is None:
            yield self._command(run, spec, host or "", params, key, now)
        else:
            yield Perform(Doing(use, Task(run.id, spec.name, spec.do, params, host, key, now)))

    def _command(self, run: Run, spec: TaskSpec, host: str, params: dict[str, Any], key: str, now: float) -> Command:
        self._commands += 1
        return Command(
            id=derived_id("command/1", (run.id,), spec.name, key, self._epoch, now),
            time=now,
            causes=(run.id,),
            execution=run.id,
            task=spec.name,
            host=host,
            action=spec.do,
            params=params,
            audience=self._audience,
            epoch=self._epoch,
            seq=self._commands,
            expires=now + COMMAND_LIFE,
            key=key,
            timeout=spec.timeout,
        )

    def _rendered(self, run: Run, spec: TaskSpec, now: float) -> tuple[dict[str, Any], str | None, str]:
        """Return parameters and host of a task, and what is wrong with them."""
        variables = self._variables(run, now)
        host = run.activation.host
        if spec.host is not None:
            named = spec.host(*variables)
            if isinstance(named, Unknown):
                return {}, None, f"host: {named.reason}"
            host = str(to_text(named))
        params = spec.with_.render(*variables)
        if isinstance(params, Unknown):
            return {}, host, params.reason
        return params, host, ""

    def _variables(self, run: Run, now: float) -> tuple[Any, ...]:
        """The values of the names that a workflow's expressions may use, in the order of `language.WORKFLOW`."""
        name = run.activation.host
        host = None if name is None else self._hosts(name)
        moment = Timestamp.from_seconds(now)
        tasks, execution = run.tasks_variable(), run.execution_variable()
        return (run.inputs, run.cause_variable(), host, tasks, execution, moment, self._lists)

    # Ending

    def _finish(
        self,
        run: Run,
        name: str,
        state: ExecutionState,
        now: float,
        causes: tuple[str, ...],
        output: Any,
        error: str | None,
        retry: bool,
        started: float | None = None,
    ) -> Iterator[Effect]:
        task, spec = run.task(name), run.spec(name)
        again = retry and state == "failed" and task.attempt < spec.retry.attempts
        yield from self._event(
            run,
            state,
            now,
            causes,
            task=name,
            attempt=task.attempt,
            output=output,
            error=error,
            reason="retry" if again else None,
            started=started,
        )

    def _tasks_over(self, run: Run, outcome: ExecutionState, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        if run.handling_failure:
            yield from self._conclude(run, run.tasks_ended or outcome, run.verdict or "unknown", now, causes)
        elif run.mutated is not None and run.verifiable:
            yield from self._own(run, "verifying", now, causes, output={"tasks": outcome})
            if not self._recovered(run):
                yield self._watch(run, now)
        else:
            yield from self._conclude(run, outcome, "unknown", now, causes)

    def _verify(self, run: Run, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        outcome = run.tasks_ended or "succeeded"
        if self._recovered(run):
            yield from self._conclude(run, outcome, "recovered", now, causes)
        elif now >= run.verify_until:
            holds = run.sighting.holds if run.sighting else "unknown"
            yield from self._conclude(run, outcome, "not_recovered" if holds == "false" else "unknown", now, causes)

    def _recovered(self, run: Run) -> bool:
        if run.sighting is not None and run.sighting.holds == "true":
            return True
        closing = run.cause
        if closing is None or not run.workflow.verify.closing_suffices or closing.reason != "cleared":
            return False
        after, clock = run.freshness
        return (closing.valid_until if clock == "time" else closing.time) > after

    def _conclude(
        self, run: Run, outcome: ExecutionState, verdict: Verdict, now: float, causes: tuple[str, ...]
    ) -> Iterator[Effect]:
        """The tasks are over and the verdict is known: end, by way of `on_failure` where that applies."""
        failed = outcome != "succeeded" or verdict == "not_recovered"
        if failed and run.workflow.on_failure and not run.handling_failure:
            yield from self._own(run, "running", now, causes, verdict, reason="on_failure", output={"tasks": outcome})
            return
        state: ExecutionState = "failed" if outcome == "succeeded" and failed else outcome
        yield from self._end(run, state, verdict, now, causes)

    def _end(
        self,
        run: Run,
        state: ExecutionState,
        verdict: Verdict,
        now: float,
        causes: tuple[str, ...],
        reason: str | None = None,
    ) -> Iterator[Effect]:
        yield from self._own(run, state, now, causes, verdict, reason=reason)
        if verdict == "recovered":
            heapq.heappush(self._timers, (now + run.workflow.verify.relapse, run.id))
        else:
            yield from self._forget_run(run, math.inf)

    # Entries

    def _note(self, run: Run, entry: Entry) -> Iterator[Effect]:
        yield from self._journal.add(run, entry)

    def _own(
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
        yield from self._event(
            run, state, now, causes, verdict=verdict, reason=reason, deadline=deadline, output=output
        )

    def _event(
        self, run: Run, state: ExecutionState, now: float, causes: tuple[str, ...], **fields: Any
    ) -> Iterator[Effect]:
        activation = run.activation
        first = not run.events
        if first:
            cause = activation.cause.episode if activation.cause else None
            fields |= {"host": activation.host, "rule": activation.rule, "rung": activation.rung, "cause": cause}
            fields |= {"mode": activation.mode, "attempt": activation.attempt}
        event = ExecutionEvent(
            id=derived_id("execution/1", (run.id,), "orchestrator", run.definition, run.entries),
            time=now,
            causes=causes,
            execution=run.id,
            workflow=run.workflow.name,
            definition=run.definition,
            state=state,
            **fields,
        )
        yield from self._note(run, event)
        yield event

    def _watch(self, run: Run, now: float) -> Watch:
        verify, cause = run.workflow.verify, run.activation.cause
        over = run.state == "verifying"
        fresh, clock = run.freshness
        until = run.verify_until if over else now + run.workflow.longest
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

    # Time

    def _remind(self, run: Run, now: float) -> None:
        if run.over:
            return
        moments = [self._give_up(run, name) for name in run.running()]
        moments += [task.retry_at for task in run.tasks.values() if task.retry_at is not None]
        if run.state == "verifying":
            moments += [run.verify_until, *([now + _WATCH_AGAIN] if run.sighting is None else [])]
        else:
            moments.append(run.began + (_STALE_WAIT if run.state == "waiting" else run.workflow.timeout))
        # What has passed already is waited for by something else: a step that is not over, a result under way.
        heapq.heappush(self._timers, (min((m for m in moments if m > now), default=run.deadline), run.id))

    def _forget_run(self, run: Run, now: float) -> Iterator[Effect]:
        if now >= run.ended + run.workflow.verify.relapse:
            self._runs.pop(run.id, None)
            yield self._journal.leave(run)

    def _forget(self, now: float) -> Iterator[Effect]:
        """Drop closings that no activation can still name."""
        for episode, fact in list(self._closed.items()):
            if fact.time < now - 3600.0:
                del self._closed[episode]
                yield Keep(f"closed/{episode}", None)
