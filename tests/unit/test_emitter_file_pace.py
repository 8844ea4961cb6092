"""Directories that take long to look at are looked at seldom."""

import asyncio

import pytest

from emitters.following.pace import Pace


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time passes only as it is told."""

    passed = 0.0

    def time(self) -> float:
        return self.passed


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.0), (0.25, 2.5), (600.0, 60.0)])
def test_ten_times_as_long_as_a_look_took_passes_until_the_next(took: float, pause: float) -> None:
    async def look() -> None:
        pace = Pace()
        assert pace.free
        with pace.looking():
            loop.passed += took
        assert pace.free == (not pause)
        loop.passed += pause
        assert pace.free

    loop = Loop()
    try:
        loop.run_until_complete(look())
    finally:
        loop.close()
