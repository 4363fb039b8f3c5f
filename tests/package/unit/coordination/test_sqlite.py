"""What is SQLite's own: the boot, the lock, the file, the thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable
from contextlib import asynccontextmanager, closing
from typing import TypeVar

import pytest

from omnirelay.coordination.sqlite import SqliteCoordination
from omnirelay.errors import CoordinationUnavailable
from omnirelay.ports.coordination import Delete, Put, WatchCompacted

T = TypeVar("T")


async def soon(result: Awaitable[T]) -> T:
    return await asyncio.wait_for(result, 30)


class BootClock:
    """The machine's boot-time clock; `hang` makes whoever reads it wait, as a disk that hangs would."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.running = threading.Event()
        self.running.set()

    def __call__(self) -> float:
        self.running.wait()
        return self.now


@pytest.fixture
def path(tmp_path):
    return tmp_path / "coordination.db"


@asynccontextmanager
async def opened(path, **options):
    store = await SqliteCoordination.open(path, **{"timeout_seconds": 20, **options})
    try:
        yield store
    finally:
        await store.close()


async def put(store, key, value=b"", lease=0):
    outcome = await store.transact([], [Put(key, value, lease)])
    assert outcome.succeeded
    return outcome.revision


class TestBoot:
    async def test_leases_get_their_full_time_after_a_reboot(self, path):
        async with opened(path, boot_id="first", boottime=BootClock(1_000_000)) as store:
            lease = await store.grant_lease(10)
            revision = await put(store, "k", lease=lease)
        clock = BootClock(5)
        async with opened(path, boot_id="second", boottime=clock) as store:
            clock.now = 14.9
            await store.transact([], [Delete("nothing")])
            assert await store.get("k") is not None
            clock.now = 15
            [change] = await soon(anext(store.watch("k", revision + 1)))
            assert change.entry is None

    async def test_restarting_a_process_gives_no_lease_more_time(self, path):
        clock = BootClock(100)
        async with opened(path, boot_id="same", boottime=clock) as store:
            lease = await store.grant_lease(10)
        clock.now = 110
        async with opened(path, boot_id="same", boottime=clock) as store:
            assert not await store.keep_alive(lease)

    async def test_the_wall_clock_is_never_asked(self, path, monkeypatch):
        def wall_clock():
            raise AssertionError("the wall clock was read")

        monkeypatch.setattr(time, "time", wall_clock)
        monkeypatch.setattr(time, "time_ns", wall_clock)
        async with opened(path) as store:
            lease = await store.grant_lease(0.05)
            revision = await put(store, "k", lease=lease)
            [change] = await soon(anext(store.watch("k", revision + 1)))
            assert change.entry is None


class TestLock:
    async def test_a_locked_store_says_so_in_bounded_time_and_can_still_be_read(self, path):
        async with opened(path) as store:
            revision = await put(store, "k")
        async with opened(path, timeout_seconds=0.2) as store, opened(path) as patient:
            with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
                intruder.execute("BEGIN IMMEDIATE")
                with pytest.raises(CoordinationUnavailable):
                    await soon(store.transact([], [Put("k", b"")]))
                with pytest.raises(CoordinationUnavailable):
                    await soon(store.grant_lease(10))
                assert (await patient.list("")).revision == revision
            assert await put(patient, "k") == revision + 1

    async def test_a_call_that_hangs_is_given_up_and_the_adapter_goes_on(self, path):
        clock = BootClock(0)
        async with opened(path, timeout_seconds=0.2, boottime=clock) as store, opened(path, boottime=clock) as patient:
            await patient.grant_lease(1000)
            clock.running.clear()
            for call in (lambda: store.keep_alive(1), lambda: store.get("k"), lambda: put(store, "k")):
                with pytest.raises(CoordinationUnavailable):
                    await soon(call())
            clock.running.set()
            assert await patient.keep_alive(1)

    async def test_a_call_cancelled_before_its_turn_never_happens(self, path):
        clock = BootClock(0)
        async with opened(path, boottime=clock) as store:
            lease = await store.grant_lease(1000)
            clock.running.clear()
            behind = asyncio.create_task(store.keep_alive(lease))
            cancelled = asyncio.create_task(store.transact([], [Put("k", b"")]))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            clock.running.set()
            assert await soon(behind)
            assert await store.get("k") is None


class TestFile:
    async def test_a_directory_that_does_not_exist(self, tmp_path):
        with pytest.raises(CoordinationUnavailable):
            await SqliteCoordination.open(tmp_path / "nowhere" / "coordination.db")

    async def test_other_users_of_the_machine_cannot_read_it(self, path):
        async with opened(path) as store:
            await put(store, "k")
            assert [part.name for part in path.parent.iterdir() if part.stat().st_mode & 0o007] == []

    async def test_a_file_that_is_something_else_is_left_alone(self, path):
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE precious (x)")
        with pytest.raises(CoordinationUnavailable, match="not a coordination store"):
            await SqliteCoordination.open(path)
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]

    async def test_a_store_of_a_later_format_is_refused_by_number(self, path):
        async with opened(path):
            pass
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 9")
        with pytest.raises(CoordinationUnavailable, match="format 9"):
            await SqliteCoordination.open(path)

    async def test_a_process_does_not_go_on_with_a_file_that_was_replaced(self, path):
        async with opened(path) as old:
            await put(old, "k")
            for part in path.parent.glob(path.name + "*"):
                part.unlink()
            async with opened(path) as new:
                with pytest.raises(CoordinationUnavailable, match="replaced"):
                    await put(old, "k")
                with pytest.raises(CoordinationUnavailable):
                    await old.get("k")
                assert await new.get("k") is None
                await put(new, "new")
        async with opened(path) as store:
            assert [entry.key for entry in (await store.list("")).entries] == ["new"]

    async def test_a_handle_that_keeps_little_drops_it_for_all(self, path):
        async with opened(path) as store, opened(path, keep_revisions=1) as forgetful:
            start = await put(store, "k")
            await put(forgetful, "k")
            with pytest.raises(WatchCompacted):
                await soon(anext(store.watch("", start)))

    async def test_a_long_history_is_read_in_pages(self, path):
        value = bytes(700_000)
        async with opened(path) as store:
            start = await put(store, "k", value)
            for _ in range(4):
                await put(store, "k", value)
            page = await store._changes("k", start)
            assert (len(page.elements), page.next_revision) == (2, start + 2)
            watch = store.watch("k", start)
            revisions = [(await soon(anext(watch)))[0].revision for _ in range(5)]
            assert revisions == list(range(start, start + 5))


class TestThread:
    def test_it_ends_with_its_event_loop(self, path):
        before = set(threading.enumerate())
        asyncio.run(_open_and_forget(path))
        for thread in set(threading.enumerate()) - before:
            if thread.name == "coordination":
                # The thread finds out when it next has news, here of another process's write.
                asyncio.run(_write_once(path))
                thread.join(30)
                assert not thread.is_alive()

    async def test_closing_lets_calls_under_way_finish(self, path):
        async with opened(path) as store:
            call = asyncio.create_task(put(store, "k"))
            await asyncio.sleep(0)
            await store.close()
            assert await soon(call)
        async with opened(path) as store:
            assert await store.get("k") is not None


async def _open_and_forget(path):
    await SqliteCoordination.open(path)


async def _write_once(path):
    async with opened(path) as store:
        await put(store, "k")
