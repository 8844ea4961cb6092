"""Tells people: one line in the log and in a file that a person, or a mailer, can follow."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Literal

import msgspec

from exhaust.plugins import Adapter, Settings, Task
from exhaust.text import clean

log = logging.getLogger(__name__)

_MOST = 2000


class Notify(Settings, frozen=True, kw_only=True):
    """Where notices go: `log:` is the service's log and `notices.jsonl` in the installation's state directory."""

    url: Literal["log:"]
    state: str = ""


class Send(Settings, frozen=True, kw_only=True):
    """What a task says under `with`."""

    text: str


async def act(settings: Notify, task: Task) -> dict[str, str]:
    """Append the notice, safe on disk. A repeated one has the same key, by which a reader knows it."""
    text = clean(str(task.params["text"]), _MOST)
    log.warning("notice", extra={"text": text, "execution": task.execution})
    line = {"time": task.time, "text": text, "execution": task.execution, "key": task.key}
    await asyncio.to_thread(_append, Path(settings.state) / "notices.jsonl", msgspec.json.encode(line) + b"\n")
    return {"text": text}


def _append(path: Path, line: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, line)
        os.fdatasync(fd)
    finally:
        os.close(fd)


NOTIFY = Adapter("notify", Notify, actions={"send": Send}, mutates=False, act=act)
