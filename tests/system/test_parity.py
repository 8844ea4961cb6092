"""Every field that the systems before us sent is here under a name of ours, in a record that is really emitted."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast, get_args

import psutil
import pytest
import yaml

from emitters.measures.filesystems import Asking
from emitters.performance import Performance, StreamName, emit
from emitters.registry import EMITTERS
from exhaust.clock import SystemClock
from exhaust.plugins import Record

WITHIN = 60.0
TABLE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs/reference/parity.yaml").read_text())
SYSTEMS: dict[str, dict[str, dict[str, str]]] = TABLE["systems"]


def ours(system: str) -> Iterator[str]:
    """Yield each name of ours that stands for something of a system."""
    for names in SYSTEMS[system]["fields"].values():
        yield from names.split()


def is_known(name: str) -> bool:
    emitter, stream, field = name.split(".")
    if emitter in TABLE["planned"]:
        return True
    return emitter in EMITTERS and field in EMITTERS[emitter].streams.get(stream, {})


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_name_of_ours_is_in_the_schema_of_its_emitter(system: str) -> None:
    assert [name for name in ours(system) if not is_known(name)] == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_nothing_is_both_there_and_not_and_what_is_not_has_a_reason(system: str) -> None:
    there, without = SYSTEMS[system]["fields"], SYSTEMS[system]["without"]
    assert not there.keys() & without.keys()
    assert all(len(reason) > 5 for reason in without.values())


def test_what_is_planned_is_not_there_yet_and_hosts_lack_only_what_there_is() -> None:
    assert not set(TABLE["planned"]) & set(EMITTERS)
    for name in TABLE["hosts_without"]:
        emitter, stream, *field = name.split(".")
        assert set(field) <= set(EMITTERS[emitter].streams[stream])


def fields_of(call: str) -> list[str]:
    """Return the fields of what a call of psutil returns; of what is named or listed, those of one of them."""
    found = getattr(psutil, call)()
    one = found if hasattr(found, "_fields") else next(iter(found.values() if isinstance(found, dict) else found), None)
    if isinstance(one, list):
        one = one[0]
    return [f"{call}.{name}" for name in one._fields] if one is not None else []


def test_every_field_of_the_15_calls_is_in_the_table() -> None:
    known = {**SYSTEMS["psutil"]["fields"], **SYSTEMS["psutil"]["without"]}
    calls = ["cpu_times", "virtual_memory", "swap_memory", "disk_partitions", "net_if_addrs", "net_if_stats", "users"]
    names = [name for call in calls for name in fields_of(call)]
    names += [f"disk_usage.{name}" for name in psutil.disk_usage("/")._fields]
    names += [f"disk_io_counters.{name}" for name in next(iter(psutil.disk_io_counters(perdisk=True).values()))._fields]
    names += [f"net_io_counters.{name}" for name in psutil.net_io_counters()._fields]
    names += ["cpu_percent", "cpu_count", "logical_cpu_count", "boot_time"]
    assert [name for name in names if name not in known] == []
    assert len({name.partition(".")[0] for name in known}) == 15
    assert len([name for name in known if name.startswith("process_iter.")]) == 30  # all that it knows of a process


async def emitted(folder: Path) -> dict[str, set[str]]:
    """Return the fields that `performance` really sends here, by stream, of a while in which the disk is used."""
    streams = cast("tuple[StreamName, ...]", get_args(StreamName))
    settings = Performance(every=0.5, streams=streams, folders=(str(folder),), most=10)
    records = cast("AsyncGenerator[Record]", emit(settings, SystemClock(), {}, asking=Asking(os.statvfs)))
    found: dict[str, set[str]] = {}
    looks = 0
    async with asyncio.timeout(WITHIN), aclosing(records):
        async for record in records:
            found.setdefault(record.stream, set()).update(record.fields)
            looks += record.stream == "system"
            if looks >= 4 and "folder" in found:
                return found
            _use_the_disk(folder, looks)
    raise AssertionError("an emitter does not end by itself")


def _use_the_disk(folder: Path, number: int) -> None:
    with (folder / str(number)).open("wb") as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


async def test_what_is_measured_is_really_emitted_on_this_host(tmp_path: Path) -> None:
    found = await emitted(tmp_path)
    wanted = {name for system in SYSTEMS for name in ours(system) if name.startswith("performance.")}
    missing = {name for name in wanted if name.split(".")[2] not in found.get(name.split(".")[1], set())}
    excused = {name for name in missing for excuse in TABLE["hosts_without"] if f"{name}.".startswith(f"{excuse}.")}
    for name in sorted(excused):
        print(f"not on this host: {name}")
    assert missing == excused
    assert len(wanted - missing) > 70
