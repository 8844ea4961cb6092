"""What the orchestrator decides: activations, results and sightings in; commands, watches and events out."""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from exhaust.depot import no_rows
from exhaust.halts import Halts
from exhaust.ids import effect_key
from exhaust.language import define
from exhaust.messages import Activation, Command, ExecutionState, Fact, Order, Result, Sighting
from exhaust.plugins import Done, Task
from exhaust.worker import Effect, Rows
from orchestrator.closings import Closings
from orchestrator.course import Course
from orchestrator.journal import Journal
from orchestrator.reach import COMMAND_LIFE, Reach
from orchestrator.run import Run
from orchestrator.workflows import Workflow

_Fault = tuple[Any, ...]


class Conductor:
    """The decider: it knows the runs that are not over, or may yet relapse, and hands each what concerns it.

    Where it is given an earlier time than before, or than what is kept tells of, it first brings all of them along.
    """

    def __init__(self, journal: Journal, reach: Reach) -> None:
        self._journal = journal
        self._halts = Halts()
        self._course = Course(journal, reach, self._halts)
        self._take_up(no_rows)

    def _take_up(self, rows: Rows) -> None:
        self._runs: dict[str, Run] = {}
        self._faults: defaultdict[_Fault, dict[str, Run]] = defaultdict(dict)
        self._closings = Closings(rows)
        self._timers: list[tuple[float, str]] = []
        self._moments: dict[str, float] = {}
        self._now = math.inf

    @property
    def due(self) -> float:
        return min(self._timers[0][0] if self._timers else math.inf, self._closings.due, self._journal.due)

    def recall(self, rows: Rows) -> None:
        self._take_up(rows)
        self._halts.recall(rows)
        self._journal.recall(rows)
        for run in self._journal.active():
            self._add(run)
        self._timers = [(0.0, name) for name in sorted(self._runs)]  # the next tick sets them anew

    def resume(self, now: float) -> Iterator[Effect]:
        yield from self._set_back(now)
        for run in list(self._runs.values()):
            yield from self._course.resume(run, now)
            self._remind(run, now)
        yield from self._closings.forget(now)

    def handle(self, message: Any, received: float) -> Iterator[Effect]:
        yield from self._set_back(received)
        match message:
            case Activation():
                yield from self._accept(message, received)
            case Result():
                yield from self._answer(message, received)
            case Command():
                yield from self._unread(message, received)
            case Fact():
                yield from self._fact(message, received)
            case Sighting():
                yield from self._sighting(message, received)
            case Order():
                yield from self._order(message, received)

    def status(self) -> dict[str, Any]:
        return {"executions": sum(not run.over for run in self._runs.values())}

    def performed(self, work: Any, outcome: Any, now: float) -> Iterator[Effect]:
        yield from self._set_back(now)
        task: Task = work.task
        run = self._runs.get(task.execution)
        if run is None or self._task_of(run, task.key) is None:
            return
        if isinstance(outcome, Exception):
            outcome = Done(error=f"its outcome could not be taken: {outcome}"[:300], known=False)
        ended: ExecutionState = "failed" if outcome.known else "indeterminate"
        state: ExecutionState = "succeeded" if outcome.error is None else ended
        how = {"output": outcome.output, "error": outcome.error, "retry": outcome.retry}
        yield from self._course.finish(run, task.name, state, now, (), **how)
        yield from self._go_on(run, now, ())

    def tick(self, now: float) -> Iterator[Effect]:
        yield from self._set_back(now)
        while self._timers and self._timers[0][0] <= now:
            due, execution = heapq.heappop(self._timers)
            run = self._runs.get(execution)
            if run is None or self._moments.get(execution) != due:
                continue  # overtaken by a later one
            if run.over:
                yield from self._part(run, now)
                continue
            if run.state == "verifying" and run.sighting is None and now < self._course.verify_until(run):
                yield self._course.watch(run, now)
            yield from self._go_on(run, now, ())
        yield from self._closings.forget(now)
        yield from self._journal.forget(now)

    # What comes in

    def _accept(self, activation: Activation, now: float) -> Iterator[Effect]:
        if activation.execution in self._runs or self._journal.knows(activation.execution):
            return
        workflow = self._journal.workflow(activation.workflow)
        run = Run(activation, workflow or define(Workflow, {"name": activation.workflow, "tasks": []}))
        self._add(run)
        yield from self._journal.begin(run)
        trouble = run.misfit if workflow else f"no workflow is called '{activation.workflow}'"
        if now > activation.expires:
            trouble = "expired"
        if trouble:
            yield from self._course.end(run, "rejected", "unknown", now, (activation.id,), reason=trouble)
        else:
            closed = self._closings.get(activation.cause.episode) if activation.cause else None
            if closed is not None:
                yield from self._course.note(run, closed)
            deadline = now + run.workflow.longest
            yield from self._course.own(run, "running", now, (activation.id,), deadline=deadline)
        yield from self._go_on(run, now, (activation.id,))

    def _answer(self, result: Result, now: float) -> Iterator[Effect]:
        run = self._runs.get(result.execution)
        name = None if run is None else self._task_of(run, result.key)
        if run is None or name is None:
            return
        state: ExecutionState = "failed" if result.state == "refused" else result.state
        detail = result.output.get("detail") if result.state == "refused" and isinstance(result.output, dict) else None
        error = None if state == "succeeded" else ": ".join(filter(None, (result.state, result.reason, detail)))
        how = {"output": result.output, "error": error, "retry": result.state == "failed", "started": result.started}
        yield from self._course.finish(run, name, state, now, (result.id,), **how)
        yield from self._go_on(run, now, (result.id,))

    def _unread(self, command: Command, now: float) -> Iterator[Effect]:
        """A command that expired in the agent's queue.

        Not tried again under another key: an agent may have taken it and died before it could acknowledge.
        """
        run = self._runs.get(command.execution)
        name = None if run is None else self._task_of(run, command.key)
        if run is not None and name is not None and now >= command.expires:
            error = f"no_agent: nobody took the command on {command.host} within {COMMAND_LIFE:g} s"
            yield from self._course.finish(run, name, "failed", now, (command.id,), error=error)
            yield from self._go_on(run, now, (command.id,))

    def _fact(self, fact: Fact, now: float) -> Iterator[Effect]:
        if fact.state == "closed":
            yield self._closings.put(fact)
        for run in list(self._faults.get(_fault(fact), {}).values()):
            cause = run.activation.cause
            if cause is None:
                continue
            if fact.episode == cause.episode:
                # It may open and close at one instant; once closed it stays so.
                if not run.over and (fact.state == "closed" or fact.time > (run.cause or cause).time):
                    yield from self._course.note(run, fact)
                    yield from self._go_on(run, now, (fact.id,))
            elif fact.state == "open" and run.over and run.verdict == "recovered" and _after(cause, fact, now):
                yield from self._relapse(run, fact, now)

    def _relapse(self, run: Run, fact: Fact, now: float) -> Iterator[Effect]:
        if now <= run.ended + run.workflow.verify.relapse:
            yield from self._course.own(run, run.state, now, (fact.id,), "relapsed", reason="relapsed")
        yield from self._part(run, math.inf)

    def _sighting(self, sighting: Sighting, now: float) -> Iterator[Effect]:
        run = self._runs.get(sighting.execution)
        if run is None or run.state != "verifying":
            return
        if run.sighting is None or run.sighting.holds != sighting.holds:
            yield from self._course.note(run, sighting)
            yield from self._go_on(run, now, (sighting.id,))

    def _order(self, order: Order, now: float) -> Iterator[Effect]:
        """Halt or resume: each run is asked at once, and what waited is judged anew."""
        yield from self._halts.take(order)
        for run in list(self._runs.values()):
            if not run.over:
                yield from self._go_on(run, now, (order.id,))

    def _task_of(self, run: Run, key: str) -> str | None:
        """Return the running task whose effect has this key."""
        for name in run.running():
            if effect_key(run.id, name, run.task(name).attempt) == key:
                return name
        return None

    # Time

    def _set_back(self, now: float) -> Iterator[Effect]:
        """Bring all along where the clock was set back, and set their timers anew; also after each `recall`."""
        if now < self._now:
            self._closings.set_back(now)
            for run in list(self._runs.values()):
                yield from self._course.set_back(run, now)
                self._remind(run, now)
        self._now = now

    def _go_on(self, run: Run, now: float, causes: tuple[str, ...]) -> Iterator[Effect]:
        yield from self._course.advance(run, now, causes)
        self._remind(run, now)

    def _remind(self, run: Run, now: float) -> None:
        """Set the timer of a run; one that ended other than recovered is done with."""
        if run.over and run.verdict != "recovered":
            self._drop(run)
            return
        moment = run.ended + run.workflow.verify.relapse if run.over else self._course.next_moment(run, now)
        if self._moments.get(run.id) != moment:
            self._moments[run.id] = moment
            heapq.heappush(self._timers, (moment, run.id))

    def _part(self, run: Run, now: float) -> Iterator[Effect]:
        """Let go of a run that can no longer relapse."""
        if now >= run.ended + run.workflow.verify.relapse:
            self._drop(run)
            yield from self._journal.leave(run)

    # The runs

    def _add(self, run: Run) -> None:
        self._runs[run.id] = run
        if run.activation.cause is not None:
            self._faults[_fault(run.activation.cause)][run.id] = run

    def _drop(self, run: Run) -> None:
        self._runs.pop(run.id, None)
        self._moments.pop(run.id, None)
        if run.activation.cause is not None:
            fault = _fault(run.activation.cause)
            self._faults[fault].pop(run.id, None)
            if not self._faults[fault]:
                del self._faults[fault]


def _fault(fact: Fact) -> _Fault:
    """Return what makes a fact the same fault again."""
    return fact.name, fact.host, *sorted(fact.labels.items())


def _after(cause: Fact, fact: Fact, now: float) -> bool:
    """Whether a fact began after the cause; one that began later than now did so before the clock was set back."""
    return not fact.since <= cause.since <= now
