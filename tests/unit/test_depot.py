"""What is too much to be held is there all the same: not yet on disk, on disk, and no longer."""

from exhaust.depot import Depot
from exhaust.worker import Keep
from tests.standing import Disk


def test_what_is_not_on_disk_yet_is_there() -> None:
    depot: Depot[int] = Depot("n/", int, Disk().rows)
    assert depot.put("a", 1) == Keep("n/a", 1)
    assert (depot.get("a"), depot.get("b")) == (1, None)


def test_what_was_forgotten_is_gone_though_it_is_on_disk_still() -> None:
    disk = Disk()
    depot: Depot[int] = Depot("n/", int, disk.rows)
    disk.write(depot.put("a", 1))
    depot.put("a", None)
    assert depot.get("a") is None


def test_what_was_kept_long_ago_is_read_from_disk() -> None:
    disk = Disk()
    depot: Depot[int] = Depot("n/", int, disk.rows)
    disk.write(depot.put("a", 1))
    disk.write(*[depot.put(f"b{number}", number) for number in range(5000)])
    disk.write(Keep("n/a", 2))
    assert depot.get("a") == 2


def test_a_name_that_another_begins_with_is_another() -> None:
    disk = Disk()
    disk.write(Keep("n/aa", 2), Keep("n/a/b", 3))
    depot: Depot[int] = Depot("n/", int, disk.rows)
    assert depot.get("a") is None
    assert list(depot.all()) == [("a/b", 3), ("aa", 2)]
