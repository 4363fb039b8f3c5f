"""What every LogStore promises, one test for each sentence of the port."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from omnirelay.errors import (
    Conflict,
    CorruptLog,
    DataDirInUse,
    EpochMoved,
    PositionMismatch,
    ResumePointDeleted,
    ShuttingDown,
    StorageUnavailable,
)
from omnirelay.model.batch import GENESIS_DIGEST, Batch, BatchKind
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import EpochGuard, Head, LogStore, ProducerMark, Retention
from omnirelay.storage import SqliteLog
from omnirelay.testing.batches import Chain
from omnirelay.testing.memory_log import MemoryDisk, MemoryLog
from omnirelay.wire.codec import decode_header

BIG = 1 << 30
ROUTE_1 = Route("default", (Ownership(1, "us", "us"),))


class Log(LogStore, Protocol):
    async def rebuilt(self, incarnation: int) -> None: ...


class Place(Protocol):
    """Where a log is kept, and what can befall it there."""

    async def open(self, incarnation: int = 1) -> Log: ...

    def damage(self, origin: str, sequence: int) -> None: ...

    def refusing(self) -> Iterator[None]: ...

    def paused(self) -> Iterator[None]: ...


class MemoryPlace:
    def __init__(self) -> None:
        self.disk = MemoryDisk()

    async def open(self, incarnation: int = 1) -> Log:
        self.log = await MemoryLog.open(self.disk, incarnation=incarnation)
        return self.log

    def damage(self, origin: str, sequence: int) -> None:
        self.disk.damage(origin, sequence)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        async def refuse() -> None:
            raise StorageUnavailable("the disk is full", reason="disk full")

        before, self.log.before_commit = self.log.before_commit, refuse
        yield
        self.log.before_commit = before

    @contextmanager
    def paused(self) -> Iterator[None]:
        go = asyncio.Event()

        async def wait() -> None:
            await go.wait()

        self.log.before_commit = wait
        yield
        go.set()


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self.path = path

    async def open(self, incarnation: int = 1) -> Log:
        return await SqliteLog.open(self.path, cluster="us", incarnation=incarnation, decode_header=decode_header)

    def damage(self, origin: str, sequence: int) -> None:
        with closing(sqlite3.connect(self.path / "log.db")) as database, database:
            database.execute(
                "UPDATE batch SET records = zeroblob(3) WHERE origin = ? AND last_sequence = ?", (origin, sequence)
            )

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """No file may grow beyond nothing: writes fail as on a disk that refuses."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The writer waits for a lock that another connection holds."""
        with closing(sqlite3.connect(self.path / "log.db", isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path / "log")


@pytest.fixture
async def log(place: Place) -> AsyncIterator[Log]:
    log = await place.open()
    yield log
    await log.close()


@asynccontextmanager
async def reopened(place: Place, log: Log) -> AsyncIterator[Log]:
    """The same log in another life: nothing is in memory."""
    await log.close()
    again = await place.open()
    try:
        yield again
    finally:
        await again.close()


async def append_all(log: Log, batches: list[Batch]) -> None:
    await asyncio.gather(*(log.append(batch) for batch in batches))


async def outcomes(*appends: object) -> list[type | None]:
    """The class of each failure, None for success."""
    return [type(o) if o else None for o in await asyncio.gather(*appends, return_exceptions=True)]


def route(*cuts: Cursor) -> Route:
    """An ownership by `us` in epoch 1 and one more per cut, in turn by `eu` and `us`."""
    later = [Ownership(n, ("us", "eu")[n % 2 - 1], ("us", "eu")[n % 2 - 1], cut) for n, cut in enumerate(cuts, start=2)]
    return Route("default", (*ROUTE_1.history, *later))


# --- append ---------------------------------------------------------------------------------------------------


async def test_an_append_that_ended_is_there_after_reopening(place: Place, log: Log) -> None:
    chain = Chain("us")
    batches = chain.take(3)
    await append_all(log, batches)
    assert log.heads == {"us": chain.head}
    async with reopened(place, log) as again:
        assert again.heads == {"us": chain.head}
        assert await again.read("us", 0, BIG) == batches


async def test_a_head_tells_sequence_digest_size_and_commit_time(log: Log) -> None:
    chain = Chain("us")
    first, second = chain.next(count=10, commit_time_ms=7), chain.next(count=5, commit_time_ms=8)
    await append_all(log, [first, second])
    assert log.heads["us"] == Head(15, second.digest, first.size + second.size, 8)


async def test_heads_are_a_new_mapping_after_each_commit(log: Log) -> None:
    chain = Chain("us")
    before = log.heads
    await log.append(chain.next())
    assert log.heads is not before
    assert before == {}
    assert log.heads is log.heads


async def test_appends_are_queued_at_the_call_and_in_call_order(log: Log) -> None:
    chain = Chain("us")
    _first, second = log.append(chain.next()), log.append(chain.next())
    await second
    assert log.heads["us"] == chain.head


async def test_appends_that_wait_together_share_a_commit(place: Place, log: Log) -> None:
    commits = 0

    def count() -> None:
        nonlocal commits
        commits += 1

    log.listen(count)
    with place.paused():
        appends = [log.append(batch) for batch in Chain("us").take(100)]
        await asyncio.sleep(0)
    await asyncio.gather(*appends)
    assert commits <= 2, "the first may have gone before the others came"


async def test_an_append_must_follow_the_head(log: Log) -> None:
    chain = Chain("us")
    first, second, third = chain.take(3)
    await log.append(first)
    head = log.heads["us"]
    forged = Batch(second.header, second.header_bytes, second.records + b"!", second.digest)
    unchained = Chain("us", Head(1, GENESIS_DIGEST)).next()
    ahead = Chain("us", replace(head, sequence=5)).next()
    empty = Chain("us", head).next(count=0)
    for wrong in (third, first, forged, unchained, ahead, empty):
        with pytest.raises(PositionMismatch) as refused:
            await log.append(wrong)
        assert refused.value.details == {"origin": "us", "head": 1}
    assert log.heads == {"us": head}
    assert await log.read("us", 0, BIG) == [first]
    await log.append(second)


async def test_an_append_fails_when_the_guards_epoch_is_not_installed(log: Log) -> None:
    chain = Chain("us")
    first, second, third = chain.take(3)
    with pytest.raises(EpochMoved):
        await log.append(first, EpochGuard("default", 1))
    await log.install({"default": ROUTE_1})
    await log.append(first, EpochGuard("default", 1))
    with pytest.raises(EpochMoved):
        await log.append(second, EpochGuard("other", 1))
    await log.install({"default": route(Cursor(1, 1))})
    with pytest.raises(EpochMoved) as refused:
        await log.append(second, EpochGuard("default", 1))
    assert refused.value.details == {"epoch": 2}
    assert log.heads["us"].sequence == 1
    await append_all(log, [second, third])


async def test_a_guard_meets_the_epoch_installed_just_before_it(log: Log) -> None:
    chain = Chain("us")
    install = asyncio.ensure_future(log.install({"default": ROUTE_1}))
    await asyncio.sleep(0)
    await log.append(chain.next(), EpochGuard("default", 1))
    later = asyncio.ensure_future(log.install({"default": route(Cursor(1, 1))}))
    await asyncio.sleep(0)
    with pytest.raises(EpochMoved):
        await log.append(chain.next(), EpochGuard("default", 1))
    await asyncio.gather(install, later)


async def test_what_is_queued_behind_a_failed_append_of_its_origin_fails_too(place: Place, log: Log) -> None:
    us, eu = Chain("us"), Chain("eu")
    first, second = us.take(2)
    with place.paused():
        appends = [
            log.append(first, EpochGuard("default", 1)),
            log.append(second),
            log.append(first),  # it would fit, but its caller could not know that
            log.append(eu.next()),
        ]
        await asyncio.sleep(0)
    assert await outcomes(*appends) == [EpochMoved, PositionMismatch, PositionMismatch, None]
    assert log.heads == {"eu": eu.head}
    await append_all(log, [first, second])


async def test_what_comes_while_an_append_fails_fails_too(place: Place, log: Log) -> None:
    batch = Chain("us").next()
    with place.paused():
        refused = log.append(batch, EpochGuard("default", 1))
        await asyncio.sleep(0)
        behind = log.append(batch)
    assert await outcomes(refused, behind) == [EpochMoved, PositionMismatch]
    await log.append(batch)


async def test_fm36_a_refusing_disk_fails_all_that_waits_and_the_log_resumes(place: Place, log: Log) -> None:
    us, eu = Chain("us"), Chain("eu")
    await log.append(us.next())
    await log.install({"default": ROUTE_1})
    before = await log.load()
    lost = [us.next(), eu.next(producer="q")]
    with place.refusing():
        assert await outcomes(*(log.append(batch) for batch in lost)) == [StorageUnavailable, StorageUnavailable]
        with pytest.raises(StorageUnavailable) as refused:
            await log.install({"default": route(Cursor(1, 1))})
        assert refused.value.details["reason"]
        assert await log.load() == before
        assert log.heads == before.heads
    assert await outcomes(*(log.append(batch) for batch in lost)) == [None, None]
    async with reopened(place, log) as again:
        assert await again.read("us", 0, BIG) == [*await again.read("us", 0, 1), lost[0]]
        assert again.heads == {"us": us.head, "eu": eu.head}


async def test_appends_behind_one_that_the_disk_refused_store_nothing(place: Place, log: Log) -> None:
    first, second, third = Chain("us").take(3)
    with place.refusing():
        refused = await outcomes(log.append(first), log.append(second))
    assert refused == [StorageUnavailable, StorageUnavailable] or refused == [StorageUnavailable, PositionMismatch]
    assert await outcomes(log.append(third)) == [PositionMismatch]
    await append_all(log, [first, second, third])


# --- epochs and producers -------------------------------------------------------------------------------------


async def test_installed_histories_are_durable(place: Place, log: Log) -> None:
    routes = {"default": route(Cursor(1, 4), Cursor(2, 3)), "other": Route("other", (Ownership(7, "eu", "eu~2"),))}
    await log.install(routes)
    assert (await log.load()).routes == routes
    async with reopened(place, log) as again:
        assert (await again.load()).routes == routes


async def test_a_shorter_history_is_ignored(log: Log) -> None:
    longer = route(Cursor(1, 4))
    await log.install({"default": longer})
    await log.install({"default": ROUTE_1})
    assert (await log.load()).routes == {"default": longer}
    await log.append(Chain("us").next(), EpochGuard("default", 2))


async def test_the_last_data_batch_of_each_producer_is_marked(place: Place, log: Log) -> None:
    chain = Chain("us")
    batches = [
        chain.next(producer="p", count=2),
        chain.next(producer="q"),
        chain.next(producer="p", count=3),
        chain.next(producer="p", namespace="other"),
        chain.next(producer="p", epoch=2),
        chain.next(producer="barrier", kind=BatchKind.BARRIER),
        chain.next(producer="canary", kind=BatchKind.CANARY),
    ]
    await append_all(log, batches)
    marks = {
        "default": {
            1: {"p": ProducerMark(2, 4, 3), "q": ProducerMark(1, 3, 1)},
            2: {"p": ProducerMark(3, 8, 1)},
        },
        "other": {1: {"p": ProducerMark(1, 7, 1)}},
    }
    assert (await log.load()).producers == marks
    async with reopened(place, log) as again:
        assert (await again.load()).producers == marks


async def test_a_cut_takes_fenced_batches_out_of_the_marks(log: Log) -> None:
    chain = Chain("us")
    await append_all(log, [chain.next(producer=p) for p in ("p", "q", "p")])
    await append_all(log, [chain.next(producer="barrier", kind=BatchKind.BARRIER)])
    await append_all(log, [chain.next(producer=p) for p in ("q", "r")])
    await log.install({"default": route(Cursor(1, 4))})
    assert (await log.load()).producers == {"default": {1: {"p": ProducerMark(2, 3, 1), "q": ProducerMark(1, 2, 1)}}}


async def test_a_fenced_batch_that_comes_late_is_kept_and_not_marked(log: Log) -> None:
    chain = Chain("us")
    await log.install({"default": route(Cursor(1, 1))})
    valid, fenced = chain.next(), chain.next()
    await append_all(log, [valid, fenced])
    assert (await log.load()).producers == {"default": {1: {"p": ProducerMark(1, 1, 1)}}}
    assert await log.read("us", 0, BIG) == [valid, fenced]


async def test_the_cut_of_every_later_ownership_counts(log: Log) -> None:
    us, eu = Chain("us"), Chain("eu")
    await append_all(log, [us.next(), us.next(), us.next()])
    await append_all(log, [eu.next(epoch=2), eu.next(epoch=2)])
    await log.install({"default": route(Cursor(1, 3))})
    assert (await log.load()).producers["default"] == {1: {"p": ProducerMark(3, 3, 1)}, 2: {"p": ProducerMark(2, 2, 1)}}
    await log.install({"default": route(Cursor(1, 3), Cursor(1, 2))})
    assert (await log.load()).producers["default"] == {1: {"p": ProducerMark(2, 2, 1)}}


async def test_marks_outlive_their_batches(place: Place, log: Log) -> None:
    chain = Chain("us")
    await append_all(log, [chain.next(producer=p) for p in ("p", "q", "p", "p")])
    await log.record_cursor("eu", VersionVector({"us": 3}))
    assert await log.retain(everything()) == {"us": 4}
    await log.install({"default": route(Cursor(1, 3))})
    async with reopened(place, log) as again:
        marks = (await again.load()).producers["default"][1]
        assert marks == {"p": ProducerMark(2, 3, 1), "q": ProducerMark(1, 2, 1)}


async def test_a_fenced_batch_that_retention_drops_hides_no_valid_one(log: Log) -> None:
    chain = Chain("us")
    await append_all(log, [chain.next(producer=p) for p in ("p", "q", "p")])
    await log.install({"default": route(Cursor(1, 2))})
    await log.retain(everything())
    await log.install({"default": route(Cursor(1, 2), Cursor(1, 1))})
    assert (await log.load()).producers["default"] == {1: {"p": ProducerMark(1, 1, 1)}}


# --- read -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["just committed", "reopened"])
async def filled(request: pytest.FixtureRequest, place: Place, log: Log) -> AsyncIterator[tuple[Log, list[Batch]]]:
    """A log with five batches of 10 records and some 1,000 bytes, served from memory, or not in memory at all."""
    chain = Chain("us")
    batches = [
        chain.next(count=10, records=bytes(1_000)),
        chain.next(count=10, records=bytes(1_001), namespace="other"),
        chain.next(count=10, records=bytes(1_002), kind=BatchKind.BARRIER),
        chain.next(count=10, records=bytes(1_003), epoch=2),
        chain.next(count=10, records=bytes(1_004)),
    ]
    await append_all(log, batches)
    if request.param == "just committed":
        yield log, batches
    else:
        async with reopened(place, log) as again:
            yield again, batches


async def test_read_begins_with_the_batch_that_holds_the_next_record(filled: tuple[Log, list[Batch]]) -> None:
    log, batches = filled
    assert await log.read("us", 0, BIG) == batches
    assert await log.read("us", 9, BIG) == batches
    assert await log.read("us", 10, BIG) == batches[1:]
    assert await log.read("us", 49, BIG) == batches[4:]


async def test_read_is_empty_at_the_head_and_for_an_unknown_origin(filled: tuple[Log, list[Batch]]) -> None:
    log, _ = filled
    assert await log.read("us", 50, BIG) == []
    assert await log.read("us", 60, BIG) == []
    assert await log.read("eu", 0, BIG) == []


async def test_read_gives_at_least_one_batch_then_as_many_as_fit(filled: tuple[Log, list[Batch]]) -> None:
    log, batches = filled
    assert await log.read("us", 0, 1) == batches[:1]
    assert await log.read("us", 0, batches[0].size + batches[1].size) == batches[:2]
    assert await log.read("us", 0, batches[0].size + batches[1].size + batches[2].size - 1) == batches[:2]


async def test_read_namespace_gives_its_batches_of_one_epoch(filled: tuple[Log, list[Batch]]) -> None:
    log, (a, b, c, d, e) = filled
    assert await log.read_namespace("default", 1, "us", 0, 50, BIG) == [a, c, e]
    assert await log.read_namespace("other", 1, "us", 0, 50, BIG) == [b]
    assert await log.read_namespace("default", 2, "us", 0, 50, BIG) == [d]
    assert await log.read_namespace("default", 1, "eu", 0, 50, BIG) == []


async def test_read_namespace_keeps_within_its_bounds(filled: tuple[Log, list[Batch]]) -> None:
    log, (a, _, c, _, e) = filled

    async def read(after: int, upto: int, max_bytes: int = BIG) -> list[Batch]:
        return list(await log.read_namespace("default", 1, "us", after, upto, max_bytes))

    assert await read(9, 50) == [a, c, e], "the last sequence of a is beyond"
    assert await read(10, 50) == [c, e]
    assert await read(0, 41) == [a, c, e], "the first sequence of e is within"
    assert await read(0, 40) == [a, c]
    assert await read(10, 10) == []
    assert await read(50, 60) == []
    assert await read(0, 50, max_bytes=1) == [a]
    assert await read(0, 50, max_bytes=a.size + c.size) == [a, c]


async def test_digest_at_the_end_of_a_batch(filled: tuple[Log, list[Batch]]) -> None:
    log, batches = filled
    assert await log.digest_at("us", 0) == GENESIS_DIGEST
    assert await log.digest_at("eu", 0) == GENESIS_DIGEST
    for batch in batches:
        assert await log.digest_at("us", batch.header.last_sequence) == batch.digest
    for nowhere in (1, 9, 11, 49, 51):
        assert await log.digest_at("us", nowhere) is None
    assert await log.digest_at("eu", 10) is None


async def test_backlog_counts_the_batches_beyond(filled: tuple[Log, list[Batch]]) -> None:
    log, batches = filled
    sizes = [batch.size for batch in batches]
    assert await log.backlog_bytes("us", 0) == sum(sizes)
    assert await log.backlog_bytes("us", 9) == sum(sizes), "a batch that is held in part counts whole"
    assert await log.backlog_bytes("us", 10) == sum(sizes[1:])
    assert await log.backlog_bytes("us", 49) == sizes[4]
    assert await log.backlog_bytes("us", 50) == 0
    assert await log.backlog_bytes("us", 60) == 0
    assert await log.backlog_bytes("eu", 0) == 0


# --- damage ---------------------------------------------------------------------------------------------------


async def test_what_does_not_prove_itself_is_not_read(place: Place, log: Log) -> None:
    us, eu = Chain("us"), Chain("eu")
    batches, others = us.take(4), eu.take(2)
    await append_all(log, batches + others)
    await log.close()
    place.damage("us", 3)
    async with reopened(place, log) as again:
        assert await again.read("us", 0, BIG) == batches[:2], "what is sound before it"
        for read in (
            again.read("us", 2, BIG),
            again.read_namespace("default", 1, "us", 2, 4, BIG),
            again.digest_at("us", 3),
        ):
            with pytest.raises(CorruptLog) as refused:
                await read
            assert refused.value.details == {"origin": "us", "sequence": 3}
        assert await again.read("us", 3, BIG) == batches[3:]
        assert await again.read("eu", 0, BIG) == others


async def test_an_origin_whose_end_does_not_prove_itself_is_stopped(place: Place, log: Log) -> None:
    us, eu = Chain("us"), Chain("eu")
    await append_all(log, [us.next(), us.next(), eu.next()])
    await log.close()
    place.damage("us", 2)
    async with reopened(place, log) as again:
        assert again.heads == {"us": us.head, "eu": eu.head}, "its sequences must not be given again"
        with pytest.raises(CorruptLog) as refused:
            await again.append(us.next())
        assert refused.value.details == {"origin": "us", "sequence": 2}
        await again.append(eu.next())


# --- cursors and retention --------------------------------------------------------------------------------------


def everything(now_ms: int = 1_000_000, cap_bytes: int = BIG) -> Retention:
    """All that is older than `now_ms` may go, as far as cursors let it."""
    return Retention(now_ms=now_ms, max_age_ms=0, max_bytes=BIG, cap_bytes=cap_bytes)


async def test_cursors_are_remembered(place: Place, log: Log) -> None:
    await log.record_cursor("eu", VersionVector({"us": 1, "eu": 9}))
    await log.record_cursor("ap", VersionVector({"us": 4}))
    await log.record_cursor("eu", VersionVector({"us": 2}))
    await log.record_cursor("sa", VersionVector())
    cursors = {"eu": VersionVector({"us": 2}), "ap": VersionVector({"us": 4}), "sa": VersionVector()}
    assert (await log.load()).cursors == cursors
    async with reopened(place, log) as again:
        assert (await again.load()).cursors == cursors


async def test_retention_drops_what_is_too_old(place: Place, log: Log) -> None:
    chain = Chain("us")
    old, edge, new = (chain.next(count=10, commit_time_ms=at) for at in (100, 200, 300))
    await append_all(log, [old, edge, new])
    rule = Retention(now_ms=1_200, max_age_ms=1_000, max_bytes=BIG, cap_bytes=BIG)
    assert await log.retain(rule) == {"us": 11}
    assert await log.retain(rule) == {}
    assert (await log.load()).oldest == {"us": 11}
    async with reopened(place, log) as again:
        assert (await again.load()).oldest == {"us": 11}
        assert await again.read("us", 10, BIG) == [edge, new]


async def test_retention_drops_the_oldest_of_all_origins_until_the_log_is_small_enough(log: Log) -> None:
    us, eu = Chain("us"), Chain("eu")
    batches = [
        us.next(commit_time_ms=1),
        us.next(commit_time_ms=4),
        eu.next(commit_time_ms=2),
        eu.next(commit_time_ms=5),
    ]
    await append_all(log, batches)
    assert len({batch.size for batch in batches}) <= 2
    size = sum(batch.size for batch in batches[1::2])
    assert await log.retain(Retention(now_ms=9, max_age_ms=9, max_bytes=size, cap_bytes=BIG)) == {"us": 2, "eu": 2}


async def test_fm25_retention_waits_for_the_slowest_peer(log: Log) -> None:
    await append_all(log, Chain("us").take(5))
    await append_all(log, Chain("ap").take(2))
    await log.record_cursor("eu", VersionVector({"us": 4, "ap": 2}))
    await log.record_cursor("ap", VersionVector({"us": 2}))
    assert await log.retain(everything()) == {"us": 3}


async def test_fm25_a_peer_that_left_the_mesh_is_waited_for_no_longer(log: Log) -> None:
    await append_all(log, Chain("us").take(5))
    await log.record_cursor("eu", VersionVector({"us": 4}))
    await log.record_cursor("ap", VersionVector({"us": 2}))
    assert await log.retain(replace(everything(), peers={"eu", "sa"})) == {"us": 5}


async def test_fm25_where_nobody_else_is_left_nobody_is_waited_for(log: Log) -> None:
    await append_all(log, Chain("us").take(5))
    await log.record_cursor("eu", VersionVector({"us": 2}))
    assert await log.retain(replace(everything(), peers=set())) == {"us": 6}


async def test_retention_keeps_what_it_is_told_to_whatever_the_cap(log: Log) -> None:
    batches = Chain("us").take(5)
    await append_all(log, batches)
    rule = replace(everything(cap_bytes=0), keep_from={"us": batches[2].header.first_sequence})
    assert await log.retain(rule) == {"us": batches[2].header.first_sequence}
    assert await log.retain(replace(rule, keep_from={})) == {"us": batches[4].header.last_sequence + 1}


async def test_fm25_retention_waits_for_nobody_beyond_the_cap(log: Log) -> None:
    batches = Chain("us").take(5)
    await append_all(log, batches)
    await log.record_cursor("eu", VersionVector())
    cap = sum(batch.size for batch in batches[2:])
    assert await log.retain(everything(cap_bytes=cap)) == {"us": 3}


async def test_a_log_goes_on_after_all_its_batches_were_dropped(place: Place, log: Log) -> None:
    chain = Chain("us")
    await append_all(log, chain.take(300))
    assert await log.retain(everything()) == {"us": 301}
    async with reopened(place, log) as again:
        assert again.heads == {"us": chain.head}
        assert await again.read("us", 300, BIG) == []
        assert await again.digest_at("us", 300) == chain.head.digest, "peers compare there"
        assert await again.digest_at("us", 299) is None
        following = chain.next()
        await again.append(following)
        assert await again.read("us", 300, BIG) == [following]
        assert again.heads["us"].size == chain.head.size


@pytest.mark.parametrize("reopen", [False, True])
async def test_fm25_reading_below_what_is_retained(place: Place, log: Log, reopen: bool) -> None:
    chain = Chain("us")
    batches = [*chain.take(2), chain.next(namespace="other"), *chain.take(2)]
    await append_all(log, batches)
    await log.record_cursor("eu", VersionVector({"us": 3}))
    await log.retain(everything())
    await log.append(chain.next(namespace="other"))
    async with reopened(place, log) if reopen else same(log) as again:
        for read in (
            again.read("us", 2, BIG),
            again.read_namespace("default", 1, "us", 1, 9, BIG),
            again.read_namespace("other", 1, "us", 2, 9, BIG),
            again.backlog_bytes("us", 2),
        ):
            with pytest.raises(ResumePointDeleted) as refused:
                await read
            assert refused.value.details == {"origin": "us", "oldest": 4}
        ends = [await again.dropped_end(*of) for of in (("default", 1, "us"), ("other", 1, "us"), ("other", 2, "us"))]
        assert ends == [2, 3, 0]
        assert await again.dropped_end("default", 1, "eu") == 0
        assert await again.digest_at("us", 2) is None
        assert await again.digest_at("us", 3) == batches[2].digest, "of the last one dropped"
        assert await again.read("us", 3, 1) == batches[3:4]
        assert await again.read_namespace("default", 1, "us", 2, 9, BIG) == batches[3:], (
            "none of its batches is missing"
        )
        assert await again.backlog_bytes("us", 0) == chain.head.size
        assert await again.backlog_bytes("us", 3) == chain.head.size - sum(batch.size for batch in batches[:3])


# --- seeds --------------------------------------------------------------------------------------------------------


async def test_fm25_a_seed_stands_for_what_retention_dropped(place: Place, log: Log) -> None:
    chain = Chain("us")
    await log.install({"default": ROUTE_1})
    batches = chain.take(5)
    await append_all(log, batches)
    assert await log.seed_of("us") is None, "nothing was dropped"
    await log.record_cursor("eu", VersionVector({"us": 3}))
    await log.retain(everything())
    seed = await log.seed_of("us")
    assert seed is not None
    assert (seed.origin, seed.floor.sequence, seed.floor.digest) == ("us", 3, batches[2].digest)
    assert seed.dropped == (("default", 1, 3),)
    assert [(mark.producer_id, mark.mark.first_sequence) for mark in seed.marks] == [(batches[2].header.producer_id, 3)]


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("held", [0, 2])
async def test_fm25_a_log_that_was_sown_goes_on_behind_the_seed(
    place: Place, log: Log, held: int, reopen: bool
) -> None:
    giving, chain = await MemoryLog.open(), Chain("us")
    batches = chain.take(5)
    for each in (giving, log):
        await each.install({"default": ROUTE_1})
    await append_all(giving, batches)
    await append_all(log, batches[:held])
    await giving.retain(replace(everything(cap_bytes=0), keep_from={"us": 5}))
    seed = await giving.seed_of("us")
    assert seed is not None
    with pytest.raises(PositionMismatch):
        await log.append(batches[4])
    await log.sow(seed)
    async with reopened(place, log) if reopen else same(log) as again:
        assert again.heads["us"] == seed.floor
        assert (await again.load()).oldest == {"us": 5}
        await again.append(batches[4])
        assert await again.read("us", 4, BIG) == [batches[4]]
        assert again.heads["us"] == chain.head
        with pytest.raises(ResumePointDeleted):
            await again.read("us", held, BIG)
        with pytest.raises(ResumePointDeleted):
            await again.read_namespace("default", 1, "us", 1, 9, BIG)
        assert (await again.load()).producers == (await giving.load()).producers
        assert await again.seed_of("us") == seed, "it can be handed on"
    await giving.close()


async def test_a_seed_is_refused_by_who_holds_as_much(log: Log) -> None:
    giving, chain = await MemoryLog.open(), Chain("us")
    batches = chain.take(3)
    await append_all(giving, batches)
    await append_all(log, batches)
    await giving.retain(everything())
    seed = await giving.seed_of("us")
    assert seed is not None
    with pytest.raises(PositionMismatch):
        await log.sow(seed)
    assert await log.read("us", 0, BIG) == batches
    await giving.close()


@asynccontextmanager
async def same(log: Log) -> AsyncIterator[Log]:
    yield log


# --- listening and life -----------------------------------------------------------------------------------------


async def test_listeners_are_called_on_the_event_loop_after_each_commit(log: Log) -> None:
    chain = Chain("us")
    seen: list[int] = []

    def changed() -> None:
        assert asyncio.get_running_loop()
        seen.append(log.heads["us"].sequence)

    end = log.listen(changed)
    await log.append(chain.next())
    await log.append(chain.next())
    with pytest.raises(PositionMismatch):
        await log.append(Chain("us").next())
    assert seen == [1, 2], "each with the heads of its commit, none after a refusal"
    end()
    await log.append(chain.next())
    assert seen == [1, 2]
    end()


async def test_close_finishes_what_is_queued(place: Place, log: Log) -> None:
    chain = Chain("us")
    appends = [log.append(batch) for batch in chain.take(10)]
    await log.close()
    assert await outcomes(*appends) == [None] * 10
    async with reopened(place, log) as again:
        assert again.heads == {"us": chain.head}


async def test_a_closed_log_answers_nothing(log: Log) -> None:
    await log.close()
    await log.close()
    for call in (
        log.append(Chain("us").next()),
        log.install({}),
        log.load(),
        log.read("us", 0, 1),
        log.retain(everything()),
    ):
        with pytest.raises(ShuttingDown):
            await call


async def test_opening_twice(place: Place, log: Log) -> None:
    with pytest.raises(DataDirInUse) as refused:
        await place.open()
    assert refused.value.details["path"]
    async with reopened(place, log) as again:
        assert again.heads == {}


async def test_an_append_whose_caller_has_gone_is_carried_out(place: Place, log: Log) -> None:
    chain = Chain("us")
    with place.paused():
        abandoned = asyncio.ensure_future(log.append(chain.next()))
        abandoned.cancel()
        following = log.append(chain.next())
        await asyncio.sleep(0)
    await following
    assert log.heads == {"us": chain.head}


# --- incarnation ------------------------------------------------------------------------------------------------


async def test_a_new_log_has_the_first_incarnation(log: Log) -> None:
    assert log.incarnation == 1


async def test_an_incarnation_lasts_and_never_goes_back(place: Place) -> None:
    log = await place.open(incarnation=2)
    assert log.incarnation == 2
    await log.rebuilt(3)
    assert log.incarnation == 3
    for lower in (2, 3):
        with pytest.raises(Conflict):
            await log.rebuilt(lower)
    async with reopened(place, log) as again:
        assert again.incarnation == 3
        await again.close()
        last = await place.open(incarnation=4)
        assert last.incarnation == 4
        await last.close()
