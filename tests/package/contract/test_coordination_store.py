"""What every coordination store does: one suite, each sentence of the port's docstrings, each adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from omnirelay.coordination.limits import MAX_OPERATIONS, MAX_TRANSACTION_BYTES
from omnirelay.coordination.sqlite import SqliteCoordination
from omnirelay.errors import BadRequest, CoordinationUnavailable
from omnirelay.ports.coordination import Change, Compare, CoordinationStore, Delete, Entry, Outcome, Put, WatchCompacted
from omnirelay.testing.memory_coordination import Fault, MemoryClient, MemoryCoordination

KEEP_REVISIONS = 100
T = TypeVar("T")


async def soon(result: Awaitable[T]) -> T:
    """For what must happen, on a machine of any speed."""
    return await asyncio.wait_for(result, 30)


class ManualClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        raise AssertionError("a coordination store has no business with the wall clock")


class Harness(Protocol):
    async def open(self) -> CoordinationStore:
        """One more handle on the same store."""
        ...

    def advance(self, seconds: float) -> None: ...

    def outage(self) -> AbstractContextManager[None]: ...


class MemoryHarness:
    def __init__(self) -> None:
        self._clock = ManualClock()
        self._store = MemoryCoordination(self._clock, keep_revisions=KEEP_REVISIONS)
        self._clients: list[MemoryClient] = []

    async def open(self) -> MemoryClient:
        self._clients.append(self._store.client())
        return self._clients[-1]

    def advance(self, seconds: float) -> None:
        self._clock.now += seconds
        self._store.expire_leases()

    @contextmanager
    def outage(self) -> Iterator[None]:
        for client in self._clients:
            client.fault = Fault.UNAVAILABLE
        yield
        for client in self._clients:
            client.fault = None


class SqliteHarness:
    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self._path = path
        self._stack = stack
        self._clock = ManualClock()

    async def open(self) -> SqliteCoordination:
        store = await SqliteCoordination.open(
            self._path, timeout_seconds=20, keep_revisions=KEEP_REVISIONS, boottime=self._clock.monotonic
        )
        self._stack.push_async_callback(store.close)
        return store

    def advance(self, seconds: float) -> None:
        self._clock.now += seconds

    @contextmanager
    def outage(self) -> Iterator[None]:
        away = self._path.with_suffix(".away")
        self._path.rename(away)
        yield
        away.rename(self._path)


@pytest.fixture(params=["memory", "sqlite"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    async with AsyncExitStack() as stack:
        yield MemoryHarness() if request.param == "memory" else SqliteHarness(tmp_path / "coordination.db", stack)


@pytest.fixture
async def store(harness: Harness) -> CoordinationStore:
    return await harness.open()


@pytest.fixture
async def other(harness: Harness, store: CoordinationStore) -> CoordinationStore:
    return await harness.open()


async def put(store: CoordinationStore, key: str, value: bytes = b"", lease: int = 0) -> int:
    outcome = await store.transact([], [Put(key, value, lease)])
    assert outcome.succeeded
    return outcome.revision


async def revision_of(store: CoordinationStore) -> int:
    return (await store.list("")).revision


class TestReading:
    async def test_a_key_that_is_not_there(self, store):
        assert await store.get("nothing") is None

    async def test_a_key_with_the_revision_of_its_last_write(self, store, other):
        await put(store, "k", b"1")
        revision = await put(store, "k", b"2")
        await put(store, "unrelated")
        assert await other.get("k") == Entry("k", b"2", revision)

    async def test_an_empty_store_stands_at_a_revision_from_which_a_watch_can_start(self, store):
        snapshot = await store.list("")
        assert (tuple(snapshot.entries), snapshot.revision >= 1) == ((), True)

    async def test_list_gives_the_prefix_in_key_order_with_the_store_revision(self, store, other):
        for key in ["a/2", "b", "a/10", "a/é", "a", "a/", "a0", "A/1"]:
            await put(store, key)
        snapshot = await other.list("a/")
        assert [entry.key for entry in snapshot.entries] == ["a/", "a/10", "a/2", "a/é"]
        assert snapshot.revision == await revision_of(store)

    async def test_a_prefix_is_text_and_not_a_pattern(self, store):
        await put(store, "a_b/x")
        await put(store, "acb/x")
        assert [entry.key for entry in (await store.list("a_b/")).entries] == ["a_b/x"]
        assert not (await store.list("a%")).entries

    async def test_the_empty_prefix_lists_everything(self, store):
        await put(store, "z")
        await put(store, "a")
        assert [entry.key for entry in (await store.list("")).entries] == ["a", "z"]


class TestTransactions:
    async def test_all_writes_share_one_revision(self, store):
        before = await revision_of(store)
        outcome = await store.transact([], [Put("a", b"1"), Put("b", b"2")])
        assert outcome == Outcome(True, before + 1)
        assert {entry.revision for entry in (await store.list("")).entries} == {before + 1}

    async def test_nothing_happens_unless_every_compare_holds(self, store):
        revision = await put(store, "a", b"1")
        outcome = await store.transact([Compare("a", revision), Compare("b", 7)], [Put("a", b"2"), Put("c", b"3")])
        assert outcome == Outcome(False, revision)
        assert [entry.value for entry in (await store.list("")).entries] == [b"1"]

    async def test_revision_0_means_that_the_key_does_not_exist(self, store):
        assert (await store.transact([Compare("a", 0)], [Put("a", b"1")])).succeeded
        assert not (await store.transact([Compare("a", 0)], [Put("a", b"2")])).succeeded
        await store.transact([], [Delete("a")])
        assert (await store.transact([Compare("a", 0)], [Put("a", b"3")])).succeeded

    async def test_a_key_compares_by_its_own_last_write_only(self, store):
        revision = await put(store, "a")
        await put(store, "b")
        assert (await store.transact([Compare("a", revision)], [Put("a", b"")])).succeeded
        assert not (await store.transact([Compare("a", revision)], [Put("a", b"")])).succeeded

    async def test_deleting_what_is_not_there_is_no_change(self, store):
        before = await revision_of(store)
        assert await store.transact([], [Delete("nothing")]) == Outcome(True, before)

    async def test_compares_alone_are_a_question(self, store):
        revision = await put(store, "a")
        assert await store.transact([Compare("a", revision)], []) == Outcome(True, revision)
        assert await store.transact([Compare("a", 0)], []) == Outcome(False, revision)

    async def test_one_of_two_handles_wins(self, store, other):
        async def increment(handle: CoordinationStore, times: int) -> None:
            while times:
                entry = await handle.get("counter")
                value, revision = (int(entry.value), entry.revision) if entry else (0, 0)
                outcome = await handle.transact([Compare("counter", revision)], [Put("counter", b"%d" % (value + 1))])
                times -= outcome.succeeded

        await soon(asyncio.gather(*(increment(handle, 10) for handle in (store, other, store, other))))
        entry = await store.get("counter")
        assert entry is not None
        assert entry.value == b"40"


class TestLimits:
    async def test_as_many_operations_as_allowed(self, store):
        compares = [Compare(f"c/{i}", 0) for i in range(MAX_OPERATIONS // 2)]
        writes = [Put(f"w/{i}", b"") for i in range(MAX_OPERATIONS // 2)]
        assert (await store.transact(compares, writes)).succeeded
        with pytest.raises(BadRequest, match="operations"):
            await store.transact(compares, [*writes, Put("one more", b"")])

    async def test_as_many_bytes_as_allowed(self, store):
        largest = bytes(MAX_TRANSACTION_BYTES - 1)
        assert (await store.transact([], [Put("k", largest)])).succeeded
        with pytest.raises(BadRequest, match="bytes"):
            await store.transact([], [Put("k", largest + b"x")])
        entry = await store.get("k")
        assert entry is not None
        assert entry.value == largest

    async def test_each_key_is_written_at_most_once(self, store):
        with pytest.raises(BadRequest, match="'a' twice"):
            await store.transact([], [Put("a", b""), Put("b", b""), Delete("a")])
        assert await store.get("b") is None

    @pytest.mark.parametrize("key", ["", "nul\0", "\ud800"])
    async def test_keys_that_no_store_can_hold(self, store, key):
        with pytest.raises(BadRequest):
            await store.transact([], [Put(key, b"")])
        with pytest.raises(BadRequest):
            await store.transact([Compare(key, 0)], [])
        with pytest.raises(BadRequest):
            await store.get(key)

    @pytest.mark.parametrize("ttl_seconds", [0.0, -1.0, float("nan"), float("inf")])
    async def test_a_lease_has_a_finite_time(self, store, ttl_seconds):
        with pytest.raises(BadRequest):
            await store.grant_lease(ttl_seconds)

    async def test_a_watch_starts_at_a_revision(self, store):
        with pytest.raises(BadRequest):
            store.watch("", 0)


class TestWatches:
    async def test_a_snapshot_is_continued_without_a_gap(self, store, other):
        await put(store, "before")
        snapshot = await store.list("")
        revision = await put(store, "k", b"v")
        watch = store.watch("", snapshot.revision + 1)
        assert await soon(anext(watch)) == (Change("k", Entry("k", b"v", revision), revision),)
        waiting = asyncio.create_task(anext(watch))
        revision = await put(other, "k", b"w")
        assert await soon(waiting) == (Change("k", Entry("k", b"w", revision), revision),)

    async def test_a_transaction_is_one_element_in_the_order_of_its_writes(self, store):
        await put(store, "p/gone")
        revision = (
            await store.transact([], [Put("p/z", b""), Delete("p/gone"), Put("q", b""), Put("p/a", b"")])
        ).revision
        element = await soon(anext(store.watch("p/", revision)))
        assert [(change.key, change.entry is None) for change in element] == [
            ("p/z", False),
            ("p/gone", True),
            ("p/a", False),
        ]
        assert {change.revision for change in element} == {revision}

    async def test_past_values_are_seen_as_they_were(self, store):
        first = await put(store, "k", b"1")
        await put(store, "k", b"2")
        await store.transact([], [Delete("k")])
        watch = store.watch("k", first)
        elements = [await soon(anext(watch)) for _ in range(3)]
        assert [change.entry and change.entry.value for [change] in elements] == [b"1", b"2", None]

    async def test_other_prefixes_and_failed_transactions_are_not_seen(self, store):
        start = await revision_of(store) + 1
        await put(store, "elsewhere")
        await store.transact([Compare("p/k", 99)], [Put("p/k", b"")])
        await put(store, "p")
        revision = await put(store, "p/k")
        [change] = await soon(anext(store.watch("p/", start)))
        assert change.revision == revision

    async def test_a_watch_may_start_at_a_revision_to_come(self, store, other):
        start = await revision_of(store) + 3
        waiting = asyncio.create_task(anext(store.watch("", start)))
        for key in ["1", "2", "3"]:
            await put(other, key)
        [change] = await soon(waiting)
        assert (change.key, change.revision) == ("3", start)

    async def test_nothing_is_missed_under_concurrent_writers(self, store, other):
        start = await revision_of(store) + 1

        async def write(handle: CoordinationStore, name: str) -> None:
            for i in range(20):
                await put(handle, f"{name}/{i}")

        async def read(handle: CoordinationStore) -> list[int]:
            watch = handle.watch("", start)
            return [(await anext(watch))[0].revision for _ in range(60)]

        writers = [write(store, "a"), write(other, "b"), write(store, "c")]
        *_, one, two = await soon(asyncio.gather(*writers, read(store), read(other)))
        assert one == two == list(range(start, start + 60))

    async def test_cancelling_a_wait_loses_nothing(self, store):
        watch = store.watch("", await revision_of(store) + 1)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        revision = await put(store, "k")
        [change] = await soon(anext(watch))
        assert change.revision == revision

    async def test_revisions_that_are_not_kept_any_more(self, store):
        start = await put(store, "k", b"first")
        for _ in range(KEEP_REVISIONS - 1):
            await put(store, "k")
        assert [change.revision for change in await soon(anext(store.watch("k", start)))] == [start]
        behind = store.watch("k", start)
        last = await put(store, "k", b"last")
        with pytest.raises(WatchCompacted):
            await soon(anext(behind))
        snapshot = await store.list("k")
        assert [entry.value for entry in snapshot.entries] == [b"last"]
        assert [change.revision for change in await soon(anext(store.watch("k", last)))] == [last]


class TestLeases:
    async def test_ids_are_positive_and_distinct(self, store, other):
        leases = [await handle.grant_lease(10) for handle in (store, other, store)]
        assert min(leases) > 0
        assert len(set(leases)) == 3

    async def test_keys_live_as_long_as_their_lease_and_go_in_one_revision(self, harness, store, other):
        lease = await store.grant_lease(10)
        revision = (
            await store.transact([], [Put("l/a", b"", lease), Put("l/b", b"", lease), Put("l/c", b"")])
        ).revision
        assert await other.get("l/a") == Entry("l/a", b"", revision, lease)
        watch = other.watch("l/", revision + 1)
        harness.advance(9.9)
        assert len((await other.list("l/")).entries) == 3
        harness.advance(0.1)
        element = await soon(anext(watch))
        assert element == (Change("l/a", None, revision + 1), Change("l/b", None, revision + 1))
        assert [entry.key for entry in (await other.list("l/")).entries] == ["l/c"]

    async def test_keep_alive_renews_for_another_full_time(self, harness, store, other):
        lease = await store.grant_lease(10)
        await put(store, "k", lease=lease)
        for _ in range(3):
            harness.advance(9)
            assert await other.keep_alive(lease)
        assert await store.get("k") is not None

    async def test_keep_alive_is_false_when_the_lease_is_gone(self, harness, store):
        lease = await store.grant_lease(10)
        harness.advance(10)
        assert not await store.keep_alive(lease)
        assert not await store.keep_alive(lease + 1)

    async def test_renewing_changes_no_revision(self, store):
        lease = await store.grant_lease(10)
        before = await revision_of(store)
        await store.keep_alive(lease)
        assert await revision_of(store) == before

    async def test_a_put_with_an_unknown_lease_fails_the_transaction(self, harness, store):
        lease = await store.grant_lease(10)
        harness.advance(10)
        for unknown in (lease, lease + 1):
            assert not (await store.transact([], [Put("a", b""), Put("b", b"", unknown)])).succeeded
        assert not (await store.list("")).entries

    async def test_revoking_deletes_the_keys_in_one_revision(self, store, other):
        lease = await store.grant_lease(10)
        revision = (await store.transact([], [Put("b", b"", lease), Put("a", b"", lease)])).revision
        await other.revoke_lease(lease)
        element = await soon(anext(store.watch("", revision + 1)))
        assert element == (Change("a", None, revision + 1), Change("b", None, revision + 1))
        assert not await store.keep_alive(lease)

    async def test_revoking_what_is_gone_is_no_error(self, store):
        before = await revision_of(store)
        lease = await store.grant_lease(10)
        await store.revoke_lease(lease)
        await store.revoke_lease(lease)
        await store.revoke_lease(12345)
        assert await revision_of(store) == before

    async def test_a_key_belongs_to_the_lease_of_its_last_write(self, store):
        first, second = await store.grant_lease(10), await store.grant_lease(10)
        for key, lease in [("none", 0), ("second", second)]:
            await put(store, key, lease=first)
            await put(store, key, lease=lease)
        await store.revoke_lease(first)
        assert [entry.key for entry in (await store.list("")).entries] == ["none", "second"]


class TestFailure:
    async def test_every_call_says_so_and_works_again_afterwards(self, harness, store):
        lease = await store.grant_lease(10)
        revision = await put(store, "k")
        watch = store.watch("", revision + 1)
        calls = [
            lambda: store.get("k"),
            lambda: store.list(""),
            lambda: store.transact([], [Put("k", b"")]),
            lambda: store.grant_lease(10),
            lambda: store.keep_alive(lease),
            lambda: store.revoke_lease(lease),
            lambda: anext(watch),
            lambda: anext(store.watch("", revision)),
        ]
        with harness.outage():
            for call in calls:
                with pytest.raises(CoordinationUnavailable):
                    await soon(call())
        assert await store.get("k") == Entry("k", b"", revision)
        again = await put(store, "k")
        assert [change.revision for change in await soon(_next_when_back(watch))] == [again]

    async def test_a_waiting_watch_is_told(self, harness, store):
        waiting = asyncio.create_task(anext(store.watch("", await revision_of(store) + 1)))
        await asyncio.sleep(0)
        with harness.outage():
            with pytest.raises(CoordinationUnavailable):
                await store.get("k")
            with pytest.raises(CoordinationUnavailable):
                await soon(waiting)

    async def test_cancelling_a_caller_leaves_the_store_working(self, store):
        for _ in range(20):
            call = asyncio.create_task(store.transact([], [Put("k", b"")]))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        revision = await put(store, "k")
        assert await store.get("k") == Entry("k", b"", revision)

    async def test_close_ends_watches_and_leaves_other_handles_alone(self, store, other):
        start = await revision_of(store) + 1
        waiting = asyncio.create_task(_collect(store.watch("", start)))
        elsewhere = asyncio.create_task(anext(other.watch("", start)))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        assert await soon(waiting) == []
        with pytest.raises(CoordinationUnavailable):
            await store.get("k")
        await put(other, "k")
        assert [change.key for change in await soon(elsewhere)] == ["k"]


async def _next_when_back(watch: AsyncIterator[T]) -> T:
    """A watch may go on saying that the store is away until its adapter has looked again."""
    while True:
        try:
            return await anext(watch)
        except CoordinationUnavailable:
            await asyncio.sleep(0)


async def _collect(watch: AsyncIterator[T]) -> list[T]:
    return [element async for element in watch]
