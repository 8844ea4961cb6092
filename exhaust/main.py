"""The composition root: the only module that knows the components, and hands each what it needs."""

import os
import sys
from collections.abc import Sequence
from functools import partial

import activator.service
import agents.policy
import analyzers.service
import orchestrator.service
from activator.decisions import Activator
from activator.rules import Rule
from adapters.registry import ADAPTERS
from agents.agent import agent
from agents.helper import Helper
from agents.kept import KeptService
from agents.registry import ACTIONS
from analyzers.inference import Analysis, Inference
from analyzers.registry import ANALYZERS
from collector.service import Collector
from emitters.registry import EMITTERS
from emitters.runner import Emitters
from emitters.service import Services
from exhaust.clock import SystemClock
from exhaust.commands.command import Deciders, Root
from exhaust.commands.line import main as command_line
from exhaust.configuration import Catalogue, Configuration
from exhaust.leading import Led
from exhaust.running import COMPONENTS, opened_broker, run_services
from exhaust.service import Service, Station
from exhaust.signing import Keys
from orchestrator.conductor import Conductor
from orchestrator.journal import Journal
from orchestrator.reach import Reach
from orchestrator.workflows import Workflow

# What people read may come some milliseconds later; what heals may not.
_READERS_GIVE_WAY = 10

CATALOGUE = Catalogue(
    EMITTERS, ANALYZERS, ADAPTERS, ACTIONS, Rule, Workflow, partial(agents.policy.check, actions=ACTIONS)
)


def compose(component: str, configuration: Configuration, station: Station) -> Service:
    """Return one component of this installation."""
    hosts, lists, policy = configuration.inventory.variable, configuration.lists, configuration.host_policy
    path = station.state / f"{component}.db"
    match component:
        case "emitters":
            return Led(component, path, lambda store: Emitters(station, configuration.emitters, store))
        case "collector":
            return Collector(station, configuration.http.listen)
        case "analyzers":
            made = configuration.analyzers
            return Led(component, path, lambda store: analyzers.service.service(station, store, made, hosts, lists))
        case "activator":
            rules = configuration.rules
            return Led(component, path, lambda store: activator.service.service(station, store, rules, hosts, lists))
        case "orchestrator":
            flows, reach = configuration.workflows, configuration.adapters
            return Led(
                component,
                path,
                lambda store: orchestrator.service.service(station, store, flows, reach, hosts, lists),
            )
        case "agent":
            return agent(station, policy)
        case "helper":
            return Helper(station, policy, kept_services(configuration))
    raise ValueError(f"no component is called '{component}'")


def kept_services(configuration: Configuration) -> list[KeptService]:
    """Return the services that the emitters' settings give into the helper's keeping."""
    entries = (
        entry
        for _, settings in configuration.emitters
        if isinstance(settings, Services)
        for entry in settings.services
        if entry.provider == "kept"
    )
    return [KeptService(entry.name, entry.argv, entry.cwd, entry.env, entry.wanted) for entry in entries]


async def run(components: Sequence[str], configuration: Configuration) -> int:
    """Run components in this process until told to stop."""
    if list(components) == ["collector"]:
        os.nice(_READERS_GIVE_WAY)
    async with opened_broker(configuration, components[0] if len(components) == 1 else "all") as broker:
        keys = Keys(configuration.state / "keys")
        station = Station(configuration.host, configuration.state, SystemClock(), broker, keys)
        services = [compose(component, configuration, station) for component in components]
        return await run_services(components, services, station, configuration)


def deciders(configuration: Configuration) -> Deciders:
    """Return what makes the deciders of the loop, for a rehearsal: no broker, no store, no keys."""
    hosts, lists, flows = configuration.inventory.variable, configuration.lists, configuration.workflows
    methods = [Analysis.of(defined, plugin.make(defined.value, lists)) for plugin, defined in configuration.analyzers]
    adapters = {name: plugin for name, (plugin, _) in configuration.adapters.items()}
    epoch, audience = 1, "agents"
    return {
        "analyzers": lambda: Inference(methods, hosts, lists),
        "activator": lambda: Activator(configuration.rules, hosts, lists, epoch),
        "orchestrator": lambda: Conductor(Journal(flows), Reach(adapters, hosts, lists, epoch, audience)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; every command's exit code is the process's."""
    command_line(sys.argv[1:] if argv is None else argv, Root(CATALOGUE, run, deciders))


__all__ = ["CATALOGUE", "COMPONENTS", "compose", "deciders", "main", "run"]

if __name__ == "__main__":
    main()
