"""A disk without space stops acknowledgements and nothing else; with space again, the log goes on by itself."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from omnirelay.errors import StorageUnavailable
from omnirelay.model.batch import Batch
from omnirelay.ports.log import Retention
from omnirelay.storage import SqliteLog
from omnirelay.testing.batches import Chain

OpenLog = Callable[..., Awaitable[SqliteLog]]

BIG = 1 << 30
MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting needs root ({mounted.stderr.strip()}); a limit on pages takes its place below")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def limit_pages(log: SqliteLog, pages: int) -> None:
    log._writer._ledger._connection.execute(f"PRAGMA max_page_count = {pages}")


async def fill(log: SqliteLog, chain: Chain) -> tuple[list[Batch], Batch, StorageUnavailable]:
    """Appends until the disk refuses: what was acknowledged, what was refused, and how."""
    acknowledged: list[Batch] = []
    while True:
        batch = chain.next(records=os.urandom(200_000))
        try:
            await log.append(batch)
        except StorageUnavailable as refusal:
            return acknowledged, batch, refusal
        acknowledged.append(batch)


async def test_fm36_a_full_file_system(small_disk: Path, open_log: OpenLog) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * MIB))
    log = await open_log(small_disk / "log")
    acknowledged, refused, error = await fill(log, Chain("us"))
    assert acknowledged
    assert error.details["reason"] == "disk full"
    ballast.unlink()
    await log.append(refused)
    await log.close()
    again = await open_log(small_disk / "log")
    assert await again.read("us", 0, BIG) == [*acknowledged, refused]


async def test_fm36_a_full_database(tmp_path: Path, open_log: OpenLog) -> None:
    """The same for those who may not mount: SQLite's own limit of pages."""
    log = await open_log(tmp_path / "log")
    limit_pages(log, 100)
    acknowledged, refused, error = await fill(log, Chain("us"))
    assert acknowledged
    assert error.details["reason"] == "disk full"
    assert list(log.heads.values()) == [(await log.load()).heads["us"]]
    limit_pages(log, 10_000)
    await log.append(refused)
    await log.close()
    again = await open_log(tmp_path / "log")
    assert await again.read("us", 0, BIG) == [*acknowledged, refused]


async def test_retention_makes_space(tmp_path: Path, open_log: OpenLog) -> None:
    log = await open_log(tmp_path / "log")
    limit_pages(log, 100)
    _, refused, _ = await fill(log, Chain("us"))
    assert await log.retain(Retention(now_ms=10**6, max_age_ms=0, max_bytes=BIG, cap_bytes=BIG))
    await log.append(refused)


async def test_a_group_fails_as_a_whole_and_each_of_its_callers_is_told(tmp_path: Path, open_log: OpenLog) -> None:
    log = await open_log(tmp_path / "log")
    us, eu = Chain("us"), Chain("eu")
    limit_pages(log, 30)
    small, large = eu.next(), us.next(records=bytes(2 * MIB))
    results = await asyncio.gather(log.append(small), log.append(large), return_exceptions=True)
    assert isinstance(results[1], StorageUnavailable)
    assert (await log.load()).heads == log.heads
    if results[0] is None:
        assert log.heads == {"eu": eu.head}, "it had a commit of its own"
    else:
        assert log.heads == {}


async def test_a_disk_that_does_not_even_read_shows_nothing_that_was_not_committed(
    tmp_path: Path, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    log = await open_log(tmp_path / "log")
    chain = Chain("us")
    await log.append(chain.next())
    committed, batch = log.heads, chain.next()
    with monkeypatch.context() as patch:
        patch.setattr("omnirelay.storage.ledger.Ledger.commit", refuse)
        patch.setattr("omnirelay.storage.ledger.select_floors", refuse)
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="I/O error"):
                await log.append(batch)
            assert log.heads == committed
    await log.append(batch)
    assert log.heads == {"us": chain.head}
