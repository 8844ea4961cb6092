"""The analyzers as a service: batches and watches in, facts and sightings out."""

from collections.abc import Mapping, Sequence
from typing import Any

from analyzers.inference import Analysis, Hosts, Inference
from exhaust.language import Defined
from exhaust.lifecycle.service import Station
from exhaust.plugins import Analyzer, Inferring
from exhaust.routing import QUEUES
from exhaust.store import Store
from exhaust.worker import Worker


def service(
    station: Station,
    store: Store,
    analyzers: Sequence[tuple[Analyzer[Any], Defined[Inferring]]],
    hosts: Hosts,
    lists: Mapping[str, Any],
) -> Worker:
    """Return the worker that runs these analyzers."""
    analyses = [Analysis.of(defined, plugin.make(defined.value, lists)) for plugin, defined in analyzers]
    inference = Inference(analyses, hosts, lists)
    return Worker("analyzers", inference, store, station.broker, station.clock, QUEUES["analyzers"])
