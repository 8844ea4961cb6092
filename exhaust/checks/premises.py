"""What a configuration counts on and this host lacks: what could never start is a fault, the rest a doubt."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from exhaust.checks.references import Names, rungs
from exhaust.documents.document import read
from exhaust.documents.nodes import Fault, child
from exhaust.sections import Entry, Sections


def service_faults(sections: Sections) -> Iterator[Fault]:
    """Find services that nobody could keep, or that are not there to be observed."""
    seen: set[str] = set()
    for entry, path, service in _services(sections):
        if service.provider == "kept" and not service.argv[0].startswith("/"):
            what = f"a program by its absolute path is needed, got {service.argv[0]!r}"
            yield entry.context.fault(f"{path}.argv[0]", what)
        if service.name in seen:
            yield entry.context.fault(child(path, "name"), f"service {service.name!r} is given twice")
        seen.add(service.name)
    known: list[tuple[str, Any]] = []
    for entry in sections.sound("emitters"):
        if getattr(entry.settings, "services", None) == ():
            yield entry.fault("services", "no services are given: there is nothing to observe", "warning")
        if (entry.plugin.name, entry.settings) in known:
            what = f"the same {entry.plugin.name!r} is given before: each of its records would come twice"
            yield entry.fault("use", what, "warning")
        known.append((entry.plugin.name, entry.settings))


def premise_faults(sections: Sections) -> Iterator[Fault]:
    """Find plug-ins that do not work on this host, and kept services whose program is not here."""
    for section in ("emitters", "analyzers", "adapters"):
        for entry in sections.sound(section):
            if why := entry.plugin.missing():
                yield entry.fault("use", f"{entry.plugin.name!r} does not work on this host: {why}", "warning")
    for entry, path, service in _services(sections):
        if service.provider == "kept" and service.argv[0].startswith("/") and not Path(service.argv[0]).exists():
            what = f"service {service.name!r}: there is no {service.argv[0]!r} on this host"
            yield entry.context.fault(f"{path}.argv[0]", what, "warning")


def _services(sections: Sections) -> Iterator[tuple[Entry, str, Any]]:
    for entry in sections["emitters"]:
        for number, service in enumerate(getattr(entry.rough, "services", ())):
            yield entry, child(child(entry.path, "services"), number), service


def policy_faults(sections: Sections, names: Names, policy: Path, host: str) -> Iterator[Fault]:
    """Find what rules would have done on `host`, and the policy of its agent does not allow."""
    document, _ = read(policy, str(policy))
    if document is None:
        return
    run = {rung.run for entry in sections["rules"] if entry.rough is not None for _, rung in rungs(entry)}
    for entry in sections["workflows"]:
        if entry.name in run and entry.rough is not None:
            yield from _forbidden(entry, names, document.entries, host)


def _forbidden(entry: Entry, names: Names, allowed: Collection[str], host: str) -> Iterator[Fault]:
    for path, spec in entry.rough.placed(entry.path):
        elsewhere = spec.host is not None and not (spec.host.constant and spec.host.source == host)
        if elsewhere or not names.is_for_agents(spec.use) or spec.do in allowed:
            continue
        if spec.do in (names.actions(spec.use) or {}):
            what = f"this host's policy does not allow {spec.do!r}"
            yield entry.context.fault(child(path, "do"), what, "warning")
