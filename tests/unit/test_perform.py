"""What an adapter is asked for, and what becomes of it when it fails, is late, or nothing may act."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from exhaust.errors import AdapterError
from exhaust.plugins import Adapter, Done, Settings, Task
from orchestrator.reach import Doing
from orchestrator.service import perform


class Nothing(Settings, frozen=True):
    """Nothing to set."""


TASK = Task("run", "t", "do", {}, None, "key", 0.0, 0.05)


async def late(settings: Nothing, task: Task) -> Any:
    await asyncio.Event().wait()


async def lost(settings: Nothing, task: Task) -> Any:
    raise AdapterError("nobody knows", known=False, output={"rc": None})


async def done(settings: Nothing, task: Task) -> Any:
    return "done"


async def asked(act: Any, folder: Path, *, mutates: bool) -> Done:
    adapter = Adapter("a", Nothing, {}, mutates, act)
    return await perform({"a": (adapter, Nothing())}, folder / "HALT", Doing("a", TASK))


@pytest.mark.parametrize("mutates", [True, False])
async def test_what_is_late_may_have_had_its_effect_where_it_has_any(tmp_path: Path, mutates: bool) -> None:
    told = await asked(late, tmp_path, mutates=mutates)
    assert (told.known, told.retry) == (not mutates, not mutates)


async def test_what_an_adapter_says_of_its_failure_is_kept(tmp_path: Path) -> None:
    told = await asked(lost, tmp_path, mutates=True)
    assert told == Done(output={"rc": None}, error="nobody knows", retry=False, known=False)


async def test_nothing_acts_while_the_file_is_there_and_people_are_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "HALT").touch()
    assert (await asked(done, tmp_path, mutates=True)).error == f"halted: {tmp_path / 'HALT'} exists"
    assert (await asked(done, tmp_path, mutates=False)).output == "done"
