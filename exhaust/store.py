"""The one durable place of a component: its state, what it has seen, and what it has yet to send.

SQLite in WAL mode with synchronous=FULL: a commit that returned survives the loss of power. What a message changes,
the mark that it was seen and what is sent because of it are one transaction. A component leads while it holds the
lock beside the file; each time it is taken the epoch rises by one.
"""

import contextlib
import fcntl
import math
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from exhaust.broker.interface import Publication
from exhaust.errors import LockedError, StoreError

# What each version added to the one before it.
_SCHEMA = (
    """
    CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE inbox (id TEXT PRIMARY KEY, received REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX inbox_received ON inbox (received);
    CREATE TABLE outbox (n INTEGER PRIMARY KEY AUTOINCREMENT, publication BLOB NOT NULL);
    CREATE TABLE epoch (n INTEGER NOT NULL);
    INSERT INTO epoch VALUES (0);
    """,
    """
    ALTER TABLE outbox ADD COLUMN subject TEXT;
    CREATE INDEX outbox_subject ON outbox (subject) WHERE subject IS NOT NULL;
    """,
)
_LOG_PAGES = 400
_REMEMBER = 24 * 3600.0
# Far more than may come twice: what a broker still waits to have acknowledged, and what has no confirm yet.
MOST_MARKS = 100_000

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Publication).decode


class Store:
    """Open with `with`. Every method raises StoreError where the disk or the file fails it.

    The write-ahead log is written back into the file whenever it is `log_pages` of 4 KiB long. Of the messages seen
    the newest `most_marks` of the last day are remembered.
    """

    def __init__(self, path: Path, *, log_pages: int = _LOG_PAGES, most_marks: int = MOST_MARKS) -> None:
        self._path = path
        self._log_pages = log_pages
        self._most_marks = most_marks
        self._marks = 0
        self.epoch = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = opened.enter_context(self._path.with_suffix(".lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
                opened.callback(self._db.close)
                self._prepare()
            except BlockingIOError as exc:
                raise LockedError(f"{self._path} is in use by another process: stop it, or wait for it to end") from exc
            except (OSError, sqlite3.Error) as exc:
                raise StoreError(f"{self._path} cannot be opened: {exc}") from exc
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(_SCHEMA):
            raise StoreError(f"{self._path} is of version {version}, this program knows {len(_SCHEMA)}")
        for number, step in enumerate(_SCHEMA[version:], version + 1):
            db.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT")
        self._make_room()
        self._marks = db.execute("SELECT count(*) FROM inbox").fetchone()[0]
        db.execute("UPDATE epoch SET n = n + 1")
        self.epoch = db.execute("SELECT n FROM epoch").fetchone()[0]

    def _make_room(self) -> None:
        """Give the write-ahead log its full length now: a commit that lengthens no file costs half as much."""
        db, pages = self._db, self._log_pages
        db.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        db.execute(f"PRAGMA journal_size_limit = {2 * 4096 * pages}")
        db.execute("CREATE TABLE room (filler BLOB)")
        db.execute("INSERT INTO room VALUES (zeroblob(?))", (4096 * (pages + pages // 4),))
        db.execute("DROP TABLE room")
        db.execute("PRAGMA wal_checkpoint(RESTART)")

    def rows(self, prefix: str = "", *, newest_first: bool = False) -> Iterator[tuple[str, bytes]]:
        """Yield the state under a prefix, in the order of the keys."""
        order = "DESC" if newest_first else "ASC"
        with self._told("read"):
            yield from self._db.execute(
                f"SELECT key, value FROM state WHERE key >= ? AND key < ? ORDER BY key {order}",  # noqa: S608  is ours
                (prefix, prefix + "\U0010ffff"),
            )

    def get(self, key: str) -> bytes | None:
        with self._told("read"):
            row = self._db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def seen(self, ids: Collection[str]) -> set[str]:
        """Return those of `ids` that a commit has marked as seen."""
        marks = ",".join("?" * len(ids))
        with self._told("read"):
            found = self._db.execute(f"SELECT id FROM inbox WHERE id IN ({marks})", tuple(ids))  # noqa: S608  only marks
            return {row[0] for row in found}

    def commit(
        self,
        *,
        seen: Mapping[str, float] | None = None,
        keep: Mapping[str, bytes | None] | None = None,
        send: Sequence[Publication] = (),
        sent: Sequence[int] = (),
    ) -> list[int]:
        """Do all of it or nothing, on disk before it returns. Return the outbox numbers of `send`.

        `seen` maps marks of messages to their time of receipt; a None under `keep` removes the key. What is sent about
        a subject takes the place of what was to be sent about it earlier.
        """
        with self._transaction() as db:
            numbers = [_post(db, publication) for publication in send]
            if seen:
                self._mark(db, seen)
            for key, value in (keep or {}).items():
                if value is None:
                    db.execute("DELETE FROM state WHERE key = ?", (key,))
                else:
                    db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))
            if sent:
                db.executemany("DELETE FROM outbox WHERE n = ?", ((n,) for n in sent))
        return [n for n in numbers if n is not None]

    def unsent(self, after: int, most: int) -> list[tuple[int, Publication]]:
        """Return the oldest publications with a number above `after`."""
        with self._told("read"):
            found = self._db.execute("SELECT n, publication FROM outbox WHERE n > ? ORDER BY n LIMIT ?", (after, most))
            return [(n, _decode(body)) for n, body in found]

    def backlog(self) -> int:
        """Return how many publications have no confirm yet."""
        with self._told("read"):
            return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def _mark(self, db: sqlite3.Connection, seen: Mapping[str, float]) -> None:
        """Mark messages as seen; for each of them up to two of the oldest marks go that are too many or too old."""
        added = db.executemany("INSERT OR IGNORE INTO inbox VALUES (?, ?)", seen.items()).rowcount
        before = math.inf if self._marks + added > self._most_marks else max(seen.values()) - _REMEMBER
        oldest = "SELECT id FROM inbox WHERE received < ? ORDER BY received LIMIT ?"
        gone = db.execute(f"DELETE FROM inbox WHERE id IN ({oldest})", (before, 2 * len(seen))).rowcount  # noqa: S608  is ours
        self._marks += added - gone

    @contextlib.contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """Tell a failure of the disk or the file in our words."""
        try:
            yield
        except sqlite3.Error as exc:
            raise StoreError(f"{self._path} cannot be {done}: {exc}") from exc

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all of it or nothing, whatever goes wrong."""
        db = self._db
        with self._told("written"):
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")


def _post(db: sqlite3.Connection, publication: Publication) -> int | None:
    if publication.subject is not None:
        db.execute("DELETE FROM outbox WHERE subject = ?", (publication.subject,))
    row = (_encode(publication), publication.subject)
    return db.execute("INSERT INTO outbox (publication, subject) VALUES (?, ?)", row).lastrowid
