"""Commands that the kernel executes: put together from the audit's records, or looked up in /proc."""

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.cli import COMMAND
from emitters.commands.audited import MOST_BYTES, Events
from emitters.commands.before import Before
from emitters.commands.observed import execution
from emitters.kernel.audit import CWD, END, EXECVE, PATH, SYSCALL, Line, Status
from emitters.kernel.connector import EXEC, Event

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "300"))

OFF = Status(enabled=0, failure=1, pid=0, rate=0, backlog_limit=64, lost=0, backlog=0, features=0, patience=15000)

CALL = (
    b'arch=%b syscall=%d success=yes exit=%d items=2 ppid=5 pid=%d auid=%d uid=0 gid=0 tty=pts3 comm="ls" exe="/bin/ls"'
)


def lines(serial: int, *, pid: int = 7, code: int = 0, auid: int = 1000, argv: bytes = b'argc=1 a0="ls"') -> list[Line]:
    """The records of an execution, in their order."""
    texts = [
        (SYSCALL, CALL % (b"c000003e", 59, code, pid, auid)),
        (EXECVE, argv),
        (CWD, b'cwd="/srv/a b"'),
        (PATH, b'item=0 name="/etc/passwd" inode=1'),
        (PATH, b'item=1 name="/lib/ld.so"'),
        (END, b""),
    ]
    return [Line(kind, 1_700_000_000.5, serial, text) for kind, text in texts if argv or kind != EXECVE]


def added(events: Events, *given: Line, now: float = 0.0) -> list[dict[str, Any]]:
    return [found for line in given for found in events.add(line, now)]


def test_the_records_of_an_execution_are_put_together() -> None:
    argv = b'argc=4 a0="ls" a1=2D6C20C3A9 a2_len=6 a2[0]="abc" a2[1]="def" a3=""'
    (found,) = added(Events(), *lines(1, argv=argv))
    assert found == {
        "time": 1_700_000_000.5,
        "evidence": "audit",
        "pid": 7,
        "ppid": 5,
        "uid": 0,
        "gid": 0,
        "login_uid": 1000,
        "program": "/bin/ls",
        "cwd": "/srv/a b",
        "name": "ls",
        "tty": "pts/3",
        "argv": ["ls", "-l é", "abcdef", ""],
        "complete": True,
    }


def test_records_of_many_executions_come_mixed() -> None:
    events, order = Events(), random.Random(1)
    queues = [lines(serial, pid=serial) for serial in range(20)]
    found = []
    while queues:
        queue = order.choice(queues)
        found += added(events, queue.pop(0))
        queues = [one for one in queues if one]
    assert sorted(one["pid"] for one in found) == list(range(20))
    assert all(one["argv"] == ["ls"] and one["complete"] for one in found)


def test_what_could_not_be_executed_is_told_by_its_path() -> None:
    (found,) = added(Events(), *lines(1, code=-errno.EACCES, argv=b"", auid=0xFFFFFFFF))
    assert (found["error"], found["program"], found["complete"]) == ("EACCES", "/etc/passwd", True)
    assert not {"argv", "name", "login_uid"} & set(found)


def test_other_system_calls_and_rests_of_what_was_lost_are_no_executions() -> None:
    events = Events()
    other = Line(SYSCALL, 1.0, 1, CALL % (b"c000003e", 2, 0, 7, 0))
    assert added(events, other, *lines(1)[1:], *lines(2)[1:]) == []
    assert len(events) == 0


def test_executions_of_which_the_rest_is_lost_are_told_when_they_are_old() -> None:
    events = Events()
    assert added(events, *lines(1)[:2], *lines(2)[:1], now=100.0) == []
    assert list(events.aged(101.9)) == []
    found = list(events.aged(102.0))
    assert [(one["complete"], "argv" in one) for one in found] == [(False, True), (False, False)]
    assert len(events) == 0


def test_no_more_than_so_many_executions_and_arguments_are_kept() -> None:
    events = Events()
    pushed = added(events, *(lines(serial)[0] for serial in range(1500)))
    assert (len(events), len(pushed)) == (1000, 500)
    assert not any(one["complete"] for one in pushed)
    many = [Line(EXECVE, 1.0, 1499, b" ".join(b'a%d="%s"' % (at, b"x" * 900) for at in range(50))) for _ in range(20)]
    (found,) = added(events, *many, lines(1499)[-1])
    assert (found["complete"], found["cut"]) == (False, True)
    assert sum(map(len, found["argv"])) < MOST_BYTES


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([SYSCALL, EXECVE, CWD, PATH, END, 9]), st.integers(0, 3), st.binary(max_size=60))
    )
)
def test_whatever_the_audit_says_executions_are_plain_data(said: list[tuple[int, int, bytes]]) -> None:
    events = Events()
    for kind, serial, noise in said:
        text = (CALL % (b"c000003e", 59, 0, 7, 0) if kind == SYSCALL else b"a0=") + noise
        for found in events.add(Line(kind, 1.0, serial, text), 0.0):
            json.dumps(found).encode()
            assert set(found) - {"time"} <= set(COMMAND)


def test_a_process_that_is_there_is_told_whole_and_one_that_has_gone_by_its_pid() -> None:
    found = execution(Event(EXEC, os.getpid(), 12.5), 1000.0)
    argv = Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
    assert (found["time"], found["pid"], found["ppid"]) == (1012.5, os.getpid(), os.getppid())
    assert (found["cwd"], found["complete"]) == (str(Path.cwd()), True)
    assert [os.fsencode(word) for word in found["argv"]] == argv
    assert set(found) - {"time"} <= set(COMMAND)
    gone = execution(Event(EXEC, 2**22 + 1, 12.5), 1000.0)
    assert gone == {"time": 1012.5, "evidence": "connector", "pid": 2**22 + 1, "complete": False}


@pytest.mark.parametrize(
    ("before", "now", "due"),
    [
        (OFF, OFF._replace(enabled=1), [{"enabled": 0}, {"backlog": 64, "patience": 15000}]),
        (OFF._replace(enabled=1), OFF._replace(enabled=1), [{"backlog": 64, "patience": 15000}]),
        (OFF, OFF._replace(enabled=2), [{"backlog": 64, "patience": 15000}]),
        (OFF, OFF._replace(enabled=1, pid=9), []),
        (OFF._replace(pid=9), OFF._replace(enabled=1, pid=9), [{"enabled": 0}]),
        (OFF._replace(pid=9), OFF._replace(enabled=1), [{"enabled": 0}]),
    ],
    ids=["as ever", "it was on", "locked", "a daemon has come", "a daemon was there", "a daemon has gone"],
)
def test_audit_is_to_be_as_it_was_but_for_a_daemon_that_has_come(
    before: Status, now: Status, due: list[dict[str, int]]
) -> None:
    assert Before.of(before, []).due(now) == due
