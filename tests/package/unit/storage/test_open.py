"""Opening: whose log it is, which version wrote it, who holds it, and what is closed when it fails."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from omnirelay.errors import ConfigInvalid, DataDirInUse, StorageUnavailable
from omnirelay.storage import SqliteLog
from omnirelay.storage.statements import SQL, migrations
from omnirelay.testing.batches import Chain

OpenLog = Callable[..., Awaitable[SqliteLog]]

HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


async def test_another_clusters_log_is_refused(tmp_path: Path, open_log: OpenLog) -> None:
    await (await open_log(tmp_path)).close()
    with pytest.raises(ConfigInvalid, match="belongs to cluster us"):
        await open_log(tmp_path, cluster="eu")
    await open_log(tmp_path)


async def test_a_newer_versions_log_is_refused(tmp_path: Path, open_log: OpenLog) -> None:
    await (await open_log(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / "log.db")) as database:
        database.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    with pytest.raises(ConfigInvalid, match="schema"):
        await open_log(tmp_path)


async def test_a_file_that_is_no_database(tmp_path: Path, open_log: OpenLog) -> None:
    (tmp_path / "log.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(StorageUnavailable) as refused:
        await open_log(tmp_path)
    assert "not a database" in refused.value.details["reason"]
    (tmp_path / "log.db").unlink()
    await open_log(tmp_path)


async def test_a_place_where_no_directory_can_be(tmp_path: Path, open_log: OpenLog) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable) as refused:
        await open_log(tmp_path / "file" / "log")
    assert refused.value.details["reason"]


async def test_another_process_is_shut_out_and_a_dead_one_shuts_nobody_out(tmp_path: Path, open_log: OpenLog) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, tmp_path / "lock", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout
    assert await holder.stdout.readline() == b"held\n"
    with pytest.raises(DataDirInUse) as refused:
        await open_log(tmp_path)
    assert refused.value.details == {"path": str(tmp_path)}
    holder.kill()
    await holder.communicate()
    await open_log(tmp_path)


async def test_a_closed_log_is_one_file(tmp_path: Path, open_log: OpenLog) -> None:
    """The WAL is moved into the database, so that a copy of the directory is a copy of the log."""
    log = await open_log(tmp_path)
    await log.append(Chain("us").next())
    await log.close()
    assert files_in(tmp_path) == ["lock", "log.db"]


def files_in(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


@pytest.fixture
def schema() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as database:
        for script in migrations():
            database.executescript(script)
        yield database


def plan_of(database: sqlite3.Connection, name: str) -> list[str]:
    statement = SQL[name]
    names = re.findall(r":(\w+)", statement)
    values = dict.fromkeys(names) if names else [None] * statement.count("?")
    return [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize("name", SQL)
def test_every_statement_fits_the_schema(schema: sqlite3.Connection, name: str) -> None:
    plan_of(schema, name)


@pytest.mark.parametrize("name", [name for name in SQL if name.startswith("batch_") and name != "batch_insert"])
def test_the_log_is_never_scanned_or_sorted(schema: sqlite3.Connection, name: str) -> None:
    plan = plan_of(schema, name)
    assert plan
    assert not [step for step in plan if step.startswith("SCAN b") or "TEMP B-TREE" in step]


def test_marks_are_rebuilt_from_the_index_alone(schema: sqlite3.Connection) -> None:
    assert any("COVERING INDEX batch_in_namespace" in step for step in plan_of(schema, "mark_rebuild"))
