"""CoordinationStore on a file that several processes of one machine share.

SQLite's lock makes transactions of all processes one sequence, its WAL lets readers go on meanwhile. What SQLite
lacks is a wake-up across processes: each adapter's thread looks at the store's revision every 15 ms. That is one small
read from shared memory; nearly all of its cost is waking the thread (under 1 % of a core; at 10 ms it was just above).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeVar

from omnirelay.coordination import limits
from omnirelay.coordination.sqlite import boot
from omnirelay.coordination.sqlite.database import Database
from omnirelay.coordination.sqlite.worker import Worker
from omnirelay.coordination.watch import Horizon, Page, Watch
from omnirelay.errors import CoordinationUnavailable
from omnirelay.ports.coordination import Compare, Entry, Outcome, Snapshot, Write

T = TypeVar("T")


class SqliteCoordination:
    """One process's handle. Made by `open`; belongs to the event loop it was opened in."""

    def __init__(self, database: Database, *, timeout_seconds: float, poll_seconds: float) -> None:
        self._database = database
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._horizon = Horizon()
        self._announced: int | None = None
        self._closed = False
        self._worker = Worker("coordination", self._tick, poll_seconds)

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str],
        *,
        timeout_seconds: float = 2.0,
        poll_seconds: float = 0.015,
        keep_revisions: int = 10_000,
        boottime: Callable[[], float] = boot.boottime,
        boot_id: str | None = None,
    ) -> SqliteCoordination:
        """Opens the store, and creates it where there is none.

        `timeout_seconds` bounds every call; SQLite's lock is waited for half as long, so that a call that stands behind
        one that waits has its own time left. `poll_seconds` bounds how late other processes' changes and leases that
        run out are seen. `keep_revisions` is how far back a watch may start. `boottime` and
        `boot_id` are the machine's own unless a test says otherwise. Raises CoordinationUnavailable.
        """
        database = Database(
            Path(path),
            boottime=boottime,
            boot_id=boot_id or boot.boot_id(),
            keep_revisions=keep_revisions,
            busy_seconds=timeout_seconds / 2,
        )
        store = cls(database, timeout_seconds=timeout_seconds, poll_seconds=poll_seconds)
        try:
            await store._call(database.poll)
        except BaseException:
            await store.close()
            raise
        return store

    async def get(self, key: str) -> Entry | None:
        return await self._call(partial(self._database.get, limits.check_key(key)))

    async def list(self, prefix: str) -> Snapshot:
        return await self._call(partial(self._database.list, limits.check_prefix(prefix)))

    async def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> Outcome:
        limits.check_transaction(compares, writes)
        return await self._call(partial(self._database.transact, tuple(compares), tuple(writes)))

    def watch(self, prefix: str, from_revision: int) -> Watch:
        return Watch(limits.check_prefix(prefix), limits.check_start(from_revision), self._horizon, self._changes)

    async def grant_lease(self, ttl_seconds: float) -> int:
        return await self._call(partial(self._database.grant_lease, limits.check_ttl(ttl_seconds)))

    async def keep_alive(self, lease: int) -> bool:
        return await self._call(partial(self._database.keep_alive, lease))

    async def revoke_lease(self, lease: int) -> None:
        await self._call(partial(self._database.revoke_lease, lease))

    async def close(self) -> None:
        """Lets the calls under way finish, ends the watches, and gives the file back. Closing twice is no error."""
        if self._closed:
            return
        self._closed = True
        self._horizon.close()
        closing = asyncio.wrap_future(self._worker.stop(self._database.close))
        await asyncio.wait([closing], timeout=self._timeout_seconds)

    async def _changes(self, prefix: str, from_revision: int) -> Page:
        return await self._call(partial(self._database.changes, prefix, from_revision))

    async def _call(self, job: Callable[[], T]) -> T:
        if self._closed:
            raise CoordinationUnavailable("the coordination store's adapter is closed")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asyncio.wrap_future(self._worker.submit(job))
        except TimeoutError as error:
            raise CoordinationUnavailable(f"the coordination store took more than {self._timeout_seconds} s") from error

    def _tick(self) -> bool:
        """On the worker's thread. Tells the watches what is new; False when nobody is left to hear it."""
        try:
            revision = self._database.poll()
        except CoordinationUnavailable as error:
            self._announced = None
            return self._tell(partial(self._horizon.fail, error.message))
        if revision == self._announced:
            return True
        self._announced = revision
        return self._tell(partial(self._horizon.reach, revision))

    def _tell(self, news: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(news)
        except RuntimeError:  # the loop is closed
            self._database.close()
            return False
        return True
