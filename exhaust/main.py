"""The composition root: the only module that knows the components, and hands each what it needs."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import activator.service
import agents.policy
import analyzers.service
import orchestrator.service
from activator.decisions import Activator
from activator.questions import Surroundings
from activator.rules import Rule
from adapters.registry import ADAPTERS
from agents.agent import agent
from agents.helper import Helper
from agents.kept import KeptService
from agents.pidfiles import PidfileService
from agents.registry import ACTIONS
from agents.roster import AnyService
from agents.supervised import SupervisedService
from analyzers.inference import Analysis, Inference
from analyzers.registry import ANALYZERS
from collector.definitions import Definitions
from collector.service import Collector
from emitters.registry import EMITTERS
from emitters.runner import Emitters
from emitters.service import Entry, Services
from emitters.spool.opening import opened_log
from exhaust.calendars import Times
from exhaust.commands.command import Deciders, Root
from exhaust.commands.line import main as command_line
from exhaust.configuration import Catalogue, Configuration
from exhaust.extensions import extensions
from exhaust.lifecycle.leading import Led
from exhaust.lifecycle.reloading import Reread
from exhaust.lifecycle.running import COMPONENTS, run_services
from exhaust.lifecycle.service import Service, Station
from exhaust.lifecycle.systemd import Systemd
from orchestrator.conductor import Conductor
from orchestrator.journal import Journal
from orchestrator.reach import Reach
from orchestrator.workflows import Workflow

# What people read may come some milliseconds later; what heals may not.
_READERS_GIVE_WAY = 10

BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "emitters": EMITTERS,
    "analyzers": ANALYZERS,
    "adapters": ADAPTERS,
    "actions": ACTIONS,
}


def catalogue() -> Catalogue:
    """Return what can be configured here: what is built in, and what third parties add."""
    found = {kind: extensions(kind, table) for kind, table in BUILT_IN.items()}
    tables: dict[str, Any] = {kind: {**table, **found[kind].plugins} for kind, table in BUILT_IN.items()}
    return Catalogue(
        **tables,
        rule=Rule,
        workflow=Workflow,
        policy=partial(agents.policy.check, actions=tables["actions"]),
        origins={f"{kind}/{name}": origin for kind, one in found.items() for name, origin in one.origins.items()},
        broken={f"{kind}/{name}": why for kind, one in found.items() for name, why in one.broken.items()},
    )


CATALOGUE = catalogue()


def compose(component: str, configuration: Configuration, station: Station) -> Service:
    """Return one component of this installation."""
    hosts, lists, policy = configuration.inventory.variable, configuration.lists, configuration.host_policy
    path = station.state / f"{component}.db"
    match component:
        case "emitters":
            spool = partial(opened_log, station.state / "spool")
            return Led(component, spool, lambda log: Emitters(station, configuration.emitters, log))
        case "collector":
            inventory, rules, flows = configuration.inventory.hosts, configuration.rules, configuration.workflows
            definitions = Definitions(inventory, rules, flows)
            return Collector(station, configuration.http.address, people=configuration.people, definitions=definitions)
        case "analyzers":
            made = configuration.analyzers
            return Led(component, path, lambda store: analyzers.service.service(station, store, made, hosts, lists))
        case "activator":
            rules, around = configuration.rules, surroundings(configuration)
            return Led(component, path, lambda store: activator.service.service(station, store, rules, around))
        case "orchestrator":
            flows, reach = configuration.workflows, configuration.adapters
            return Led(
                component,
                path,
                lambda store: orchestrator.service.service(station, store, flows, reach, hosts, lists),
            )
        case "agent":
            return agent(station, policy, actions=CATALOGUE.actions)
        case "helper":
            return Helper(station, policy, reached_services(configuration), actions=CATALOGUE.actions)
    raise ValueError(f"no component is called '{component}'")


def surroundings(configuration: Configuration) -> Surroundings:
    """Return what the rules of this installation may look at."""
    inventory, calendars = configuration.inventory, configuration.calendars
    times = {name: Times(calendar) for name, calendar in calendars.items()}
    return Surroundings(inventory.variable, configuration.lists, times, inventory.hosts)


def reached_services(configuration: Configuration) -> list[AnyService]:
    """Return the services of the emitters' settings as the helper reaches them: to keep them, or through who does.

    Those of systemd are only observed.
    """
    observed = [settings for _, settings in configuration.emitters if isinstance(settings, Services)]
    entries = (entry for settings in observed for entry in settings.services)
    return [reached(entry) for entry in entries if entry.provider != "systemd"]


def reached(entry: Entry) -> AnyService:
    """Return how the helper reaches one service."""
    if entry.provider == "supervisord":
        return SupervisedService(entry.name, entry.socket or "", entry.wanted)
    if entry.provider == "pidfile":
        return PidfileService(entry.name, entry.pidfile or "")
    return KeptService(entry.name, entry.argv, entry.cwd, entry.env, entry.wanted)


async def run(components: Sequence[str], configuration: Configuration, reread: Reread | None = None) -> int:
    """Run components in this process until told to stop; at SIGHUP they go on with the configuration read again."""
    if list(components) == ["collector"]:
        os.nice(_READERS_GIVE_WAY)
    systemd = Systemd.claimed(os.environ, os.getpid())
    return await run_services(components, configuration, compose, systemd, reread=reread)


def deciders(configuration: Configuration) -> Deciders:
    """Return what makes the deciders of the loop, for a rehearsal: no broker, no store, no keys."""
    hosts, lists, flows = configuration.inventory.variable, configuration.lists, configuration.workflows
    methods = [Analysis.of(defined, plugin.make(defined.value, lists)) for plugin, defined in configuration.analyzers]
    adapters = {name: plugin for name, (plugin, _) in configuration.adapters.items()}
    epoch, audience = 1, "agents"
    return {
        "analyzers": lambda: Inference(methods, hosts, lists),
        "activator": lambda: Activator(configuration.rules, surroundings(configuration), epoch),
        "orchestrator": lambda: Conductor(Journal(flows), Reach(adapters, hosts, lists, epoch, audience)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; every command's exit code is the process's."""
    command_line(sys.argv[1:] if argv is None else argv, Root(CATALOGUE, run, deciders))


__all__ = ["CATALOGUE", "COMPONENTS", "compose", "deciders", "main", "run"]

if __name__ == "__main__":
    main()
