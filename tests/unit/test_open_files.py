"""How many files a process may open."""

import resource
from collections.abc import Iterator

import pytest

from exhaust.lifecycle.running import raise_open_files


@pytest.fixture
def hard() -> Iterator[int]:
    """The hard limit of this process; the soft one is a test's to change."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_low_limit_is_raised_as_far_as_it_may_be(hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    raise_open_files()
    expected = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (expected, hard)
