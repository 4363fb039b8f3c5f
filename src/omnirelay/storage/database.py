"""The files of a log: who may open them, how SQLite is set up, and what its errors mean to us.

The figures were measured through `SqliteLog.append` with batches of 120 KB on a busy machine of two cores: pages of
16 KiB cost 0.36 ms of processor time a batch, pages of 4 KiB 0.42 ms and of 64 KiB 0.48 ms; a checkpoint every 32 MiB
instead of 8 gains a sixth in throughput and doubles the longest wait. Memory-mapped I/O is off, because a failing disk
would then kill the process with SIGBUS instead of raising.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from omnirelay.errors import ConfigInvalid, CorruptLog, DataDirInUse, StorageUnavailable
from omnirelay.storage.statements import SQL, migrations

_PAGE_BYTES = 16 * 1024
_CHECKPOINT_BYTES = 8 * 1024 * 1024
_CACHE_KIB = 8 * 1024
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DataDir:
    """A log's directory, held by this process alone until `release`."""

    def __init__(self, path: Path) -> None:
        """Creates the directory if need be. Raises DataDirInUse, StorageUnavailable."""
        try:
            if not path.is_dir():
                path.mkdir(parents=True, mode=0o700)
                _sync_directory(path.parent)
            # flock belongs to the open file, so it also shuts out a second log of the same process.
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnavailable(f"{path} cannot be used: {error.strerror}", reason=str(error.strerror)) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise DataDirInUse(f"{path} is in use by another process", path=str(path)) from None
        self.database = path / "log.db"

    def release(self) -> None:
        os.close(self._lock)


def open_writer(database: Path, cluster: str, incarnation: int) -> sqlite3.Connection:
    """The connection that writes, of a database brought to this version's schema.

    Raises ConfigInvalid for another cluster's log or one of a newer version, StorageUnavailable.
    """
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    try:
        connection.executescript(f"""
            PRAGMA page_size = {_PAGE_BYTES};
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // _PAGE_BYTES};
            PRAGMA journal_size_limit = {4 * _CHECKPOINT_BYTES};
            PRAGMA cache_size = -{_CACHE_KIB};
            PRAGMA secure_delete = OFF;
            PRAGMA mmap_size = 0;
        """)
        _migrate(connection)
        _claim(connection, cluster, incarnation)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise unavailable(error) from error
        raise
    return connection


def open_reader(database: Path) -> sqlite3.Connection:
    """A connection that sees what is committed and cannot change it."""
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.executescript(f"PRAGMA query_only = ON; PRAGMA cache_size = -{_CACHE_KIB}; PRAGMA mmap_size = 0;")
    return connection


def unavailable(error: sqlite3.Error) -> StorageUnavailable:
    reason = "disk full" if _code(error) == sqlite3.SQLITE_FULL else str(error)
    return StorageUnavailable(f"the log's disk refuses: {reason}", reason=reason)


def unreadable(error: sqlite3.Error, origin: str, sequence: int) -> CorruptLog | StorageUnavailable:
    """What a failed read means: a damaged file is the log's end there, anything else may pass."""
    if _code(error) in _DAMAGED:
        return corrupt(origin, sequence, str(error))
    return unavailable(error)


def corrupt(origin: str, sequence: int, why: str) -> CorruptLog:
    return CorruptLog(f"the log of {origin} is damaged at {sequence}: {why}", origin=origin, sequence=sequence)


def _code(error: sqlite3.Error) -> int:
    """The primary result code; SQLite keeps the particulars in the higher bits."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _migrate(connection: sqlite3.Connection) -> None:
    scripts = migrations()
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(scripts):
        raise ConfigInvalid(f"the log is of schema {version}, this version knows {len(scripts)}", setting="data_dir")
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")


def incarnation_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute(SQL["log_select"]).fetchone()[1])


def _claim(connection: sqlite3.Connection, cluster: str, incarnation: int) -> None:
    """Stamps a new log; a known one keeps its incarnation unless a higher one is asked for."""
    row: tuple[str, int] | None = connection.execute(SQL["log_select"]).fetchone()
    if row is None:
        connection.execute(SQL["log_insert"], (cluster, incarnation))
    elif row[0] != cluster:
        raise ConfigInvalid(f"the log belongs to cluster {row[0]}, not to {cluster}", setting="data_dir")
    elif incarnation > row[1]:
        connection.execute(SQL["log_rebuilt"], (incarnation,))


def _sync_directory(path: Path) -> None:
    """Makes a new entry survive a power cut."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
