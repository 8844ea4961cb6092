"""The action process.signal: what its parameters and a host's policy let through, and whom nothing lets through."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.params import ParamsError, parse
from agents.policy import parse as parse_policy
from agents.process import Signal, _untouchable
from agents.registry import ACTIONS
from exhaust.processes import Identity, Process, heeds, identify

TARGET = {"process": "4711@12345", "signal": "TERM"}


def limits(text: str) -> Any:
    found, faults = parse_policy(f"process.signal: {text}\n".encode(), "policy.yaml", ACTIONS)
    assert faults == []
    return found["process.signal"]


def test_a_process_is_a_pid_and_a_start_time() -> None:
    params = parse(TARGET | {"kill_after": "10s"}, Signal)
    assert (params.target, params.kill_after) == (Process(4711, 12345), 10.0)


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"process": "4711"}, "text that matches"),
        ({"process": "0@1"}, "text that matches"),
        ({"process": "-1@1"}, "begins with '-'"),
        ({"process": "4711@x"}, "text that matches"),
        ({"process": 4711}, "expected text"),
        ({"signal": "SEGV"}, "expected"),
        ({"signal": "9"}, "expected"),
        ({"signal": "STOP", "kill_after": "1s"}, "'kill_after' follows a signal that asks a process to end, not STOP"),
        ({"signal": "KILL", "kill_after": "1s"}, "'kill_after' follows a signal that asks a process to end, not KILL"),
    ],
)
def test_what_is_no_process_or_no_signal_is_refused(params: dict[str, Any], what: str) -> None:
    with pytest.raises(ParamsError, match=what):
        parse(TARGET | params, Signal)


@pytest.mark.parametrize(
    ("policy", "params", "parameter"),
    [
        ("{}", {"signal": "TERM"}, None),
        ("{}", {"signal": "HUP"}, None),
        ("{}", {"signal": "KILL"}, "signal"),
        ("{}", {"signal": "STOP"}, "signal"),
        ("{}", {"signal": "TERM", "kill_after": 1.0}, "kill_after"),
        ("{signal: [TERM, KILL]}", {"signal": "TERM", "kill_after": 1.0}, None),
        ("{signal: [TERM, KILL]}", {"signal": "HUP"}, "signal"),
    ],
)
def test_only_listed_signals_are_allowed_and_killing_is_one_of_them(
    policy: str, params: dict[str, Any], parameter: str | None
) -> None:
    assert limits(policy).forbids(Signal(process="4711@12345", **params)) == parameter


@pytest.mark.parametrize(
    ("policy", "users", "excluded"),
    [
        ("{}", {"www-data"}, set()),
        ("{}", {"root"}, {"root"}),
        ("{}", {"ann", "root"}, {"root"}),
        ("{user: [root]}", {"root"}, set()),
        ("{user: [ann]}", {"root", "ann"}, {"root"}),
        ("{user: [ann]}", {"bob"}, {"bob"}),
        ("{user: []}", {"ann"}, {"ann"}),
    ],
)
def test_whose_processes_may_be_signalled_is_anybodys_but_roots_unless_listed(
    policy: str, users: set[str], excluded: set[str]
) -> None:
    assert limits(policy).excluded(users) == excluded


@pytest.mark.parametrize(
    ("pid", "kernel", "argv", "why"),
    [
        (1, False, ("/sbin/init",), "the first process of this host"),
        (99, True, (), "a thread of the kernel"),
        (os.getpid(), False, (), "one that Exhaust itself needs"),
        (os.getppid(), False, (), "one that Exhaust itself needs"),
        (2**22, False, ("python", "-m", "exhaust.main", "run", "agent"), "one that Exhaust itself needs"),
        (2**22, False, ("/usr/bin/python3", "/usr/local/bin/exhaust", "up"), "one that Exhaust itself needs"),
        (2**22, False, ("python", "-P", "-m", "adapters.ansible_run", "/x"), "one that Exhaust itself needs"),
        (2**22, False, ("/usr/bin/python3", "/srv/shop.py", "exhaust"), None),
        (2**22, False, (), None),
    ],
    ids=["init", "kernel", "own", "parent", "ours", "installed", "ansible", "other", "unnamed"],
)
def test_some_processes_no_policy_can_allow_to_be_signalled(
    pid: int, kernel: bool, argv: tuple[str, ...], why: str | None
) -> None:
    assert _untouchable(pid, Identity("x", 0, kernel, frozenset({1000}), argv)) == why


def test_who_a_process_is_is_read_from_the_kernel() -> None:
    found = identify(os.getpid())
    assert found is not None
    assert (found.parent, found.kernel) == (os.getppid(), False)
    assert found.users == {os.getuid(), os.geteuid()}
    assert found.argv[1:] == tuple(sys.orig_argv[1:])
    assert identify(2**22) is None


HEEDING = """
import os, signal
from exhaust.processes import heeds
one, own = signal.SIGUSR2, os.getpid()
assert not heeds(own, one)
signal.signal(one, signal.SIG_IGN)
assert not heeds(own, one)
signal.signal(one, lambda *_: None)
assert heeds(own, one)
signal.signal(one, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [one])
assert heeds(own, one)
"""


def test_a_signal_is_heeded_by_who_catches_or_reads_it() -> None:
    subprocess.run([sys.executable, "-c", HEEDING], cwd=Path(__file__).parents[2], check=True)
    assert not heeds(2**22, signal.SIGUSR2)
