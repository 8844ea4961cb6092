"""Plug-ins of third parties: a good one is taken, a bad one says why it is not, and costs the others nothing."""

from importlib.metadata import EntryPoint

import pytest

from emitters.registry import EMITTERS
from exhaust.extensions import extensions
from exhaust.plugins import Emitter, Settings


class Nothing(Settings, frozen=True):
    """Nothing to set."""


EMITTER = Emitter("mine", Nothing, lambda settings, clock, positions: None, streams={})  # type: ignore[arg-type,return-value]
NEITHER = "a text"


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "exhaust.emitters")


def test_a_good_one_is_taken() -> None:
    found = extensions("emitters", EMITTERS, [point("mine", f"{__name__}:EMITTER")])
    assert (found.plugins, found.broken) == ({"mine": EMITTER}, {})


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("service", f"{__name__}:EMITTER", "the name 'service' is taken"),
        ("other", f"{__name__}:EMITTER", "calls itself 'mine'"),
        ("mine", f"{__name__}:NEITHER", "is no Emitter, but of type str"),
        ("mine", f"{__name__}:MISSING", "cannot be loaded: AttributeError"),
        ("mine", "no_such_module:EMITTER", "cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_bad_one_says_why_and_leaves_the_others_alone(name: str, value: str, why: str) -> None:
    found = extensions("emitters", EMITTERS, [point(name, value), point("zeta", value)])
    assert why in found.broken[name]
    assert name not in found.plugins


def test_of_two_with_one_name_the_first_is_taken() -> None:
    twice = [point("mine", f"{__name__}:EMITTER"), point("mine", f"{__name__}:NEITHER")]
    found = extensions("emitters", EMITTERS, twice)
    assert found.plugins == {"mine": EMITTER}
    assert "taken" in found.broken["mine"]


def test_all_that_is_installed_here_can_be_used() -> None:
    for kind in ("emitters", "analyzers", "adapters", "actions"):
        assert extensions(kind, ()).broken == {}
