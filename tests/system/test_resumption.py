"""After an outage of the broker the loop goes on within 10 s, however rarely everybody tries by then."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.node import Node
from tests.system.installation import Installation

RESUMES_WITHIN = 10.0
# By then each connection is tried anew as rarely as it ever is.
OUTAGE = 15.0


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as private:
        yield private


async def test_what_happens_when_the_broker_is_back_is_healed_within_10_seconds(tmp_path: Path, node: Node) -> None:
    async with Installation(tmp_path, node.url) as installation:
        await installation.until(installation.is_ready)
        node.kill()
        await asyncio.sleep(OUTAGE)
        await asyncio.to_thread(node.start)
        began = time.monotonic()
        death, _ = installation.kill_service()
        await installation.rest(death, RESUMES_WITHIN)
        print(f"healed {time.monotonic() - began:.2f} s after the broker accepted")


async def test_what_happened_while_the_broker_was_away_is_healed_within_10_seconds_of_its_return(
    tmp_path: Path, node: Node
) -> None:
    async with Installation(tmp_path, node.url) as installation:
        await installation.until(installation.is_ready)
        node.kill()
        death, _ = installation.kill_service()
        await asyncio.sleep(OUTAGE)
        assert len(installation.starts()) == 1, "nobody could hear of it"
        await asyncio.to_thread(node.start)
        await installation.rest(death, RESUMES_WITHIN)
