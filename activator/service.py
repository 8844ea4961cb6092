"""The activator as a service: facts and ends of executions in, decisions and signed activations out."""

from collections.abc import Sequence
from functools import partial

from activator.decisions import Activator
from activator.questions import Surroundings
from activator.rules import Rule
from exhaust.language import Defined
from exhaust.lifecycle.service import Station
from exhaust.resending import RESENT
from exhaust.routing import QUEUES
from exhaust.signing import Verifier
from exhaust.store import Store
from exhaust.wire import unpack
from exhaust.worker import Worker


def service(station: Station, store: Store, rules: Sequence[Defined[Rule]], around: Surroundings) -> Worker:
    """Return the worker that decides by these rules."""
    activator = Activator(rules, around, store.epoch)
    keys = station.keys
    collector = keys.public("collector")
    verifier = Verifier({"execution/1": keys.public("orchestrator"), "order/1": collector, RESENT: collector})
    return Worker(
        "activator",
        activator,
        store,
        station.broker,
        station.clock,
        QUEUES["activator"],
        signer=keys.signer("activator"),
        unpack=partial(unpack, verifier=verifier),
    )
