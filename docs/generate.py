"""Writes the parts of the documentation that are made from the code: `make docs`; a test holds them together."""

import inspect
import json
import re
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec

from exhaust.documents.binding import describe, settings_keys
from exhaust.ledger import LEDGER, BuiltIn
from exhaust.main import CATALOGUE
from exhaust.messages import AnyMessage, Codec, Message, kind_of
from exhaust.plugins import Emitter
from exhaust.routing import address
from exhaust.signing import SIGNED

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "messages"
_WIDTH = 120

_MESSAGES = """# Messages

<!-- made by `make docs` from exhaust/messages.py: do not edit -->

What components say to each other, as JSON with the AMQP properties `message_id`, `type` (the kind), `timestamp` and
`content_type`. Every message has `id`, `kind`, `time` and `causes`, the ids of what it follows from (at most 16; a
record is `<batch>#<n>`). Times are seconds since the epoch with microseconds, durations seconds. Ids are UUIDs: version
7 where something begins (a batch, an order), version 5 of their causes where it follows, so that the same input gives
the same ids. Readers ignore fields that they do not know; a new field has a default; a changed meaning is a new
version.

Signed kinds travel in a DSSE envelope (Ed25519) over the exact bytes shown here. The ends of executions carry their
signature in the header `signature`. The headers of a batch (`host emitter stream epoch seq count dropped schema`, and
`forgone` as `epoch:first-last,…` where there is any) tell the ledger all that it needs.
"""


def messages() -> str:
    """Return docs/reference/messages.md."""
    return _MESSAGES + "".join(f"\n{_section(kind)}" for kind in get_args(AnyMessage))


def _section(kind: type[Message]) -> str:
    golden = (GOLDEN / f"{kind.__name__}.json").read_text()
    message = Codec.decode(golden.encode())
    exchange, key = address(message)
    signed = ", signed" if issubclass(kind, SIGNED) else ""
    lines = [
        f"## {kind.__name__}",
        "",
        f"`{kind_of(message)}` by `{exchange}`, such as with the key `{key}`{signed}.",
        "",
    ]
    lines += [_text(kind), "", "| field | type | if left out |", "|---|---|---|"]
    lines += list(_rows(kind))
    lines += ["", "```json", json.dumps(json.loads(golden)), "```", ""]
    return "\n".join(lines)


def _text(kind: type[Message]) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def _rows(kind: type[Message]) -> Iterator[str]:
    shared = {field.name for field in msgspec.structs.fields(Message)}
    for field in msgspec.structs.fields(kind):
        if field.name not in shared:
            yield f"| `{field.name}` | {_type(field.type)} | {_default(field)} |"


def _type(annotation: Any) -> str:
    """Return a type in the words of the JSON that it becomes."""
    origin, inner = typing.get_origin(annotation), get_args(annotation)
    if origin is typing.Literal:
        return " ".join(f"`{choice}`" for choice in inner)
    if origin in (list, tuple):
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"map to {_type(inner[1])}"
    if inner:
        return " or ".join(_type(one) for one in inner)
    words = {str: "text", float: "number", int: "whole number", bool: "true or false", type(None): "null", Any: "any"}
    return words.get(annotation) or re.sub(r"^.*\.", "", getattr(annotation, "__name__", str(annotation)))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "needed"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f"`{msgspec.json.encode(value).decode()}`"


_EMITTERS = """# Emitters

<!-- made by `make docs` from the emitters' own schemas: do not edit -->

What observes a host: the settings of each emitter (under `emitters`, beside `use`), its streams, and the fields of
their records. A field that cannot be had on a host is left out of its records, never zero. Every record has `time`.
`exhaust try EMITTER` shows the records of one on this host.
"""


def emitters() -> str:
    """Return docs/reference/emitters.md."""
    return _EMITTERS + "".join(f"\n{_emitter(emitter)}" for _, emitter in sorted(CATALOGUE.emitters.items()))


def _emitter(emitter: Emitter[Any]) -> str:
    lines = [f"## {emitter.name}", "", _text(emitter.settings), "", *_settings(emitter.settings)]
    for stream, fields in emitter.streams.items():
        lines += ["", f"### {emitter.name}.{stream}", "", "| field | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {kind} | {text} |" for name, (kind, text) in map(_described, fields.items())]
    return "\n".join([*lines, ""])


def _settings(settings: Any) -> Iterator[str]:
    """Yield the table of a settings type, then those of the types that it holds."""
    yield from ("| setting | what | if left out |", "|---|---|---|")
    inner: dict[str, Any] = {}
    for name, field in settings_keys(settings).items():
        yield f"| `{name}` | {_expected(field.type)} | {_left_out(field)} |"
        inner.update((name, type_) for type_ in _structs(field.type))
    for name, type_ in inner.items():
        about = _text(type_)
        yield from (
            "",
            f"Each of `{name}`:" + (f" {about}" if about and not about.startswith(type_.__name__) else ""),
            "",
        )
        yield from _settings(type_)


def _expected(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), get_args(annotation)
    if origin is Annotated and not any(hasattr(mark, "expected") for mark in inner[1:]):
        return _expected(inner[0])
    if origin in (list, tuple) and inner:
        return f"a list: {_expected(inner[0])}"
    return describe(annotation)


def _left_out(field: msgspec.structs.FieldInfo) -> str:
    """Return what a setting is where it is not given, as YAML has it."""
    shown = _default(field)
    if not field.required and isinstance(field.default, float) and "duration" in describe(field.type):
        return f"`{field.default:g}s`"
    return shown


def _structs(annotation: Any) -> Iterator[Any]:
    """Yield the settings types that an annotation holds."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for inner in get_args(annotation):
        yield from _structs(inner)


def _described(field: tuple[str, str]) -> tuple[str, tuple[str, str]]:
    kind, _, text = field[1].partition(": ")
    return field[0], (kind, text)


_FACTS = """# Facts of the ledger

<!-- made by `make docs` from exhaust/ledger.py: do not edit -->

The collector counts every batch of every emitter, and asserts by itself what it finds: no analyzer is needed for these
facts, and rules answer them as any other. Their `value` is a number, their `detector` is `ledger`; while open they are
asserted again every 30 seconds, as long as the broker is there to hear it.

Silence is judged only over time in which the collector's own probes came back: while the broker is away, and when the
collector has just started, nobody is silent, and nothing is asserted. Nor is anybody where the collector's own clock is
set; as long as that is wrong, `clock.skew` says so of every host, and closes once it is right again.

`exhaust status` shows what the ledger has counted for each host and emitter:

| column | `--json` | what it counts |
|---|---|---|
| batches | `received` | batches that were delivered |
| records | `records` | the records in them |
| twice | `duplicates` | batches that came again; nobody counts their records twice |
| dropped | `dropped`, by `reasons` | records that their emitter gave up, as it says itself |
| dead | `dead` | batches that lie among the dead letters: `exhaust dead-letters` lists them |
| given up | `given_up` | batches that did not come, and that their emitter gave up, as it says itself |
| flying | `in_flight` | batches that may yet come: missed for less than 60 seconds, or their host sends its backlog |
| missing | `missing` | batches that did not come |
| heard | `last_heard` | when the last batch came |

Every number of a stream is in exactly one of `received`, `dead`, `given_up`, `in_flight` and `missing`: all up to the
highest that came of its epoch, and beyond that what was given up. Of what else got lost at the very end of an epoch
nobody knows. The 8 epochs of a stream that were heard of last, an epoch being one run of its emitters, are remembered
number by number, others as sums: what comes or is told of one of those is counted anew. Of epochs that began before the
collector was first started, only what follows the first batch that came, and what was given up, is accounted for.

What was given up a batch says in its header `forgone`. Only a batch that is new is listened to, about numbers of its
epoch below its own and of earlier epochs; what comes live where a number was called given up, or as the highest of its
epoch, belies what was said of the numbers of that gap and above. A dead letter counts for a batch that did not come
only where its headers say that the broker made it one (`x-death`): who may publish to the dead letters can write those,
too.

The ledger knows only what reaches it. Each of the collector's queues for telemetry holds 256 MiB, and then loses its
oldest: after a long absence of the collector alone, `telemetry.gap` may be about batches that only the ledger missed.
And it takes headers at their word: who has the broker password of an emitter can use up numbers of its streams, and the
genuine batches then count as `duplicates` until their epoch ends; or call given up what is missing of them.
"""


def facts() -> str:
    """Return docs/reference/facts.md."""
    return _FACTS + "".join(f"\n{_builtin(name, fact)}" for name, fact in LEDGER.items())


def _builtin(name: str, fact: BuiltIn) -> str:
    labels = "; ".join(f"`cause.labels.{label}`, {text}" for label, text in fact.labels.items()) or "none"
    rows = {
        "`cause.host`": fact.host,
        "labels": labels,
        "`cause.value`": fact.value,
        "severity": f"`{fact.severity}`",
        "opens": fact.opens,
        "closes": fact.closes,
    }
    lines = [f"## {name}", "", *textwrap.wrap(fact.text, _WIDTH), "", "| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {text} |" for key, text in rows.items()), ""])


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/messages.md": messages,
    "reference/emitters.md": emitters,
    "reference/facts.md": facts,
}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        path = Path(__file__).parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(make())


if __name__ == "__main__":
    main()
