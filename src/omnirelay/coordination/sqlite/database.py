"""The store's transactions on one SQLite connection. Blocking; used by one thread only.

Each public method is one SQLite transaction, so that a process that dies at any point leaves all of it or nothing.
Leases that are due end inside the next write transaction, whoever's it is, as a revision of their own before it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby, takewhile
from operator import itemgetter
from pathlib import Path

from omnirelay.coordination.sqlite.sql import SCHEMA, SQL
from omnirelay.coordination.watch import Page
from omnirelay.errors import CoordinationUnavailable
from omnirelay.ports.coordination import Change, Compare, Delete, Entry, Outcome, Put, Snapshot, WatchCompacted, Write

_APPLICATION_ID = 0x4F52434F
"""Marks the file as ours ("ORCO"), in the header field that SQLite keeps for this."""
_FORMAT = 1
_PAGE_BYTES = 1 << 20
"""A page of changes ends with the revision that passes this."""
_LOCK_STEP_SECONDS = 0.001


class Database:
    def __init__(
        self, path: Path, *, boottime: Callable[[], float], boot_id: str, keep_revisions: int, busy_seconds: float
    ) -> None:
        self._path = path
        self._boottime = boottime
        self._boot_id = boot_id
        self._keep_revisions = keep_revisions
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    # --- reading ----------------------------------------------------------------------------------------------

    def get(self, key: str) -> Entry | None:
        with self._transaction("BEGIN") as db:
            row = db.execute(SQL["entry"], (key,)).fetchone()
        return Entry(*row) if row else None

    def list(self, prefix: str) -> Snapshot:
        with self._transaction("BEGIN") as db, closing(db.execute(SQL["entries_from"], (prefix,))) as rows:
            revision, _, _ = _state(db)
            entries = tuple(takewhile(lambda entry: entry.key.startswith(prefix), (Entry(*row) for row in rows)))
        return Snapshot(entries, revision)

    def changes(self, prefix: str, from_revision: int) -> Page:
        with self._transaction("BEGIN") as db:
            revision, compacted, _ = _state(db)
            if from_revision <= compacted:
                raise WatchCompacted(f"revision {from_revision} is asked for; kept are those after {compacted}")
            with closing(db.execute(SQL["changes_from"], (from_revision, len(prefix), prefix))) as rows:
                return _page(rows, max(revision + 1, from_revision))

    # --- writing ----------------------------------------------------------------------------------------------

    def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> Outcome:
        with self._writing() as db:
            leases = {write.lease for write in writes if isinstance(write, Put) and write.lease}
            holds = all(_revision_of(db, compare.key) == compare.revision for compare in compares)
            if holds and all(_lives(db, lease) for lease in leases):
                return Outcome(True, self._apply(db, writes))
            return Outcome(False, _state(db)[0])

    def grant_lease(self, ttl_seconds: float) -> int:
        with self._writing() as db:
            db.execute(SQL["next_lease"])
            lease: int = db.execute(SQL["last_lease"]).fetchone()[0]
            db.execute(SQL["grant"], (lease, ttl_seconds, self._boottime() + ttl_seconds))
            return lease

    def keep_alive(self, lease: int) -> bool:
        with self._writing() as db:
            return db.execute(SQL["renew"], (self._boottime(), lease)).rowcount == 1

    def revoke_lease(self, lease: int) -> None:
        with self._writing() as db:
            self._end_leases(db, [lease])

    def poll(self) -> int:
        """The store's revision, after the leases that are due have ended.

        One small statement, and a write transaction only when a lease is due, because it runs many times a second.
        """
        try:
            revision, _, deadline = _state(self._connection or self._open())
        except (sqlite3.Error, OSError) as error:
            raise self._lost(error) from error
        if deadline is None or deadline > self._boottime():
            return revision
        with self._writing() as db:
            return _state(db)[0]

    def _apply(self, db: sqlite3.Connection, writes: Sequence[Write]) -> int:
        """Writes under one new revision and returns it; deleting what is not there is no write, as in etcd."""
        revision, _, _ = _state(db)
        effective = [write for write in writes if isinstance(write, Put) or _revision_of(db, write.key)]
        if not effective:
            return revision
        revision += 1
        for ordinal, write in enumerate(effective):
            if isinstance(write, Put):
                db.execute(SQL["put"], (write.key, write.value, revision, write.lease))
                db.execute(SQL["record_change"], (revision, ordinal, write.key, write.value, write.lease))
            else:
                db.execute(SQL["delete"], (write.key,))
                db.execute(SQL["record_change"], (revision, ordinal, write.key, None, 0))
        db.execute(SQL["advance"], (revision, revision - self._keep_revisions))
        db.execute(SQL["forget_changes"])
        return revision

    def _end_leases(self, db: sqlite3.Connection, leases: Sequence[int]) -> None:
        keys = [key for lease in leases for (key,) in db.execute(SQL["keys_of_lease"], (lease,)).fetchall()]
        db.executemany(SQL["end_lease"], [(lease,) for lease in leases])
        self._apply(db, [Delete(key) for key in keys])

    # --- transactions and the connection ----------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction in which no lease is due."""
        with self._transaction("BEGIN IMMEDIATE") as db:
            due = [lease for (lease,) in db.execute(SQL["due_leases"], (self._boottime(),)).fetchall()]
            if due:
                self._end_leases(db, due)
            yield db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Commits, or rolls back when the body raises. Raises CoordinationUnavailable."""
        try:
            self._check_file()
            db = self._connection or self._open()
            self._begin(db, begin)
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            raise self._lost(error) from error

    def _begin(self, db: sqlite3.Connection, begin: str) -> None:
        """Waits for the write lock in small steps. SQLite's own wait backs off to 100 ms a step, and whoever backs off
        is overtaken by whoever comes: with several clusters in a hurry the unlucky one waits many times its turn."""
        give_up = time.monotonic() + self._busy_seconds
        while True:
            try:
                db.execute(begin)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up:
                    raise
                time.sleep(_LOCK_STEP_SECONDS)
            else:
                return

    def _lost(self, error: Exception) -> CoordinationUnavailable:
        """An error of SQLite costs the connection, and with it every half-done thing; the next call opens a new one."""
        self.close()
        return CoordinationUnavailable(f"coordination store {self._path}: {error}", path=str(self._path))

    def _check_file(self) -> None:
        """A process that went on with a deleted file while others use its successor would have a store of its own."""
        if self._file is not None and self._file != _identity(self._path):
            raise OSError("the file was replaced while in use; restart this process")

    def _open(self) -> sqlite3.Connection:
        self._check_file()
        self._path.touch(mode=0o660)  # SQLite itself would create it for all the machine's users to read
        db = sqlite3.connect(self._path, timeout=0.0, isolation_level=None)
        try:
            self._enter_wal_mode(db)
            db.execute("PRAGMA synchronous = FULL")
            if not self._is_ready(db):
                self._begin(db, "BEGIN IMMEDIATE")
                self._make_ready(db)
                db.execute("COMMIT")
            self._file = self._file or _identity(self._path)
        except BaseException:
            db.close()
            raise
        self._connection = db
        return db

    def _enter_wal_mode(self, db: sqlite3.Connection) -> None:
        """SQLite does not wait for the lock when several processes switch a new file to WAL at once; so wait here."""
        give_up = time.monotonic() + self._busy_seconds
        mode = ""
        while mode == "":
            try:
                (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError:
                if time.monotonic() >= give_up:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise sqlite3.OperationalError(f"its file system does not take SQLite's WAL mode (it stays in {mode})")

    def _is_ready(self, db: sqlite3.Connection) -> bool:
        """Looks without taking the lock, so that a store that somebody holds locked can still be read.
        Raises sqlite3.DatabaseError for a file that is not a coordination store."""
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            return False
        found = tuple(db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("application_id", "user_version"))
        if found != (_APPLICATION_ID, _FORMAT):
            raise sqlite3.DatabaseError(f"not a coordination store of format {_FORMAT} (found format {found[1]})")
        return bool(db.execute(SQL["boot_id"]).fetchone()[0] == self._boot_id)

    def _make_ready(self, db: sqlite3.Connection) -> None:
        """Creates the tables where there are none, and takes the leases over into this boot.

        Deadlines of an earlier boot mean nothing on this boot's clock: every lease gets its full time again. Never
        less, because an early end could let two owners overlap; a lease whose holder is gone ends one ttl later.
        """
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_FORMAT}")
        if not self._is_ready(db):
            db.execute(SQL["rearm_leases"], (self._boottime(),))
            db.execute(SQL["set_boot_id"], (self._boot_id,))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _state(db: sqlite3.Connection) -> tuple[int, int, float | None]:
    """(revision, compacted, earliest deadline of a lease)."""
    state: tuple[int, int, float | None] = db.execute(SQL["state"]).fetchone()
    return state


def _revision_of(db: sqlite3.Connection, key: str) -> int:
    row = db.execute(SQL["revision_of"], (key,)).fetchone()
    return row[0] if row else 0


def _lives(db: sqlite3.Connection, lease: int) -> bool:
    return db.execute(SQL["lease"], (lease,)).fetchone() is not None


def _page(rows: Iterator[tuple[int, str, bytes | None, int]], end: int) -> Page:
    elements: list[tuple[Change, ...]] = []
    size = 0
    for revision, group in groupby(rows, key=itemgetter(0)):
        element = tuple(_change(*row) for row in group)
        elements.append(element)
        size += sum(len(change.entry.value) for change in element if change.entry)
        if size >= _PAGE_BYTES:
            return Page(elements, revision + 1)
    return Page(elements, end)


def _change(revision: int, key: str, value: bytes | None, lease: int) -> Change:
    return Change(key, None if value is None else Entry(key, value, revision, lease), revision)
