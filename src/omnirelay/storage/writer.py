"""The one thread that changes the log, and its group commit.

Everything that is queued while a commit is under way shares the next one, up to a bound, so the fsync's cost is divided
by however many wait. Rejected: a timer that waits for company (it adds latency when there is none, and nothing when
there is much).
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from omnirelay.errors import OmniRelayError, PositionMismatch
from omnirelay.model.batch import Batch
from omnirelay.ports.log import Head
from omnirelay.storage.database import unavailable
from omnirelay.storage.ledger import Ledger

_GROUP_BYTES = 4 * 1024 * 1024
_GROUP_COMMANDS = 512


@dataclass(frozen=True, slots=True)
class Command:
    """One change, and the future on the event loop that learns what became of it, if anybody waits."""

    work: Callable[[Ledger], Any]
    future: asyncio.Future[Any] | None
    batch: Batch | None = None
    """Of an append. Its failure bars the batch's origin."""
    seen: int = 0
    """Number of the last report that whoever queued it could know."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a group: each command with its result or its error, and the heads after it."""

    number: int
    outcomes: list[tuple[Command, Any]]
    heads: Mapping[str, Head] | None
    """None while the disk does not even tell what it holds."""

    @property
    def committed(self) -> bool:
        return any(not isinstance(outcome, Exception) for _, outcome in self.outcomes)


class GroupWriter:
    def __init__(self, ledger: Ledger, report: Callable[[Report], None]) -> None:
        """`report` is called on the writer's thread, once per group, in order."""
        self._ledger = ledger
        self._report = report
        self._queue: SimpleQueue[Command | None] = SimpleQueue()
        self._number = 0
        self._barred: dict[str, int] = {}
        """Origin → report of its last failed append. What was queued without knowing that report fails too."""
        self._thread = threading.Thread(target=self._run, name="omnirelay-log-writer", daemon=True)
        self._thread.start()

    def submit(self, command: Command) -> None:
        self._queue.put(command)

    def stop(self) -> None:
        """Blocks until all that is queued is done."""
        self._queue.put(None)
        self._thread.join()
        self._ledger.close()

    def _run(self) -> None:
        running = True
        while running:
            group, running = self._next_group()
            if group:
                self._report(self._commit(group))

    def _next_group(self) -> tuple[list[Command], bool]:
        """Waits for a command, then takes what else is queued. False with it when that was the last."""
        group: list[Command] = []
        size = 0
        command = self._queue.get()
        while command is not None:
            group.append(command)
            size += command.batch.size if command.batch else 0
            if size >= _GROUP_BYTES or len(group) >= _GROUP_COMMANDS:
                return group, True
            try:
                command = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _commit(self, group: list[Command]) -> Report:
        self._number += 1
        try:
            self._ledger.begin()
            outcomes = [(command, self._carry_out(command)) for command in group]
            self._ledger.commit()
        except sqlite3.Error as error:
            return self._abandon(group, unavailable(error))
        except Exception as error:  # noqa: BLE001 - a defect must reach the callers instead of ending the thread
            return self._abandon(group, error)
        return Report(self._number, outcomes, dict(self._ledger.heads))

    def _carry_out(self, command: Command) -> Any:
        """The result, or the refusal, which has changed nothing."""
        if barring := self._barring(command):
            return barring  # it bars nobody anew, or whoever tries again while this one waits would be refused too
        try:
            return command.work(self._ledger)
        except OmniRelayError as refusal:
            self._bar(command)
            return refusal

    def _barring(self, command: Command) -> PositionMismatch | None:
        if command.batch is None or command.seen >= self._barred.get(command.batch.header.origin, 0):
            return None
        origin = command.batch.header.origin
        head = self._ledger.heads.get(origin, Head()).sequence
        return PositionMismatch(f"queued behind an append of {origin} that failed", origin=origin, head=head)

    def _bar(self, command: Command) -> None:
        if command.batch is not None:
            self._barred[command.batch.header.origin] = self._number

    def _abandon(self, group: list[Command], reason: Exception) -> Report:
        self._ledger.abandon()
        for command in group:
            self._bar(command)
        heads = None if self._ledger.stale else dict(self._ledger.heads)
        return Report(self._number, [(command, reason) for command in group], heads)
