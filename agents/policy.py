"""This host's own policy: which actions may be done here at all, within which limits."""

import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exhaust.documents.binding import bind
from exhaust.documents.document import LARGEST_FILE, compose
from exhaust.documents.nodes import Fault, child
from exhaust.plugins import Action, Limits
from exhaust.settings import INVALID, Context

log = logging.getLogger(__name__)

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Policy:
    """The limits of each action that is allowed. Where `fault` says why it cannot be used, nothing is allowed."""

    limits: Mapping[str, Limits]
    fault: str = ""


def untrusted(found: os.stat_result) -> str | None:
    """Say why a file cannot be relied on here: whoever may write it could make us do anything. None if it can."""
    if found.st_uid not in (0, os.getuid()):
        return f"belongs to uid {found.st_uid}: chown it to root"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others: chmod go-w it"
    return None


def parse(text: bytes, file: str, actions: Mapping[str, Action[Any]]) -> tuple[dict[str, Limits], list[Fault]]:
    """Return the limits by action, and what is wrong with the file."""
    root, faults = compose(text, file)
    limits: dict[str, Limits] = {}
    context = Context()
    if root is None:
        return limits, faults
    for name, entry in root.entries.items():
        action = actions.get(name)
        if action is None:
            at, known = entry.key.at, ", ".join(sorted(actions))
            faults.append(Fault(at.file, at.line, at.column, f"unknown action {name!r}; known are {known}"))
            continue
        bound = bind(entry.value, action.limits, child("", name), faults, context)
        if bound is not INVALID:
            limits[name] = bound
    return limits, [fault for fault in faults if fault.severity == "error"]


def frequency(rate: str) -> tuple[int, float]:
    """Return how many starts are allowed in how many seconds: `10/m` is (10, 60.0)."""
    most, _, unit = rate.partition("/")
    return int(most), _SECONDS[unit]


def check(path: Path, actions: Mapping[str, Action[Any]]) -> list[Fault]:
    """Return what is wrong with a policy file."""
    try:
        with path.open("rb") as stream:
            why, text = untrusted(os.fstat(stream.fileno())), stream.read(LARGEST_FILE + 1)
    except OSError as exc:
        return [Fault(str(path), 1, 1, f"cannot be read: {exc.strerror}")]
    return [Fault(str(path), 1, 1, why)] if why else parse(text, str(path), actions)[1]


class PolicyFile:
    """The policy as the file says it now: read again whenever the file changes."""

    def __init__(self, path: Path | None, actions: Mapping[str, Action[Any]]) -> None:
        self._path = path
        self._actions = actions
        self._version: tuple[int, ...] = ()
        self._policy = Policy({}, "no host_policy is configured, so nothing may be done on this host")

    def current(self) -> Policy:
        if self._path is None:
            return self._policy
        try:
            found = self._path.stat()
            version = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            if version != self._version:
                self._policy = self._read(self._path)
                self._version = version
                if self._policy.fault:
                    log.warning("unusable host policy: nothing is done", extra={"fault": self._policy.fault})
        except OSError as exc:
            self._version = ()
            self._policy = Policy({}, f"{self._path}: cannot be read: {exc.strerror}")
        return self._policy

    def _read(self, path: Path) -> Policy:
        with path.open("rb") as stream:
            # Asked of the open file, so that it is the one that is read.
            if why := untrusted(os.fstat(stream.fileno())):
                return Policy({}, f"{path}: {why}")
            text = stream.read(LARGEST_FILE + 1)
        limits, faults = parse(text, str(path), self._actions)
        return Policy({}, "\n".join(map(str, faults))) if faults else Policy(limits)

    def status(self) -> dict[str, Any]:
        """Return what an operator wants to know of it."""
        policy = self.current()
        return {
            "file": str(self._path) if self._path else None,
            "state": "faulty" if policy.fault else "in force",
            "fault": policy.fault,
            "actions": sorted(policy.limits),
        }
