"""Groups: how many commits there are, and that one large group does not become one large transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from omnirelay.model.batch import Batch
from omnirelay.storage import SqliteLog
from omnirelay.testing.batches import Chain

OpenLog = Callable[..., Awaitable[SqliteLog]]

MIB = 1024 * 1024


async def commits_of(log: SqliteLog, path: Path, batches: list[Batch]) -> list[int]:
    """The head after each commit, when all the batches are queued while another connection holds the lock."""
    seen: list[int] = []
    end = log.listen(lambda: seen.append(log.heads["us"].sequence))
    with closing(sqlite3.connect(path / "log.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        appends = [log.append(batch) for batch in batches]
        other.execute("ROLLBACK")
    await asyncio.gather(*appends)
    end()
    return seen


async def test_what_waits_shares_a_commit_up_to_a_number(tmp_path: Path, open_log: OpenLog) -> None:
    log = await open_log(tmp_path)
    seen = await commits_of(log, tmp_path, Chain("us").take(1_200))
    sizes = [b - a for a, b in zip([0, *seen], seen, strict=False)]
    assert sum(sizes) == 1_200
    assert max(sizes) == 512
    assert len(sizes) <= 4


async def test_what_waits_shares_a_commit_up_to_a_size(tmp_path: Path, open_log: OpenLog) -> None:
    log = await open_log(tmp_path)
    chain = Chain("us")
    seen = await commits_of(log, tmp_path, [chain.next(records=bytes(MIB)) for _ in range(12)])
    sizes = [b - a for a, b in zip([0, *seen], seen, strict=False)]
    assert max(sizes) == 4
    assert len(sizes) <= 4


async def test_a_defect_in_the_writer_reaches_the_caller_and_does_not_end_it(
    tmp_path: Path, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await open_log(tmp_path)
    chain = Chain("us")
    batch = chain.next()
    with monkeypatch.context() as patch:
        patch.setattr("omnirelay.storage.ledger._batch_row", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await log.append(batch)
    await log.append(batch)
    assert log.heads == {"us": chain.head}
