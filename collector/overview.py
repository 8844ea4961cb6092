"""What an operator sees first: every component of this host, the ledger, what is open and what is running."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from collector.model import ReadModel
from exhaust.store import Store

ASK_WITHIN = 0.5
_MOST_RUNNING = 100
_OF_THE_PROCESS = ("state", "since", "pid", "rss", "restarts", "slowest_beat")
_SHOWN = ("id", "workflow", "host", "state", "started", "time", "deadline", "rule", "attempt")


async def overview(
    model: ReadModel, store: Store, state: Path, now: float, own: tuple[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what `/status` answers; `own` is this component's name and status, which no socket need tell."""
    return {
        "time": now,
        "halt": (state / "HALT").exists(),
        "components": await components(state / "run", own),
        "ledger": model.ledger.table(),
        "open_facts": len(model.shelves["fact"].under_way()),
        "running_executions": _running(model, store),
    }


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
    return dict(sorted(rows.items()))


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


def _running(model: ReadModel, store: Store) -> list[dict[str, Any]]:
    rows = (store.get(f"execution/{name}") for name in model.shelves["execution"].under_way()[:_MOST_RUNNING])
    items = (msgspec.json.decode(row) for row in rows if row is not None)
    return [{key: item.get(key) for key in _SHOWN} for item in items]
