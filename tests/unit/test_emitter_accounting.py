"""Process accounting: the decoding of its records, and its file followed through all that rotates it."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.accounting import PROCESS, Accounting
from emitters.exits.pacct import SIZE, UnusableError, decode, ended, expanded, tty_name
from emitters.exits.switch import Switch
from emitters.exits.trail import Place, Trail
from emitters.exits.usage import FIELDS
from emitters.exits.witnessed import look
from emitters.measures.users import Users
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.settings import INVALID, Context

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "300"))
NOBODY = Users(Path("/nonexistent"))
BEGAN = 1_700_000_000


def record(pid: int = 7, *, form: str = "<", began: int = BEGAN, elapsed: float = 250.0, version: int = 3) -> bytes:
    counts = (150, 0x2001, 0xFFFF, 3, 0, 60, 2, 0)
    head = (0x1A, version, 136 << 8 | 5, 9, 1000, 100, pid, 1, began, elapsed)
    return struct.pack(f"{form}BBHIIIIIIf8H16s", *head, *counts, b'a,b"\xff\0junk\0')


def test_every_field_is_decoded_in_either_order_of_bytes() -> None:
    time, fields = decode(record(), NOBODY, NOBODY)
    assert (time, fields) == (
        BEGAN + 2.0,
        {
            "command": 'a,b"\\xff',
            "pid": 7,
            "ppid": 1,
            "uid": 1000,
            "user": "1000",
            "gid": 100,
            "group": "100",
            "tty": "pts/5",
            "tty_number": 136 << 8 | 5,
            "began": BEGAN,
            "elapsed_seconds": 2.5,
            "user_seconds": 1.5,
            "system_seconds": 0.08,
            "exit": -9,
            "exit_code": 9,
            "forked": False,
            "superuser": True,
            "core_dumped": True,
            "killed": True,
            "flags": 0x1A,
            "memory_bytes": (0x1FFF << 21) << 10,
            "io_characters": 3,
            "io_blocks": 0,
            "minor_faults": 60,
            "major_faults": 2,
            "swaps": 0,
            "version": 3,
        },
    )
    assert decode(record(form=">", version=0x83), NOBODY, NOBODY) == (time, fields | {"version": 0x83})
    assert {"source", *fields, *FIELDS} == set(PROCESS)


@given(st.integers(0, 0xFFFF))
def test_a_comp_t_is_a_mantissa_and_a_power_of_eight(number: int) -> None:
    assert expanded(number) == (number % 8192) * 8 ** (number // 8192)


@pytest.mark.parametrize(
    ("major", "minor", "name"),
    [(4, 1, "tty1"), (4, 64, "ttyS0"), (137, 3, "pts/259"), (5, 1, "console"), (204, 64, "204:64")],
)
def test_terminals_have_the_kernels_names(major: int, minor: int, name: str) -> None:
    assert tty_name(major, minor) == name


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(
    st.binary(max_size=70) | st.builds(lambda at, text: (record()[:at] + text)[:SIZE], st.integers(0, 64), st.binary())
)
def test_whatever_the_bytes_are_they_are_a_record_or_unusable(data: bytes) -> None:
    try:
        time, fields = decode(data, NOBODY, NOBODY)
    except UnusableError:
        return
    json.dumps(fields, allow_nan=False)
    assert time == ended(data)
    assert set(fields) <= set(PROCESS)


class Rotated:
    """An accounting file as the kernel writes it and others move it, and what was read of it, by pid."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pacct"
        self.path.touch()
        self.written: list[int] = []
        self.read: list[int] = []
        self.place: Any = None
        self._moment = 0
        self._trail = Trail(self.path, None)
        self.look()

    def write(self, number: int = 3) -> None:
        for _ in range(number):
            self.written.append(len(self.written) + 1)
            with self.path.open("ab") as file:
                file.write(record(self.written[-1], began=BEGAN + self._moment // 5))
        self._touch()

    def rename(self) -> None:
        for number in range(9, 0, -1):
            with suppress(FileNotFoundError):
                self.path.with_name(f"pacct.{number}").rename(self.path.with_name(f"pacct.{number + 1}"))
        self.path.rename(self.path.with_name("pacct.1"))
        self.path.touch()
        self._touch()

    def truncate(self) -> None:
        """As logrotate's copytruncate does; the copy's name tells nothing of its place among the others."""
        shutil.copy2(self.path, self.path.with_name(f"pacct.copy{self._moment}"))
        os.truncate(self.path, 0)
        self._touch()

    def look(self) -> None:
        for _ in range(2):  # a file that was moved away is left only once it is quiet
            for data, place in self._trail.read():
                self.read.append(decode(data, NOBODY, NOBODY)[1]["pid"])
                self.place = json.loads(json.dumps(place))

    def restart(self) -> None:
        self._trail.close()
        self._trail = Trail(self.path, self.place)

    def settle(self) -> None:
        for _ in range(30):
            self.look()
        self._trail.close()

    def _touch(self) -> None:
        """Time goes on between what happens, also where the file system's does not."""
        self._moment += 1
        os.utime(self.path, (BEGAN + self._moment, BEGAN + self._moment))


def test_what_stood_there_before_the_first_look_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "pacct").write_bytes(record(1) + record(2) + b"half of o")
    trail = Trail(tmp_path / "pacct", None)
    assert list(trail.read()) == []
    with (tmp_path / "pacct").open("r+b") as file:
        file.seek(2 * SIZE)
        file.write(record(3) + record(4)[:10])
    assert [data for data, _ in trail.read()] == [record(3)]
    trail.close()


def test_a_file_that_comes_later_is_told_from_its_beginning(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "pacct", None)
    assert list(trail.read()) == []
    (tmp_path / "pacct").write_bytes(record(1))
    assert len(list(trail.read())) == 1
    trail.close()


def test_a_renamed_file_is_read_to_its_end_first(tmp_path: Path) -> None:
    file = Rotated(tmp_path)
    file.write()
    file.look()
    file.write()
    file.rename()
    file.write()
    file.settle()
    assert file.read == file.written


def test_three_rotations_while_nobody_looked_are_read_in_their_order(tmp_path: Path) -> None:
    file = Rotated(tmp_path)
    file.write()
    file.look()
    for _ in range(3):
        file.write()
        file.rename()
    file.write()
    file.restart()
    file.settle()
    assert file.read == file.written


def test_a_truncated_file_is_read_on_in_its_copy_also_where_it_has_grown_again(tmp_path: Path) -> None:
    file = Rotated(tmp_path)
    file.write(2)
    file.look()
    file.write(2)
    file.truncate()
    file.write(9)
    file.settle()
    assert file.read == file.written


@pytest.mark.parametrize("older", [False, True])
def test_a_backup_that_somebody_makes_is_not_read_again(older: bool, tmp_path: Path) -> None:
    file = Rotated(tmp_path)
    file.write()
    file.look()
    shutil.copy(file.path, tmp_path / "pacct.backup")  # of a later time than all others
    for _ in range(6 if older else 0):
        file.write()
        file.look()
    if older:
        file.rename()
        file.write()
        file.look()
        file.look()
    file.rename()
    file.write()
    file.settle()
    assert file.read == file.written


def test_a_file_that_took_anothers_inode_is_another(tmp_path: Path) -> None:
    file = Rotated(tmp_path)
    file.write(4)
    file.look()
    file.path.write_bytes(b"".join(record(100 + number) for number in range(9)))  # the same inode, other records
    file.restart()
    file.settle()
    assert file.read == [1, 2, 3, 4, *range(100, 109)]


@pytest.mark.parametrize("place", ["x", [1, 2], [1, -64, 3], [1, 7, 3], [1, 64.0, 3], None, [2**70, 0, 0]])
def test_a_place_that_cannot_be_is_none_or_leads_nowhere(place: Any, tmp_path: Path) -> None:
    (tmp_path / "pacct").write_bytes(record(1))
    trail = Trail(tmp_path / "pacct", place)
    assert len(list(trail.read())) in (0, 1)
    trail.close()


ACTS: dict[str, Callable[[Rotated], None]] = {
    "write": Rotated.write,
    "look": Rotated.look,
    "rename": Rotated.rename,
    "truncate": Rotated.truncate,
    "restart": Rotated.restart,
}


@settings(max_examples=min(EXAMPLES, 2000) // 2, deadline=None, database=None)
@given(st.lists(st.sampled_from(sorted(ACTS)), max_size=14))
def test_whatever_happens_to_the_file_all_is_read_once_and_in_order(acts: list[str]) -> None:
    folder = Path(f"/tmp/xh-trail-{os.getpid()}")
    folder.mkdir()
    try:
        file = Rotated(folder)
        file.write(2)
        file.look()
        for act in acts:
            ACTS[act](file)
        file.write(1)
        file.settle()
        assert file.read == file.written
    finally:
        shutil.rmtree(folder)


def test_accounting_that_we_turned_on_is_turned_off_once(tmp_path: Path) -> None:
    told: list[Path | None] = []
    path = tmp_path / "pacct"
    switch = Switch(path, told.append)
    switch.turn_on([])
    assert (told, path.stat().st_mode & 0o777, (tmp_path / "pacct.on").exists()) == ([path], 0o600, True)
    switch.turn_off()
    switch.turn_off()
    assert told == [path, None]
    assert [one.name for one in tmp_path.iterdir()] == ["pacct"]


def test_what_is_not_written_is_not_turned_off_for_a_former_one_of_us(tmp_path: Path) -> None:
    told: list[Path | None] = []
    path = tmp_path / "pacct"
    Switch(path, told.append).turn_on([])
    Switch(path, told.append).turn_off_former()
    assert (told, (tmp_path / "pacct.on").exists()) == ([path], True)


def test_a_file_of_our_own_is_put_away_once_it_is_large_and_safe(tmp_path: Path) -> None:
    told: list[Path | None] = []
    path = tmp_path / "pacct"
    switch = Switch(path, told.append)
    switch.turn_on([])
    inode = path.stat().st_ino
    switch.put_away(inode)
    os.truncate(path, 64 << 20)
    switch.put_away(inode + 1)
    assert told == [path]
    switch.put_away(inode)
    assert (told, path.stat().st_size, (tmp_path / "pacct.1").stat().st_ino) == ([path, path], 0, inode)


def test_a_process_is_looked_up() -> None:
    seen = look(os.getpid())
    assert seen is not None
    assert (seen.ppid, seen.uid, seen.gid) == (os.getppid(), os.getuid(), os.getgid())
    assert look(2**22 + 1) is None


def test_a_place_is_plain_data() -> None:
    place = Place(5, 128, 99)
    assert Place.of(json.loads(json.dumps(place))) == place


def test_settings_are_taken_and_a_path_has_to_be_whole() -> None:
    for text, faults in (("{every: 5s, file: /a/b, turn_on: true}", 0), ("file: pacct", 1), ("every: 1ms", 1)):
        document, found = compose(text.encode(), "s.yaml")
        assert document is not None
        bound = bind(document, Accounting, "", found, Context())
        assert (len(found), bound is INVALID) == (faults, bool(faults))
