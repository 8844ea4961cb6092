"""Writing, rotating, reading and dying in any order: what is read is what was written. And a kernel that refuses."""

import errno
import os
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.following.complaints import Complaints
from emitters.following.follower import Follower, Wanted
from emitters.following.inotify import Inotify
from emitters.following.watches import Watches
from tests.following import Reader, copytruncate, rotate, write

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "50"))

APPEND, ROTATE, MOVE, COPY, READ, LATER, KILL = "append", "rotate", "move", "copytruncate", "read", "later", "kill"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([APPEND, COPY]), st.integers(0, 400)),
        st.tuples(st.sampled_from([ROTATE, MOVE, LATER]), st.just(0)),
        st.tuples(st.just(READ), st.integers(0, 4)),
        st.tuples(st.just(KILL), st.floats(0, 1)),
    ),
    max_size=40,
)


class Writer:
    """Writes numbered lines in pieces that have nothing to do with where lines end; ends one before each rotation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self._owed = ""

    def append(self, size: int) -> None:
        while len(self._owed) < size:
            self.lines.append(f"line {len(self.lines)}{'.' * (len(self.lines) % 90)}")
            self._owed += self.lines[-1] + "\n"
        with self.path.open("a") as file:
            file.write(self._owed[:size])
        self._owed = self._owed[size:]

    def end(self) -> None:
        self.append(len(self._owed))


@pytest.mark.parametrize("notified", [False, True], ids=["polled", "notified"])
@given(STEPS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_each_line_comes_once_and_in_order_whatever_happens(notified: bool, steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="rot") as folder:
        log = Path(folder) / "app.log"
        log.touch()
        state = Path(folder) / "state" / "followed.json"
        reader, writer = Reader((str(log),), notified=notified, state=state).start(), Writer(log)
        with closing(reader.opened):
            for step, value in steps:
                if step == APPEND:
                    writer.append(value)
                elif step in (ROTATE, MOVE) and log.exists():
                    writer.end()
                    rotate(log, keep=90)
                    if step == ROTATE:
                        log.touch()
                elif step == COPY:  # a copy is known by what was read of the file: so something must have been
                    writer.append(1)
                    writer.end()
                    reader.rounds().store()
                    writer.append(value)
                    writer.end()
                    copytruncate(log, keep=90)
                elif step == READ:
                    reader.rounds(value)
                elif step == LATER:
                    reader.later()
                elif step == KILL:
                    reader.store(value).kill()
                    reader.start()
            writer.end()
            reader.rounds()
        assert reader.lines == writer.lines


@given(STEPS.map(lambda steps: [step for step in steps if step[0] != COPY]))
@settings(max_examples=EXAMPLES, deadline=None)
def test_each_line_comes_once_where_a_pattern_matches_the_rotated_files_too(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="rot") as folder:
        log = Path(folder) / "app.log"
        log.touch()
        state = Path(folder) / "state" / "followed.json"
        reader, writer = Reader((f"{folder}/app*",), state=state).start(), Writer(log)
        with closing(reader.opened):
            for step, value in steps:
                if step == APPEND:
                    writer.append(value)
                elif step in (ROTATE, MOVE) and log.exists():
                    writer.end()
                    rotate(log, keep=90)
                elif step == READ:
                    reader.rounds(value)
                elif step == LATER:
                    reader.later()
                elif step == KILL:
                    reader.store(value).kill()
                    reader.start()
            writer.end()
            reader.rounds()
        assert sorted(reader.lines) == sorted(writer.lines)


class Refused(Inotify):
    """A kernel that has no queues of notices left."""

    def __init__(self) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class Full(Inotify):
    """A kernel that has no watches left."""

    def watch(self, path: str, mask: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("kernel", "told"), [(Refused, "files are only polled"), (Full, "some files are only polled")])
def test_where_the_kernel_tells_nothing_more_files_are_polled(
    kernel: type[Inotify], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, complaints = tmp_path / "app.log", Complaints()
    wanted = Wanted((str(log),), "utf-8", 1024, 10, from_end=False, state=None)
    with ExitStack() as opened:
        watches = opened.enter_context(closing(Watches(complaints, wanted=True, inotify=kernel)))
        follower = opened.enter_context(closing(Follower(wanted, watches, complaints, {})))
        follower.start(1.0)
        for number in range(3):
            write(log, f"line {number}")
            assert not list(watches.take())
            assert not list(follower.beat(2.0))
            follower.scan(2.0)
            assert [one.fields["line"] for one in follower.round(2.0)] == [f"line {number}"]
    assert [record.message for record in caplog.records] == [told]
