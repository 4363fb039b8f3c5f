"""The SQLite store between real processes: races, wake-ups, and processes that are killed."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import pytest

from omnirelay.coordination.sqlite import SqliteCoordination
from omnirelay.ports.coordination import Put

T = TypeVar("T")

PREAMBLE = """
import asyncio, itertools, sys, time
from omnirelay.coordination.sqlite import SqliteCoordination, database
from omnirelay.ports.coordination import Compare, Put

async def open_store():
    return await SqliteCoordination.open(sys.argv[1], timeout_seconds=30)
"""

INCREMENT = """
async def main():
    store = await open_store()
    left = 50
    while left:
        entry = await store.get("counter")
        value, revision = (int(entry.value), entry.revision) if entry else (0, 0)
        outcome = await store.transact([Compare("counter", revision)], [Put("counter", b"%d" % (value + 1))])
        left -= outcome.succeeded
    await store.close()
"""

WRITE_PAIRS = """
async def main():
    store = await open_store()
    for i in itertools.count():
        await store.transact([], [Put("pair/a", b"%d" % i), Put("pair/b", b"%d" % i)])
"""

STOP_IN_MID_TRANSACTION = """
class Halting(dict):
    def __getitem__(self, name):
        if name == "advance":
            print("written, not committed", flush=True)
            time.sleep(1000)
        return super().__getitem__(name)

async def main():
    store = await open_store()
    database.SQL = Halting(database.SQL)
    await store.transact([], [Put("half/a", b""), Put("half/b", b"")])
"""


async def soon(result: Awaitable[T]) -> T:
    return await asyncio.wait_for(result, 50)


@asynccontextmanager
async def process(script: str, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    program = f"{PREAMBLE}\n{script}\nasyncio.run(main())"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, path, stdout=asyncio.subprocess.PIPE)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coordination.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteCoordination]:
    store = await SqliteCoordination.open(path, timeout_seconds=30)
    try:
        yield store
    finally:
        await store.close()


async def test_processes_that_create_the_store_at_once_and_race_lose_no_update(path):
    async with process(INCREMENT, path) as one, process(INCREMENT, path) as two:
        assert await soon(asyncio.gather(one.wait(), two.wait())) == [0, 0]
    async with opened(path) as store:
        entry = await store.get("counter")
        assert entry is not None
        assert entry.value == b"100"


async def test_a_watch_sees_every_change_of_another_process_and_a_killed_writer_leaves_pairs(path):
    async with opened(path) as store:
        start = (await store.list("")).revision + 1
        watch = store.watch("pair/", start)
        async with process(WRITE_PAIRS, path) as writer:
            for i in range(50):
                a, b = await soon(anext(watch))
                assert (a.revision, b.revision) == (start + i, start + i)
                assert a.entry.value == b.entry.value == b"%d" % i
            writer.kill()
            await soon(writer.wait())
        a, b = (await store.list("pair/")).entries
        assert (a.value, a.revision) == (b.value, b.revision)
        assert (await store.transact([], [Put("k", b"")])).revision == a.revision + 1
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_process_killed_in_mid_transaction_leaves_nothing_of_it_and_no_lock(path):
    async with opened(path) as store:
        before = await store.list("")
        async with process(STOP_IN_MID_TRANSACTION, path) as child:
            assert await soon(child.stdout.readline()) == b"written, not committed\n"
            child.kill()
            await soon(child.wait())
        assert await store.list("") == before
        assert (await store.transact([], [Put("k", b"")])).revision == before.revision + 1
