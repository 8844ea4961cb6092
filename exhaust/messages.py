"""The messages that components exchange: frozen, tagged, versioned, without behaviour.

`id` and `time` are always passed in. Times are seconds since the epoch with microseconds, durations seconds.
Readers ignore unknown fields; a new field has a default; a changed meaning is a new version of the tag.
"""

from typing import Any, ClassVar, Literal

import msgspec

from exhaust.errors import MessageError

Labels = dict[str, str]
Severity = Literal["info", "warning", "error", "critical"]
FactState = Literal["open", "closed"]
FactReason = Literal["asserted", "cleared", "expired", "gone", "withdrawn"]
Verdict = Literal["recovered", "not_recovered", "relapsed", "unknown"]
ExecutionState = Literal[
    "pending", "waiting", "running", "verifying",
    "succeeded", "failed", "cancelled", "timed_out", "skipped", "rejected", "indeterminate",
]  # fmt: skip
TERMINAL: frozenset[ExecutionState] = frozenset(
    ("succeeded", "failed", "cancelled", "timed_out", "skipped", "rejected", "indeterminate")
)
MOST_CAUSES = 16
MOST_SUMMARY = 300
MOST_EVIDENCE = 8
MOST_EVIDENCE_BYTES = 4096
MOST_LABELS = 64
MOST_LABELS_BYTES = 4096
MOST_VALUE_BYTES = 16_384
MOST_FACT_BYTES = 32_768
"""What readers take of a fact: see `Fact`. With room for inputs, an activation can carry all of it."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every message has."""

    id: str
    time: float
    causes: tuple[str, ...] = ()


class Batch(Message, frozen=True, kw_only=True, tag="batch/1"):
    """Records of one stream of one emitter; `seq` counts from 0 per (host, emitter, stream, epoch).

    A record is a map of `time` and the stream's fields; its id is `<batch id>#<index>`. `forgone` are numbers of the
    stream that will never come: the epoch, the first and the last of each stretch.
    """

    host: str
    emitter: str
    stream: str
    epoch: int
    seq: int
    dropped: dict[str, int] = {}
    forgone: list[tuple[int, int, int]] = []
    records: list[dict[str, Any]] = []


class Fact(Message, frozen=True, kw_only=True, tag="fact/1"):
    """Something true of a subject from `since` until it closes; `episode` is the id of the message that opened it.

    Of an open fact `valid_until` is when it expires unless it is asserted again; of a closed one, when it ended.
    Readers refuse a fact with more than 300 characters of `summary`, 8 records or 4 KiB of `evidence`, 64 labels or
    4 KiB of them, 16 KiB of `value`, or 32 KiB in all, each as JSON.
    """

    name: str
    host: str | None
    labels: Labels
    episode: str
    state: FactState
    reason: FactReason
    severity: Severity
    since: float
    valid_until: float
    value: Any = None
    summary: str = ""
    evidence: list[dict[str, Any]] = []
    detector: str = ""


class Prediction(Fact, frozen=True, kw_only=True, tag="prediction/1"):
    """Something expected of a subject: a fact about the future.

    `due` is when it is expected, `probability` from 0 to 1, `horizon` the seconds that were looked ahead.
    """

    due: float
    probability: float
    horizon: float


class Reason(msgspec.Struct, frozen=True):
    """One guard's answer in a decision: what it found and what it wanted."""

    guard: str
    have: Any
    want: Any


class Decision(Message, frozen=True, kw_only=True, tag="decision/1"):
    """The activator's answer to one candidate, an open episode (`cause`) and a rung of a rule."""

    rule: str
    rung: int
    cause: str
    outcome: Literal["fired", "observed", "pending", "refused"]
    reasons: list[Reason] = []
    host: str | None = None
    execution: str | None = None
    count: int = 1
    last_time: float = 0.0


class Activation(Message, frozen=True, kw_only=True, tag="activation/1"):
    """The order to run a workflow, with the whole fact that caused it; `execution` is the id of the run.

    Where a person asked for the run there is no rule and no cause.
    """

    execution: str
    workflow: str
    inputs: dict[str, Any]
    rule: str | None
    rung: int
    attempt: int
    cause: Fact | Prediction | None
    host: str | None
    mode: Literal["auto"]
    expires: float
    epoch: int


class ExecutionEvent(Message, frozen=True, kw_only=True, tag="execution/1"):
    """What happens to one run. Without `task` it is the run's own state; with one, that task's.

    The first event of a run carries what it was started with (`host rule rung attempt mode cause deadline`).
    """

    execution: str
    workflow: str
    definition: str
    state: ExecutionState
    task: str | None = None
    attempt: int = 1
    output: Any = None
    error: str | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    host: str | None = None
    rule: str | None = None
    rung: int | None = None
    mode: str | None = None
    cause: str | None = None
    deadline: float | None = None
    started: float | None = None


class Order(Message, frozen=True, kw_only=True, tag="order/1"):
    """A person's will, in the name of `by`.

    `trigger` runs the workflow `target` with `inputs`, on `host` where it needs one. `halt` keeps everything that acts
    from starting anything, or what concerns the host `target`, until `resume`.
    """

    order: Literal["trigger", "halt", "resume"]
    target: str | None
    by: str
    reason: str = ""
    inputs: dict[str, Any] = {}
    host: str | None = None


class Command(Message, frozen=True, kw_only=True, tag="command/1"):
    """What an agent is told to do, once per `key`; `audience` is the fingerprint of that agent's key."""

    execution: str
    task: str
    host: str
    action: str
    params: dict[str, Any]
    audience: str
    epoch: int
    seq: int
    expires: float
    key: str
    timeout: float


class Result(Message, frozen=True, kw_only=True, tag="result/1"):
    """What an agent did; `started` and `ended` are of its own clock, None where nothing was started."""

    command: str
    key: str
    execution: str
    host: str
    state: Literal["succeeded", "failed", "refused", "indeterminate"]
    reason: str = ""
    started: float | None = None
    ended: float | None = None
    changed: bool = False
    output: Any = None


class Watch(Message, frozen=True, kw_only=True, tag="watch/1"):
    """The orchestrator's question whether a fault is gone: of an episode, or of `on`, `labels` and `when`.

    Fresh is what is newer than `after`: by the records' own `time` where that is the clock of `after` too, else by
    when they were received. `after` is None until the start of the last mutating task is known. Nothing is looked
    for past `until`.
    """

    execution: str
    host: str | None
    until: float
    episode: str | None = None
    on: str | None = None
    labels: Labels = {}
    when: str | None = None
    variables: dict[str, Any] = {}
    after: float | None = None
    clock: Literal["time", "received"] = "time"
    settle: float = 0.0
    hold: float = 0.0
    samples: int = 1


class Sighting(Message, frozen=True, kw_only=True, tag="sighting/1"):
    """What the analyzers saw for a watch: whether what it waits for (the fault's end) holds, on how many samples."""

    execution: str
    host: str | None
    holds: Literal["true", "false", "unknown"]
    samples: int
    first: float | None = None
    last: float | None = None
    evidence: list[dict[str, Any]] = []


AnyMessage = (
    Batch | Fact | Prediction | Decision | Activation | ExecutionEvent | Order | Command | Result | Watch | Sighting
)


class Codec:
    """JSON to messages and back; the only place where either happens."""

    _encoder: ClassVar[msgspec.json.Encoder] = msgspec.json.Encoder()
    _decoder: ClassVar[msgspec.json.Decoder[AnyMessage]] = msgspec.json.Decoder(AnyMessage)

    @classmethod
    def encode(cls, message: Message) -> bytes:
        return cls._encoder.encode(message)

    @classmethod
    def decode(cls, body: bytes) -> AnyMessage:
        """Raise MessageError for anything that is not one of our messages."""
        try:
            return cls._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise MessageError(f"the body is no message of ours: {exc}") from exc


def kind_of(message: Message) -> str:
    """Return the tag, such as `fact/1`."""
    return str(type(message).__struct_config__.tag)
