"""The streams that analyzers can read: which there are, which of them this installation makes, what they hold."""

import fnmatch
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from exhaust import shapes
from exhaust.expressions import Shape
from exhaust.expressions.errors import suggestion
from exhaust.plugins import Emitter, Fields
from exhaust.sections import Sections, text_of

# Streams of whatever anybody sends, and of the facts themselves.
OPEN = ("custom", "fact", "prediction")


class Streams:
    """All emitters' streams by their whole name, such as `service.state`, and the settings of those in use here."""

    def __init__(self, emitters: Mapping[str, Emitter[Any]], sections: Sections) -> None:
        self._fields: dict[str, Fields] = {
            f"{name}.{stream}": fields for name, plugin in emitters.items() for stream, fields in plugin.streams.items()
        }
        self._matches: dict[str, Sequence[str]] = {}
        self._records: dict[str, Shape | None] = {}
        self._uses = Counter(text_of(entry.node, "use") for entry in sections["emitters"])
        self._in_use = set(self._uses)
        self._all_known = bool(self._in_use) and "emitters" not in sections.unread
        self._settings = [(entry.plugin.name, entry.settings) for entry in sections.sound("emitters")]

    def record(self, on: str) -> Shape | None:
        """Return what is known of the records under `on`, which may be a glob; None where that is nothing."""
        if on not in self._records:
            shape = shapes.records_shape([self._fields[name] for name in self._matching(on)])
            self._records[on] = shape if shape.fields and not _is_open(on) else None
        return self._records[on]

    def unknown(self, on: str) -> str | None:
        """Say why nothing can come under `on`."""
        if _is_open(on) or self._matching(on):
            return None
        known = [*self._fields, *(f"{name}.*" for name in OPEN)]
        hint = suggestion(on, self._fields) or f"; there are {', '.join(known)}"
        return f"nothing emits {on!r}{hint}"

    def unused(self, on: str) -> str | None:
        """Say why nothing comes under `on` here: the emitter is not among those that are configured."""
        matching = self._matching(on)
        names = {name.partition(".")[0] for name in matching}
        if not self._all_known or not names or _is_open(on):
            return None
        if used := names & self._in_use:
            return None if any(map(self._is_on, matching)) else self._off(on, used)
        add = " or ".join(f"`- use: {name}`" for name in sorted(names))
        return f"nothing here emits {on!r}: add {add} under emitters"

    def _is_on(self, stream: str) -> bool:
        """Whether a configured emitter sends a stream, as far as its settings can be known."""
        emitter, _, name = stream.partition(".")
        uses = [settings for used, settings in self._settings if used == emitter]
        known = len(uses) == self._uses[emitter]
        return not known or any(name in getattr(settings, "streams", (name,)) for settings in uses)

    def _off(self, on: str, emitters: Collection[str]) -> str:
        names = [name.partition(".")[2] for name in self._matching(on) if name.partition(".")[0] in emitters]
        return (
            f"nothing here emits {on!r}: add {' or '.join(names)} to the 'streams' of {' or '.join(sorted(emitters))}"
        )

    def every(self, on: str) -> float | None:
        """Return how often, in seconds, records come under `on` at best; None where that is not known."""
        names = {name.partition(".")[0] for name in self._matching(on)}
        known = [every for name, settings in self._settings if name in names for every in _intervals(settings)]
        return min(known, default=None)

    def _matching(self, on: str) -> Sequence[str]:
        if on not in self._matches:
            self._matches[on] = [name for name in self._fields if fnmatch.fnmatchcase(name, on)]
        return self._matches[on]


def _is_open(on: str) -> bool:
    return on.partition(".")[0] in OPEN


def _intervals(settings: Any) -> Iterator[float]:
    """Yield every `every`: those of single things that are looked at, as of probes, instead of the one for all."""
    inner = [
        every
        for name in getattr(settings, "__struct_fields__", ())
        if isinstance(items := getattr(settings, name), list | tuple)
        for item in items
        for every in _intervals(item)
    ]
    own = getattr(settings, "every", None)
    yield from inner or ([own] if isinstance(own, int | float) else [])
