"""`exhaust try`: one emitter alone, without broker or configuration: what it yields, as JSON lines."""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, TextIO, cast

import msgspec

from exhaust.clock import Clock, SystemClock
from exhaust.commands.command import Command, Root
from exhaust.configuration import Catalogue
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.documents.nodes import At, Broken, Entry, Fault, Scalar
from exhaust.documents.nodes import Mapping as MapNode
from exhaust.errors import ExhaustError, UsageError
from exhaust.expressions.errors import suggestion
from exhaust.plugins import Emitter, Lost, Record, Settings
from exhaust.settings import Context, parse_duration

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*")


def emitter_of(name: str, catalogue: Catalogue) -> Emitter[Any]:
    """Return an emitter by its name. Raises UsageError with the nearest one, ExhaustError where it cannot be used."""
    if name in catalogue.emitters:
        return catalogue.emitters[name]
    if why := catalogue.broken.get(f"emitters/{name}"):
        raise ExhaustError(f"emitter {name!r} cannot be used: {why}")
    hint = suggestion(name, catalogue.emitters) or f"; there are {', '.join(sorted(catalogue.emitters))}"
    raise UsageError(f"no emitter is called {name!r}{hint}")


def settings_of(emitter: Emitter[Any], given: Sequence[str]) -> Settings:
    """Return an emitter's settings from `key=value`s, or raise UsageError with all that is wrong with them.

    A value is YAML, as behind its key in a file; dots lead into maps.
    """
    faults: list[Fault] = []
    root = MapNode({}, At("--set", 1, 1))
    for option in given:
        path, equals, value = option.partition("=")
        if not equals or not _KEY.fullmatch(path):
            raise UsageError(f"--set {option}: expected key=value, such as every=1s")
        _put(root, path, _entry(path, value, faults))
    settings: Settings = bind(root, emitter.settings, "", faults, Context())
    if faults:
        raise UsageError("\n".join(dict.fromkeys(map(_told_of_option, faults))))
    return settings


def _entry(path: str, value: str, faults: list[Fault]) -> Entry:
    """Return a value with its key; what is not YAML is broken, and a fault says why."""
    key, option = path.rpartition(".")[2], f"--set {path}"
    document, found = compose(f"{key}: {value}".encode(errors="surrogateescape"), option)
    faults += found
    if document is not None and list(document.entries) == [key]:
        return document.entries[key]
    if not found:
        raise UsageError(f"{option}: expected one value; a list or map stands in brackets")
    at = At(option, 1, 1)
    return Entry(Scalar(key, key, False, at), Broken(at))


def _put(root: MapNode, path: str, entry: Entry) -> None:
    *above, key = path.split(".")
    place = root
    for name in above:
        at = entry.key.at
        inner = place.entries.setdefault(name, Entry(Scalar(name, name, False, at), MapNode({}, at))).value
        if not isinstance(inner, MapNode):
            raise UsageError(f"--set {path}: {name!r} has a value of its own already")
        place = inner
    if key in place.entries:
        raise UsageError(f"--set {path}: given a second time")
    place.entries[key] = entry


def _told_of_option(fault: Fault) -> str:
    """Return a fault with the option's name; the place in it is told by the path."""
    return f"{fault.file}: {str(fault).removeprefix(f'{fault.file}:{fault.line}:{fault.column}: ')}"


def line(stream: str, record: Record) -> str:
    """Return a record as a line of JSON that a terminal shows as it stands. Raises ExhaustError where it is no data."""
    try:
        plain = msgspec.json.decode(msgspec.json.encode({**record.fields, "time": record.time}))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ExhaustError(f"a record of {stream} cannot be sent: {exc}") from exc
    return json.dumps({"stream": stream, "time": plain.pop("time"), **plain}).replace("\x7f", "\\u007f")


async def observed(
    emitter: Emitter[Any], settings: Settings, clock: Clock
) -> AsyncGenerator[tuple[str, Record | Lost]]:
    """Yield an emitter's records with their streams. Raises ExhaustError where it fails, or ends by itself."""
    records = cast("AsyncGenerator[Record | Lost]", emitter.emit(settings, clock, {}))
    try:
        async with aclosing(records):
            async for record in records:
                yield _stream(emitter, record), record
    except Exception as exc:
        raise ExhaustError(f"emitter {emitter.name} failed: {_told(exc)}") from exc
    raise ExhaustError(f"emitter {emitter.name} ended by itself: one observes until it is stopped")


def _told(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(map(_told, exc.exceptions))
    return f"{type(exc).__name__}: {exc}"


async def observe(
    emitter: Emitter[Any],
    settings: Settings,
    clock: Clock,
    *,
    seconds: float,
    streams: Iterable[str],
    out: TextIO | None = None,
) -> int:
    """Print what an emitter yields on `streams` within `seconds`; return how many records that were."""
    out, wanted, count, strange = out or sys.stdout, frozenset(streams), 0, set[str]()
    try:
        async with asyncio.timeout(seconds) as limit, aclosing(observed(emitter, settings, clock)) as records:
            async for stream, record in records:
                if isinstance(record, Lost):
                    _tell(f"{emitter.name}.{stream}: {record.count} records are lost ({record.reason})")
                elif stream in wanted:
                    out.write(line(f"{emitter.name}.{stream}", record) + "\n")
                    out.flush()
                    count += 1
                    _tell_of_strange(emitter, stream, record, strange)
                await asyncio.sleep(0)  # one that is never short of records must not outlast its time
    except TimeoutError:
        if not limit.expired():
            raise
    return count


def _tell_of_strange(emitter: Emitter[Any], stream: str, record: Record, told: set[str]) -> None:
    """Tell once of each field that the stream's schema does not have: no condition can be checked for it."""
    for name in record.fields.keys() - (emitter.streams[stream].keys() or record.fields.keys()) - told:
        told.add(name)
        _tell(f"{emitter.name}.{stream}: the field {name!r} is not among those that its schema has")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def _stream(emitter: Emitter[Any], record: Record | Lost) -> str:
    stream = record.stream or (next(iter(emitter.streams)) if len(emitter.streams) == 1 else "")
    if stream not in emitter.streams:
        raise ValueError(f"stream {record.stream!r} is not among the emitter's: {', '.join(emitter.streams)}")
    return stream


def _streams(emitter: Emitter[Any], asked: str | None) -> Iterable[str]:
    """Return the streams to show: all, or the one that is asked for with or without the emitter's name."""
    if asked is None:
        return emitter.streams
    name = asked.removeprefix(f"{emitter.name}.")
    if name in emitter.streams:
        return [name]
    hint = suggestion(name, emitter.streams) or f"; there are {', '.join(emitter.streams)}"
    raise UsageError(f"--stream: emitter {emitter.name!r} has no stream {asked!r}{hint}")


def _switched_on(settings: Settings, streams: Iterable[str]) -> Settings:
    """Return settings by which the streams are sent that are asked for."""
    known = tuple(getattr(settings, "streams", streams))
    more = tuple(stream for stream in streams if stream not in known)
    return msgspec.structs.replace(settings, streams=(*known, *more)) if more else settings


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("emitter", metavar="EMITTER")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a setting, its value as in YAML")
    parser.add_argument("--for", dest="duration", default="5s", metavar="TIME", help="for how long (5s)")
    parser.add_argument("--stream", metavar="S", help="only this one of its streams")


async def _try(options: argparse.Namespace, root: Root) -> int:
    emitter = emitter_of(options.emitter, root.catalogue)
    seconds = parse_duration(options.duration)
    if seconds is None:
        raise UsageError(f"--for: expected a duration such as 30s, got {options.duration!r}")
    streams = _streams(emitter, options.stream)
    settings = _switched_on(settings_of(emitter, options.set), streams if options.stream else ())
    if not await observe(emitter, settings, SystemClock(), seconds=seconds, streams=streams):
        _tell(f"emitter {emitter.name}: no record within {seconds:g} s")
        for source, why in emitter.sources().items():
            if why:
                _tell(f"  {source} cannot be used here: {why}")
    return 0


COMMANDS = (
    Command(
        "try",
        "run one emitter alone and print its records",
        "exhaust try performance --stream system --set every=500ms --for 2s",
        _try,
        _arguments,
    ),
)
