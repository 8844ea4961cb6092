"""What closed within the hour is known, through restarts too, and then forgotten."""

import msgspec
import pytest

from exhaust.messages import Fact
from orchestrator.closings import Closings
from tests.harness import NOW
from tests.standing import Disk, fact


def closed(episode: str, time: float) -> Fact:
    return msgspec.structs.replace(fact(), episode=episode, time=time, state="closed", reason="cleared")


@pytest.mark.parametrize("again", [False, True])
def test_a_closing_is_known_whole_for_an_hour(again: bool) -> None:
    disk = Disk()
    closings = Closings(disk.rows)
    disk.write(closings.put(closed("a", NOW)), closings.put(closed("b", NOW + 1)))
    closings = Closings(disk.rows) if again else closings
    assert closings.get("a") == closed("a", NOW)
    assert list(closings.forget(NOW + 3600)) == []
    disk.write(*closings.forget(NOW + 3600.5))
    assert (closings.get("a"), closings.get("b")) == (None, closed("b", NOW + 1))
    assert list(disk.kept) == ["closed/b"]


def test_of_two_closings_of_an_episode_the_last_counts() -> None:
    disk = Disk()
    closings = Closings(disk.rows)
    disk.write(closings.put(closed("a", NOW)), closings.put(closed("a", NOW + 10)))
    disk.write(*closings.forget(NOW + 3601))
    assert closings.get("a") == closed("a", NOW + 10)
    disk.write(*closings.forget(NOW + 3611))
    assert (closings.get("a"), disk.kept) == (None, {})
