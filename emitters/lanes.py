"""Records of one stream that wait for company, and the uses of emitters that they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from emitters.meter import Meter
from emitters.spool.parcels import Parcel, Stream
from exhaust.plugins import Emitter, Keeps, Settings

_MOST_POSITIONS = 128 << 10

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Lane:
    """A stream's records that wait to be put; `last` is when its last batch was."""

    stream: Stream
    keeps: Keeps
    waits: bool
    last: float
    records: list[msgspec.Raw] = field(default_factory=list)
    size: int = 0

    def take(self) -> Parcel:
        """Return what waits as one parcel."""
        parcel = Parcel(self.stream, self.records, self.size, self.waits, self.keeps)
        self.records, self.size = [], 0
        return parcel

    def empty(self) -> Parcel:
        """Return a parcel without records, which says that there are none."""
        return Parcel(self.stream, (), keeps=self.keeps)


@dataclass(slots=True)
class Use:
    """One configured use of an emitter, what was measured of it, and where its source is after its newest record."""

    name: str
    emitter: Emitter[Any]
    settings: Settings
    running: bool = False
    records: int = 0
    last_time: float | None = None
    restarts: int = 0
    last_error: str = ""
    meter: Meter = field(default_factory=Meter)
    moved: dict[str, msgspec.Raw | int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    size: int = 0  # of all positions together
    sources: Mapping[str, str] = field(default_factory=dict)

    def begin(self, positions: Mapping[str, Any]) -> None:
        """Start from these positions, with what can be used here by now."""
        self.sources = self.emitter.sources()
        self.sizes = {part: len(part) + len(_encode(place)) for part, place in positions.items()}
        self.size = sum(self.sizes.values())

    def move(self, part: str, place: Any) -> None:
        """Note a position. Raises TypeError or ValueError where it is no plain data, or they are too long together."""
        if type(place) is int and part in self.sizes:
            self.moved[part] = place
            return
        text = _encode(place)
        size = 0 if place is None else len(part) + len(text)
        self.size += size - self.sizes.pop(part, 0)
        if size:
            self.sizes[part] = size
        if self.size > _MOST_POSITIONS:
            raise ValueError(f"positions are longer than {_MOST_POSITIONS} bytes together: forget parts with None")
        self.moved[part] = msgspec.Raw(text)  # as it is now: the emitter may go on changing it

    def take_moved(self) -> Mapping[str, Any]:
        moved, self.moved = self.moved, {}
        return moved


def uses(emitters: Sequence[tuple[Emitter[Any], Settings]]) -> list[Use]:
    """Return the uses with names that tell several of one emitter apart: service, service/2."""
    used: dict[str, int] = {}
    found = []
    for emitter, settings in emitters:
        count = used[emitter.name] = used.get(emitter.name, 0) + 1
        found.append(Use(emitter.name if count == 1 else f"{emitter.name}/{count}", emitter, settings))
    return found
