"""What ansible tells while it runs, kept short: its last events, what the recap counts, and why it failed."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_MOST = 65_536
_MOST_OF_ONE = 16_384
_LONGEST = 4096
_KEPT = ("ok", "failed", "unreachable", "skipped")
_STATS = ("ok", "changed", "failures", "dark", "skipped", "rescued", "ignored")


class Tail:
    """Takes events as they come, in one thread, and may be read in another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[bytes] = deque()
        self._size = 0
        self._said: deque[str] = deque(maxlen=5)
        self._failure = ""
        self.stats: dict[str, dict[str, int]] = {}

    def add(self, event: Mapping[str, Any]) -> bool:
        """Take an event; False: nobody else need keep it."""
        name, data = str(event.get("event")), event.get("event_data") or {}
        if name == "playbook_on_stats":
            self.stats = {kind: dict(data.get(kind) or {}) for kind in _STATS}
        elif name.startswith("runner_") and name.endswith(_KEPT):
            self._result(name, event, data)
        elif name in ("verbose", "error", "warning") and (text := str(event.get("stdout", "")).strip()):
            self._said.append(text)
            self._keep({"event": name, "text": text[:_LONGEST]})
        return False

    def _result(self, name: str, event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        result = _fit(data.get("res") or {})
        host, task = data.get("host"), data.get("task")
        if name.endswith(("failed", "unreachable")) and not data.get("ignore_errors"):
            message = result.get("msg") or result.get("censored") or "no message"
            self._failure = f"'{task}' on {host}: {message}"
        shown = {"event": name, "time": _seconds(event.get("created")), "host": host, "task": task}
        self._keep({**shown, "result": result})

    def _keep(self, shown: Mapping[str, Any]) -> None:
        body = encoded(shown)
        if len(body) > _MOST_OF_ONE:
            body = encoded({**shown, "result": {"msg": str(shown["result"].get("msg", ""))[:_LONGEST], "cut": True}})
        with self._lock:
            self._events.append(body)
            self._size += len(body) + 1
            while self._size > _MOST:
                self._size -= len(self._events.popleft()) + 1

    @property
    def events(self) -> list[dict[str, Any]]:
        """The last of them, 64 KiB at most."""
        with self._lock:
            return [json.loads(body) for body in self._events]

    @property
    def reason(self) -> str:
        """Why it failed: the last failure of a task, or else what ansible said last."""
        return self._failure or " ".join(self._said)


def _fit(result: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a task was called with, which may hold what nobody is to read, and cut what is long."""
    return {
        key: value[:_LONGEST] if isinstance(value, str) else value
        for key, value in result.items()
        if not key.startswith("_ansible") and key not in ("invocation", "exception")
    }


def _seconds(moment: Any) -> float | None:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (TypeError, ValueError):
        return None


def encoded(data: Any) -> bytes:
    """Return JSON that every reader takes: no NaN, and text that is UTF-8."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        text = json.dumps(json.loads(json.dumps(data, default=str), parse_constant=str), ensure_ascii=False)
    return text.encode(errors="replace")
