"""What an operator sees first: every component of this host, the ledger, what is open and what is running."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from collector.model import ReadModel
from exhaust.messages import Order
from exhaust.store import Store

ASK_WITHIN = 0.5
SUPERVISOR = "supervisor"
_MOST_RUNNING = 100
_NOT_WELL = ("waiting", "crashing", "hung")
_MOST_FACTS = 10
_OF_THE_PROCESS = ("state", "since", "pid", "rss", "restarts", "slowest_beat", "checks", "broker", "reload")
_FACT = ("id", "name", "host", "labels", "severity", "since", "summary")
_SHOWN = ("id", "workflow", "host", "state", "started", "time", "deadline", "rule", "attempt")


async def overview(
    model: ReadModel, store: Store, state: Path, now: float, own: tuple[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what `/status` answers; `own` is this component's name and status, which no socket need tell."""
    halts = [*_by_file(state / "HALT"), *map(_halt, model.halts)]
    return {
        "time": now,
        "halt": any(halt["target"] is None for halt in halts),
        "halts": halts,
        "components": await components(state / "run", own),
        "ledger": model.telemetry.table(now),
        "dead_letters": len(model.letters),
        "open_facts": len(model.shelves["fact"].under_way()),
        "worst_facts": [_part(item, _FACT) for item in _items(store, "fact", model.worst(_MOST_FACTS))],
        "running_executions": [
            _part(item, _SHOWN)
            for item in _items(store, "execution", model.shelves["execution"].under_way()[:_MOST_RUNNING])
        ],
    }


def _by_file(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the halt that the file stands for while it exists."""
    with contextlib.suppress(FileNotFoundError):
        yield {"target": None, "by": str(path), "reason": "'rm' it to resume", "since": path.stat().st_mtime}


def _halt(order: Order) -> dict[str, Any]:
    return {"target": order.target, "by": order.by, "reason": order.reason, "since": order.time}


async def components(sockets: Path, own: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Ask every process at once what its services do; who does not answer is shown as such."""
    paths = _found(sockets)
    answers = await asyncio.gather(*(_ask(path) for path in paths))
    rows: dict[str, Any] = {}
    # What a process told of a component stands before that another one, left behind or hung, did not answer.
    told = sorted(zip(paths, answers, strict=True), key=lambda pair: "pid" not in pair[1])
    for path, answer in told:
        for name, row in _rows(path.stem, answer).items():
            rows.setdefault(name, row)
    name, status = own
    if "pid" not in rows.get(name, {}):
        rows[name] = {"state": "ready", **status}
    for child, kept in rows.get(SUPERVISOR, {}).pop("children", {}).items():
        _add_kept(rows, child, kept)
    return dict(sorted(rows.items()))


def _add_kept(rows: dict[str, Any], child: str, kept: Mapping[str, Any]) -> None:
    """Add what the supervisor knows of a child that does not speak for itself, or that keeps ending."""
    row = rows.get(child, {})
    if kept["state"] in _NOT_WELL:
        rows[child] = {**row, **kept}
    elif all(other.get("pid") != kept["pid"] for other in rows.values()):
        rows[child] = {**kept, **row}


def _found(sockets: Path) -> list[Path]:
    return sorted(sockets.glob("*.sock"))


def _rows(process: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for each service of a process, or one for the process where it has none to tell of."""
    shared = {key: answer[key] for key in _OF_THE_PROCESS if key in answer}
    services = answer.get("services")
    if not isinstance(services, dict) or not services:
        return {process: dict(answer)}
    if shared.get("state") == "ready":
        # A service may say more of itself, such as that it stands by; what its process lacks matters first.
        del shared["state"]
        return {name: {"state": "ready", **shared, **status} for name, status in services.items()}
    return {name: {**status, **shared} for name, status in services.items()}


async def _ask(path: Path) -> dict[str, Any]:
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(total=ASK_WITHIN)
            ) as session,
            session.get("http://local/status") as answer,
        ):
            return msgspec.json.decode(await answer.read(), type=dict[str, Any])
    except TimeoutError:
        return {"state": "hung", "last_error": f"no answer within {ASK_WITHIN:g} s"}
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as exc:
        return {"state": "down", "last_error": f"{path.name}: {exc}"}


def _items(store: Store, kind: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    rows = (store.get(f"{kind}/{name}") for name in names)
    return (msgspec.json.decode(row) for row in rows if row is not None)


def _part(item: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    return {field: item.get(field) for field in fields}
