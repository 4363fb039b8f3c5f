"""The writer's thread against a ledger that fails when told to."""

from __future__ import annotations

import sqlite3
import threading
from queue import SimpleQueue
from typing import Any, cast

from omnirelay.errors import PositionMismatch, StorageUnavailable
from omnirelay.model.batch import Batch
from omnirelay.ports.log import Head
from omnirelay.storage.ledger import Ledger
from omnirelay.storage.writer import Command, GroupWriter, Report
from omnirelay.testing.batches import Chain


class FailingOnce:
    """A ledger whose first transaction waits for `go`, then fails."""

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.stale = False
        self.waiting, self.go = threading.Event(), threading.Event()
        self.failed = False

    def begin(self) -> None:
        if not self.failed:
            self.failed = True
            self.waiting.set()
            self.go.wait()
            raise sqlite3.OperationalError("disk I/O error")

    def commit(self) -> None: ...

    def abandon(self) -> None: ...

    def close(self) -> None: ...


def test_what_came_before_the_failure_was_told_fails_although_it_would_fit() -> None:
    ledger, reports = FailingOnce(), SimpleQueue[Report]()
    writer = GroupWriter(cast(Ledger, ledger), reports.put)
    us, eu = Chain("us").next(), Chain("eu").next()

    def append(batch: Batch, seen: int) -> None:
        writer.submit(Command(lambda _: "stored", None, batch, seen))

    append(us, seen=0)
    ledger.waiting.wait()
    append(us, seen=0)
    append(eu, seen=0)
    ledger.go.set()
    first = reports.get()
    append(us, seen=first.number)
    writer.stop()
    later: list[Any] = []
    while not reports.empty():
        later += [outcome for _, outcome in reports.get().outcomes]
    assert [type(outcome) for _, outcome in first.outcomes] == [StorageUnavailable]
    assert [type(later[0]), *later[1:]] == [PositionMismatch, "stored", "stored"]
