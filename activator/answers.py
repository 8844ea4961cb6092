"""What an answer to a candidate is made of: its decision, and where it fired the activation and the run."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from activator.candidates import FIRED, Candidate
from activator.guards import Question
from activator.run import Run
from exhaust.expressions import Unknown, to_text
from exhaust.ids import derived_id
from exhaust.messages import Activation, Decision, Fact, Reason
from exhaust.wire import unsendable

_ACTIVATION_LIFE = 60.0


class Answers:
    """Makes the messages. `definitions` are the rules' hashes by name; `epoch` is the leader's."""

    def __init__(self, definitions: Mapping[str, str], epoch: int) -> None:
        self._definitions = definitions
        self._epoch = epoch

    def decision(
        self,
        candidate: Candidate,
        question: Question,
        outcome: Any,
        reasons: list[Reason],
        causes: tuple[str, ...],
        due: float | None,
        execution: str | None,
    ) -> Decision:
        if outcome == FIRED:
            candidate.told = FIRED
        candidate.count += 1
        rule = question.rule
        producer = f"{rule.name}/{candidate.rung}/{candidate.episode}"
        identifier = derived_id("decision/1", causes, producer, self._definitions[rule.name], candidate.count, due)
        candidate.last_id = identifier
        return Decision(
            id=identifier,
            time=question.now,
            causes=tuple(dict.fromkeys((candidate.episode, *causes))),
            rule=rule.name,
            rung=candidate.rung,
            cause=candidate.episode,
            outcome=outcome,
            reasons=reasons,
            host=question.fact.host,
            execution=execution,
            count=candidate.count,
            last_time=question.now,
        )

    def activation(
        self,
        question: Question,
        cause: Fact,
        workflow: str,
        inputs: dict[str, Any],
        attempt: int,
        execution: str,
    ) -> tuple[Activation, str]:
        """Return what is to be done once a decision says so, and why it cannot be said to anybody, if so.

        Evidence is for people: what is too long with it goes without.
        """
        activation = Activation(
            id=execution,  # as long as its own
            time=question.now,
            causes=(execution,),
            execution=execution,
            workflow=workflow,
            inputs=inputs,
            rule=question.rule.name,
            rung=question.number,
            attempt=attempt,
            cause=cause,
            host=question.fact.host,
            mode="auto",
            expires=question.now + _ACTIVATION_LIFE,
            epoch=self._epoch,
        )
        if not unsendable(activation):
            return activation, ""
        activation = msgspec.structs.replace(activation, cause=msgspec.structs.replace(cause, evidence=[]))
        return activation, unsendable(activation)


def decided(activation: Activation, decision: Decision) -> Activation:
    """Return an activation as it follows from its decision."""
    about = str(activation.rule), activation.workflow, activation.attempt
    identifier = derived_id("activation/1", (decision.id,), *about)
    return msgspec.structs.replace(activation, id=identifier, causes=(decision.id,))


def identity(fact: Fact) -> str:
    """Return what makes a fact the same fault again: its name, host and labels."""
    return json.dumps([fact.name, fact.host, sorted(fact.labels.items())])


def run_of(question: Question, candidate: Candidate, execution: str) -> Run:
    """Return what is remembered of an execution that was started."""
    host = question.host or {}
    return Run(
        execution=execution,
        rule=question.rule.name,
        rung=candidate.rung,
        identity=question.identity,
        episode=candidate.episode,
        host=question.fact.host,
        labels={**host.get("labels", {}), **question.fact.labels},
        started=question.now,
        key=question.key if isinstance(question.key, str) else None,
    )


def render(question: Question) -> tuple[dict[str, Any], str]:
    """Return the values of `with`, or of a notice's text, and why one of them cannot be had."""
    notice = question.rung.notify
    if notice is None:
        values = question.rung.with_.render(*question.variables())
        return ({}, values.reason) if isinstance(values, Unknown) else (values, "")
    text = to_text(notice.text(*question.variables()))
    return ({}, text.reason) if isinstance(text, Unknown) else ({"text": text}, "")
