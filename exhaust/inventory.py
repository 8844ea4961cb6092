"""The hosts of an installation, as the operator lists them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from exhaust.plugins import Settings

MOST_HOSTS = 10_000
# One word of a broker's key, a file's name and a pattern's literal alike.
HOST_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,252})$"
_RANGE = re.compile(r"\[(\d{1,9}):(\d{1,9})\]")


class Host(Settings, frozen=True, kw_only=True):
    """One host of the inventory, or several: `web-[01:12]`. Who is not in it is never acted upon."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    labels: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = 1
        for first, last in _RANGE.findall(self.name):
            names *= int(last) - int(first) + 1
            if int(last) < int(first):
                raise ValueError(f"[{first}:{last}] ends before it begins")
        if names > MOST_HOSTS:
            raise ValueError(f"{self.name!r} stands for {names} hosts, there can be {MOST_HOSTS}")


@dataclass(frozen=True)
class Inventory:
    """The hosts that are known, by name."""

    hosts: Mapping[str, Mapping[str, str]]

    def variable(self, name: str) -> dict[str, Any]:
        """Return a host as expressions see it; an unknown one too, which nobody will act upon."""
        labels = self.hosts.get(name)
        return {"name": name, "labels": labels or {}, "known": labels is not None}


def expand(name: str) -> Iterator[str]:
    """Yield the names that `web-[01:12]` stands for; a name without a range is itself."""
    found = _RANGE.search(name)
    if found is None:
        yield name
        return
    first, last = found[1], found[2]
    for number in range(int(first), int(last) + 1):
        yield from expand(f"{name[: found.start()]}{number:0{len(first)}d}{name[found.end() :]}")
