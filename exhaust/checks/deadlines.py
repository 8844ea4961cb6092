"""Verifications that cannot succeed: evidence that takes longer than `within` to come."""

import fnmatch
from collections.abc import Collection, Iterator

from exhaust.checks.references import GLOB, rungs
from exhaust.checks.streams import Streams
from exhaust.documents.nodes import Fault, child
from exhaust.expressions import Duration, to_text
from exhaust.sections import Entry, Sections, text_of


def deadline_faults(sections: Sections, streams: Streams) -> Iterator[Fault]:
    """Find a `within` shorter than `keep` + `hold` of a fact that starts the workflow, or than its samples take."""
    causes = _causes(sections)
    for entry in sections.sound("workflows"):
        verify = entry.settings.verify
        if verify.by_cause:
            yield from dict.fromkeys(
                fault
                for analyzer in causes.get(entry.name, ())
                for fault in (*_kept(entry, analyzer), *_sampled(entry, text_of(analyzer.node, "on"), streams))
            )
        else:
            yield from _sampled(entry, verify.on, streams)


def _causes(sections: Sections) -> dict[str, list[Entry]]:
    """Return the analyzers whose facts start each workflow."""
    makers: dict[str, list[Entry]] = {}
    for analyzer in sections.sound("analyzers"):
        makers.setdefault(text_of(analyzer.node, "fact", "prediction"), []).append(analyzer)
    found: dict[str, list[Entry]] = {}
    for rule in sections["rules"]:
        if rule.rough is None:
            continue
        facts = [fact for name in rule.rough.names for fact in _matching(makers, name)]
        for workflow in {rung.run for _, rung in rungs(rule) if rung.run}:
            found.setdefault(workflow, []).extend(maker for fact in facts for maker in makers[fact])
    return found


def _matching(facts: Collection[str], name: str) -> Collection[str]:
    if GLOB.isdisjoint(name):
        return [name] if name in facts else []
    return fnmatch.filter(facts, name)


def _kept(entry: Entry, analyzer: Entry) -> Iterator[Fault]:
    verify, keep = entry.settings.verify, analyzer.settings.keep
    if verify.within < keep + verify.hold:
        fact = text_of(analyzer.node, "fact", "prediction")
        held = f" and is to hold {_spelled(verify.hold)}" if verify.hold else ""
        yield _fault(entry, f"{fact!r} closes {_spelled(keep)} after the fault is gone (its 'keep'){held}")


def _sampled(entry: Entry, on: str, streams: Streams) -> Iterator[Fault]:
    verify, every = entry.settings.verify, streams.every(on)
    if every is not None and verify.within < verify.samples * every:
        count = f"{verify.samples} samples of {on!r} take" if verify.samples > 1 else f"a sample of {on!r} takes"
        takes = f"{_spelled(verify.samples * every)}" + (f", one every {_spelled(every)}" if verify.samples > 1 else "")
        yield _fault(entry, f"{count} up to {takes}")


def _fault(entry: Entry, why: str) -> Fault:
    within = _spelled(entry.settings.verify.within)
    return entry.context.fault(child(child(entry.path, "verify"), "within"), f"{within} is too short: {why}")


def _spelled(seconds: float) -> str:
    return str(to_text(Duration.from_seconds(seconds)))
