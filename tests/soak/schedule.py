"""Which faults come when, how long, and with what: a function of a seed and a round's number, and of nothing else."""

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from exhaust.lifecycle.running import COMPONENTS

HOUR, DAY = 3600.0, 86_400.0
# Of every round; a full disk comes in every other one. Twenty rounds make the goals.
QUOTA: Mapping[str, int] = {
    "broker-kill": 2,
    "broker-stop": 1,
    "disk-alarm": 1,
    "cut": 1,
    "half-open": 1,
    "slow": 1,
    "reset": 1,
    "replay": 1,
    "clock-jump": 1,
}
KILLS = 2
KILLED = {f"kill-{name}": name for name in COMPONENTS}
GOALS: Mapping[str, int] = {
    **{kind: 20 * number for kind, number in QUOTA.items()},
    "full-disk": 10,
    **dict.fromkeys(KILLED, 20 * KILLS),
}
# Of the broker and of the way to it: after these the promise to be back counts from when it accepts again.
BROKER = frozenset(("broker-kill", "broker-stop", "disk-alarm", "cut", "half-open", "slow", "reset"))
_MOST_AT_ONCE = 3
_ALSO_KILLED = 0.4
_DIES_FIRST = 0.5
_ON_THE_WAY = 0.06  # the loop's way from death to verdict takes some 30 to 50 ms
_WHILE_HEALING = 2.0


@dataclass(frozen=True)
class Step:
    """One fault.

    It lasts `seconds`; `dies` says whether the service is killed as it begins. Components called `names` are killed
    `after` seconds: of that in a step that kills, else of when it begins to be healed. `how` is the fault's own.
    """

    kind: str
    seconds: float = 0.0
    dies: bool = False
    names: tuple[str, ...] = ()
    after: float = 0.0
    how: Mapping[str, float] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it counts as."""
        own = () if self.kind == "kill" else (self.kind,)
        return (*own, *(f"kill-{name}" for name in self.names))

    def __str__(self) -> str:
        names = " ".join(self.names)
        if self.kind == "kill":
            return f"kill {names}"
        lasts = f" {self.seconds:.1f} s" if self.seconds else ""
        how = "".join(f", {name} {value:g}" for name, value in self.how.items())
        return f"{self.kind}{lasts}{how}" + (f", kill {names} while healing" if names else "")


def steps(seed: int, number: int, wanted: Collection[str] = frozenset(GOALS)) -> list[Step]:
    """Return the faults of a round: those that count as something wanted."""
    chance = random.Random(f"{seed} {number}")
    kinds = [kind for kind, times in QUOTA.items() for _ in range(times)] + ["full-disk"] * (number % 2)
    found = [_step(kind, chance) for kind in kinds] + list(_kills(chance))
    chance.shuffle(found)
    return [step for step in found if not set(wanted).isdisjoint(step.kinds)]


def _kills(chance: random.Random) -> Iterator[Step]:
    """Kill each as often as due, one to three at once."""
    for _ in range(KILLS):
        names = chance.sample(COMPONENTS, len(COMPONENTS))
        while names:
            several = tuple(names[: chance.randint(1, _MOST_AT_ONCE)])
            names = names[len(several) :]
            dies = chance.random() < _DIES_FIRST
            yield Step("kill", dies=dies, names=several, after=chance.uniform(0.0, _ON_THE_WAY))


def _step(kind: str, chance: random.Random) -> Step:
    names = (chance.choice(COMPONENTS),) if kind in BROKER and chance.random() < _ALSO_KILLED else ()
    dies, after = chance.random() < _DIES_FIRST, chance.uniform(0.0, _WHILE_HEALING)
    how: dict[str, float] = {}
    match kind:
        case "slow":
            how = {"latency": round(chance.uniform(0.05, 0.5), 3), "piece": chance.choice((1, 7, 64, 1400))}
        case "half-open":
            how = {"forget": chance.randint(0, 1)}
        case "clock-jump":
            how = {"jump": chance.choice((-DAY, -HOUR, HOUR, DAY))}
    return Step(kind, _lasts(kind, chance), dies, names, after, how)


def _lasts(kind: str, chance: random.Random) -> float:
    """Return how long a fault lasts before it is healed; booting the broker and the like comes on top."""
    shortest, longest = {
        "broker-kill": (0.0, 3.0),
        "broker-stop": (1.0, 15.0),
        "disk-alarm": (2.0, 8.0),
        "cut": (0.5, 6.0),
        "half-open": (3.0, 15.0),
        "slow": (3.0, 8.0),
        "replay": (3.0, 6.0),
        "full-disk": (6.0, 10.0),
        "clock-jump": (1.0, 2.0),
    }.get(kind, (0.0, 0.0))
    return round(chance.uniform(shortest, longest), 1)
