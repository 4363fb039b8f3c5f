"""What is the memory store's own: its faults, its timer, and that it does as SQLite does."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnirelay.coordination.sqlite import SqliteCoordination
from omnirelay.errors import CoordinationUnavailable
from omnirelay.ports.coordination import Compare, Delete, Put
from omnirelay.testing.memory_coordination import Fault, MemoryCoordination


class ManualClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        raise AssertionError("leases have no business with the wall clock")


class LoopClock(ManualClock):
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class TestFaults:
    async def test_a_fault_is_one_clients_own(self):
        store = MemoryCoordination(ManualClock())
        cut_off, fine = store.client(), store.client()
        cut_off.fault = Fault.UNAVAILABLE
        with pytest.raises(CoordinationUnavailable):
            await cut_off.transact([], [Put("k", b"")])
        assert await fine.get("k") is None

    async def test_a_lost_answer_leaves_the_change_behind(self):
        store = MemoryCoordination(ManualClock())
        client, other = store.client(), store.client()
        client.fault = Fault.ANSWER_LOST
        with pytest.raises(CoordinationUnavailable):
            await client.transact([], [Put("k", b"")])
        assert await other.get("k") is not None

    async def test_a_watch_goes_on_where_it_was_when_the_fault_is_over(self):
        store = MemoryCoordination(ManualClock())
        client, other = store.client(), store.client()
        watch = client.watch("", 2)
        client.fault = Fault.UNAVAILABLE
        await other.transact([], [Put("k", b"")])
        with pytest.raises(CoordinationUnavailable):
            await anext(watch)
        client.fault = None
        [change] = await anext(watch)
        assert change.key == "k"


async def test_leases_run_out_by_the_loops_time_without_a_call():
    store = MemoryCoordination(LoopClock())
    client = store.client()
    long, short = await client.grant_lease(1000), await client.grant_lease(0.02)
    await client.transact([], [Put("long", b"", long), Put("short", b"", short)])
    [change] = await asyncio.wait_for(anext(client.watch("", 3)), 30)
    assert (change.key, change.entry) == ("short", None)


# --- memory and SQLite, step by step --------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "a/1", "a/2", "b"])
LEASES = st.integers(0, 3)
COMPARES = st.lists(st.builds(Compare, KEYS, st.integers(0, 8)), max_size=1)
WRITES = st.lists(
    st.builds(Put, KEYS, st.binary(max_size=2), LEASES) | st.builds(Delete, KEYS), unique_by=lambda write: write.key
)
STEPS = st.one_of(
    st.tuples(st.just("transact"), COMPARES, WRITES),
    st.tuples(st.just("grant_lease"), st.sampled_from([1.0, 2.0, 5.0])),
    st.tuples(st.just("keep_alive"), LEASES),
    st.tuples(st.just("revoke_lease"), LEASES),
    st.tuples(st.just("list"), st.sampled_from(["", "a", "a/"])),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 1.0, 3.0])),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=25))
def test_memory_and_sqlite_give_the_same_answers_and_the_same_history(steps):
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_compare(steps, Path(directory) / "coordination.db"))


async def _compare(steps, path):
    clock = ManualClock()
    memory = MemoryCoordination(clock).client()
    sqlite = await SqliteCoordination.open(path, timeout_seconds=30, boottime=clock.monotonic)
    stores = (memory, sqlite)
    for name, *arguments in steps:
        if name == "advance":
            clock.now += arguments[0]
            # Whoever writes next ends the leases that are due; a reader may see them until then.
            name, arguments = "transact", ([], [])
        one, two = [await getattr(store, name)(*arguments) for store in stores]
        assert one == two
    revision = (await memory.list("")).revision
    assert await memory.list("") == await sqlite.list("")
    await memory.transact([], [Put("end", b"")])
    await sqlite.transact([], [Put("end", b"")])
    one, two = [await _until(store.watch("", 2), revision + 1) for store in stores]
    assert one == two
    await sqlite.close()


async def _until(watch, revision):
    elements = []
    async for element in watch:
        elements.append(element)
        if element[0].revision == revision:
            break
    return elements
