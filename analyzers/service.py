"""The analyzers as a service: batches and watches in, facts and sightings out."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from analyzers.inference import Analysis, Hosts, Inference
from exhaust.language import Defined
from exhaust.lifecycle.service import Station
from exhaust.plugins import Analyzer, Inferring
from exhaust.resending import RESENT
from exhaust.routing import QUEUES
from exhaust.signing import Verifier
from exhaust.store import Store
from exhaust.wire import unpack
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
    verifier = Verifier({RESENT: station.keys.public("collector")})
    return Worker(
        "analyzers",
        inference,
        store,
        station.broker,
        station.clock,
        QUEUES["analyzers"],
        unpack=partial(unpack, verifier=verifier),
    )
