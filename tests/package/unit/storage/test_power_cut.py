"""After a power cut: some beginning of what was written, sound, and never less than was synced."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from omnirelay.errors import CorruptLog
from omnirelay.model.batch import Batch
from omnirelay.model.routing import Ownership, Route
from omnirelay.ports.log import EpochGuard, Head
from omnirelay.storage import SqliteLog
from omnirelay.testing.batches import Chain, head_after

OpenLog = Callable[..., Awaitable[SqliteLog]]

BIG = 1 << 30


def cut(source: Path, target: Path, wal_bytes: int) -> None:
    """The files as they are, with so much of the WAL. What SQLite shares between processes is gone with the power."""
    target.mkdir()
    shutil.copy(source / "log.db", target / "log.db")
    (target / "log.db-wal").write_bytes((source / "log.db-wal").read_bytes()[:wal_bytes])


async def committed(log: SqliteLog) -> list[Batch]:
    """Ten batches in ten commits, of sizes that fill several pages."""
    chain, batches = Chain("us"), []
    for number in range(10):
        batches.append(chain.next(count=3, records=bytes([number]) * 5_000 * number))
        await log.append(batches[-1])
    return batches


async def test_any_part_of_the_wal_is_a_sound_beginning(tmp_path: Path, open_log: OpenLog) -> None:
    log = await open_log(tmp_path / "log")
    batches = await committed(log)
    heads = [Head()]
    for batch in batches:
        heads.append(head_after(heads[-1], batch))
    size = (tmp_path / "log" / "log.db-wal").stat().st_size
    found = set()
    for number, wal_bytes in enumerate([0, size, *random.Random(20).sample(range(size), 40)]):
        cut(tmp_path / "log", tmp_path / f"cut-{number}", wal_bytes)
        again = await open_log(tmp_path / f"cut-{number}")
        head = again.heads.get("us", Head())
        assert head in heads
        count = heads.index(head)
        assert await again.read("us", 0, BIG) == batches[:count]
        marks = (await again.load()).producers.get("default", {}).get(1, {})
        assert [mark.producer_sequence for mark in marks.values()] == ([count] if count else [])
        for batch in batches[count:]:
            await again.append(batch)
        assert again.heads == {"us": heads[-1]}
        await again.close()
        found.add(count)
    assert len(found) > 5, "the cuts went through different commits"
    assert {0, 10} <= found, "nothing of the WAL, and all of it"


async def test_fm37_bytes_that_never_reached_the_disk_end_the_log_there(tmp_path: Path, open_log: OpenLog) -> None:
    log = await open_log(tmp_path / "log")
    batches = await committed(log)
    wal = (tmp_path / "log" / "log.db-wal").read_bytes()
    middle = wal.index(batches[6].records[:4_000])
    cut(tmp_path / "log", tmp_path / "cut", len(wal))
    (tmp_path / "cut" / "log.db-wal").write_bytes(wal[:middle] + bytes(4_096) + wal[middle + 4_096 :])
    again = await open_log(tmp_path / "cut")
    assert await again.read("us", 0, BIG) == batches[:6]


async def test_an_installed_epoch_is_on_the_disk_before_it_is_used(tmp_path: Path, open_log: OpenLog) -> None:
    log = await open_log(tmp_path / "log")
    await log.install({"default": Route("default", (Ownership(3, "us", "us"),))})
    cut(tmp_path / "log", tmp_path / "cut", (tmp_path / "log" / "log.db-wal").stat().st_size)
    again = await open_log(tmp_path / "cut")
    await again.append(Chain("us").next(epoch=3), EpochGuard("default", 3))


async def test_every_commit_is_synced(tmp_path: Path, open_log: OpenLog) -> None:
    """SQLite's own words for it: FULL is 2, and in WAL mode means an fsync of the WAL in each commit (I4)."""
    log = await open_log(tmp_path / "log")
    connection: sqlite3.Connection = log._writer._ledger._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE batch SET records = zeroblob(100) WHERE last_sequence = 6",
        "UPDATE batch SET header = zeroblob(10) WHERE last_sequence = 6",
        "UPDATE batch SET digest = zeroblob(32) WHERE last_sequence = 6",
        "UPDATE batch SET first_sequence = 5 WHERE last_sequence = 6",
        "UPDATE batch SET last_sequence = 7 WHERE last_sequence = 6",
        "DELETE FROM batch WHERE last_sequence = 3",
    ],
)
async def test_whatever_is_wrong_with_a_row_it_is_not_given_out(tmp_path: Path, open_log: OpenLog, damage: str) -> None:
    log = await open_log(tmp_path / "log")
    await committed(log)
    await log.close()
    with closing(sqlite3.connect(tmp_path / "log" / "log.db")) as database, database:
        assert database.execute(damage).rowcount == 1
    log = await open_log(tmp_path / "log")
    with pytest.raises(CorruptLog) as refused:
        await log.read("us", 3, BIG)
    assert refused.value.details["origin"] == "us"
    assert refused.value.details["sequence"] in (4, 5)


async def test_what_sqlite_itself_finds_damaged_is_a_corrupt_log(tmp_path: Path, open_log: OpenLog) -> None:
    log = await open_log(tmp_path / "log")
    batches = await committed(log)
    await log.close()
    database = tmp_path / "log" / "log.db"
    content = bytearray(database.read_bytes())
    page = content.index(batches[4].header_bytes) // 16_384 * 16_384
    content[page] = 0xFF  # no kind of page
    database.write_bytes(content)
    log = await open_log(tmp_path / "log")
    with pytest.raises(CorruptLog) as refused:
        await log.read("us", 12, BIG)
    assert refused.value.details == {"origin": "us", "sequence": 13}
    assert await log.read("us", 27, BIG) == batches[9:]
    await log.append(Chain("eu").next())
