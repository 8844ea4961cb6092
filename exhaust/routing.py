"""Where each message goes and who reads it: the exchanges, their keys, and every component's queues."""

from exhaust.broker.handling import DEAD, DEAD_QUEUE
from exhaust.broker.interface import Binding, Queue
from exhaust.messages import (
    TERMINAL,
    Activation,
    Batch,
    Command,
    Decision,
    ExecutionEvent,
    Fact,
    Message,
    Order,
    Prediction,
    Result,
    Sighting,
    Watch,
)

TELEMETRY = "exhaust.telemetry"
BACKLOG = "exhaust.backlog"
KNOWLEDGE = "exhaust.knowledge"
ACTIVATIONS = "exhaust.activations"
COMMANDS = "exhaust.commands"
RESULTS = "exhaust.results"
JOURNAL = "exhaust.journal"
CONTROL = "exhaust.control"
EXCHANGES = (TELEMETRY, BACKLOG, KNOWLEDGE, ACTIVATIONS, COMMANDS, RESULTS, JOURNAL, CONTROL, DEAD)

_ESCAPES = str.maketrans({"%": "%25", ".": "%2E", "*": "%2A", "#": "%23"})
# An unread command is only news of its own host's agent being away: more of them say nothing new.
_MOST_COMMANDS = 10_000
# A collector that is away must not fill the broker's disk; what it misses its ledger shows as missing.
_MOST_UNCOUNTED = 256 << 20
_MOST_ORDERS = 10_000


def word(host: str | None) -> str:
    """Return a host's name as one word of a key; `-` for no host."""
    return "-" if host is None else host.translate(_ESCAPES)


def address(message: Message) -> tuple[str, str]:
    """Return the exchange and the key that a message is published with."""
    match message:
        case Batch():
            return TELEMETRY, f"{word(message.host)}.{message.emitter}.{message.stream}"
        case Prediction():
            return KNOWLEDGE, f"prediction.{word(message.host)}.{message.name}"
        case Fact():
            return KNOWLEDGE, f"fact.{word(message.host)}.{message.name}"
        case Watch():
            return KNOWLEDGE, f"watch.{word(message.host)}"
        case Sighting():
            return KNOWLEDGE, f"sighting.{word(message.host)}"
        case Activation():
            return ACTIVATIONS, word(message.workflow)
        case Command():
            return COMMANDS, word(message.host)
        case Order():
            return CONTROL, f"order.{message.order}"
        case Result():
            return RESULTS, word(message.host)
        case Decision():
            return JOURNAL, f"decision.{word(message.rule)}"
        case ExecutionEvent():
            return JOURNAL, f"execution.{word(message.workflow)}.{_stage(message)}"
    raise TypeError(f"{type(message).__name__} has no address")


def _stage(event: ExecutionEvent) -> str:
    """Tell apart what only people read from the end of a run, which the activator waits for."""
    return "task" if event.task else "ended" if event.state in TERMINAL else "running"


def _queue(component: str, exchange: str, *patterns: str, keep: int | None = None) -> Queue:
    name = f"exhaust.{component}.{exchange.rpartition('.')[2]}"
    return Queue(name, tuple(Binding(exchange, pattern) for pattern in patterns), keep=keep)


def agent_queue(host: str) -> Queue:
    """Return the queue of one host's commands; what expires in it unread comes back as a result."""
    return Queue(
        f"exhaust.agent.{word(host)}",
        (Binding(COMMANDS, word(host)),),
        leader=False,
        most=_MOST_COMMANDS,
        expires_to=(RESULTS, word(host)),
    )


def control_queue(host: str) -> Queue:
    """Return the queue of the orders that one host's agent must hear, which stand never behind commands."""
    bindings = tuple(Binding(CONTROL, f"order.{order}") for order in ("halt", "resume"))
    return Queue(f"exhaust.control.{word(host)}", bindings, leader=False, most=_MOST_ORDERS)


QUEUES: dict[str, tuple[Queue, ...]] = {
    "collector": (
        _queue("collector", TELEMETRY, "#", keep=_MOST_UNCOUNTED),
        _queue("collector", BACKLOG, "#", keep=_MOST_UNCOUNTED),
        _queue("collector", KNOWLEDGE, "fact.#", "prediction.#"),
        _queue("collector", JOURNAL, "#"),
        DEAD_QUEUE,
    ),
    "analyzers": (
        _queue("analyzers", TELEMETRY, "#"),
        _queue("analyzers", BACKLOG, "#"),
        _queue("analyzers", KNOWLEDGE, "watch.#"),
    ),
    "activator": (
        _queue("activator", KNOWLEDGE, "fact.#", "prediction.#"),
        _queue("activator", JOURNAL, "execution.*.ended"),
        _queue("activator", CONTROL, "order.#"),
    ),
    "orchestrator": (
        _queue("orchestrator", ACTIVATIONS, "#"),
        _queue("orchestrator", KNOWLEDGE, "fact.#", "prediction.#", "sighting.#"),
        _queue("orchestrator", RESULTS, "#"),
        _queue("orchestrator", CONTROL, "order.halt", "order.resume"),
    ),
}
