"""Watches over a store that can be read from a revision on.

A watch holds a place, not a queue: it learns from the horizon that there is something new and reads it when it is
asked for the next element. A slow reader costs no memory, and a missed wake-up costs time but never a change.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from omnirelay.errors import CoordinationUnavailable
from omnirelay.ports.coordination import Change


@dataclass(frozen=True, slots=True)
class Page:
    """Changes of a prefix, grouped by revision, in order."""

    elements: Sequence[Sequence[Change]]
    next_revision: int
    """Where to read on; every revision before it is either in `elements` or does not touch the prefix."""


ReadPage = Callable[[str, int], Awaitable[Page]]
"""(prefix, from_revision) → page. Raises WatchCompacted or CoordinationUnavailable."""


class Horizon:
    """The latest revision that an adapter knows of, and the watches that wait for a later one."""

    def __init__(self) -> None:
        self._revision = 0
        self._failure: str | None = None
        self._closed = False
        self._news = asyncio.Event()

    def reach(self, revision: int) -> None:
        """The store answers, and is at this revision."""
        self._failure = None
        self._revision = max(self._revision, revision)
        self._announce()

    def fail(self, message: str) -> None:
        """The store does not answer. Until `reach`, whoever waits or comes to wait is told so."""
        self._failure = message
        self._announce()

    def close(self) -> None:
        self._closed = True
        self._announce()

    async def beyond(self, revision: int) -> bool:
        """Waits for a later revision; False when the adapter was closed. Raises CoordinationUnavailable."""
        while not self._closed:
            if self._failure is not None:
                raise CoordinationUnavailable(self._failure)
            if self._revision > revision:
                return True
            await self._news.wait()
        return False

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Watch(AsyncIterator[Sequence[Change]]):
    """A class and not an async generator, because a generator ends when the wait for its next element is cancelled:
    here `wait_for(anext(watch), …)` may time out and be called again, and nothing is lost."""

    def __init__(self, prefix: str, from_revision: int, horizon: Horizon, read: ReadPage) -> None:
        self._prefix = prefix
        self._next_revision = from_revision
        self._horizon = horizon
        self._read = read
        self._elements: deque[Sequence[Change]] = deque()

    async def __anext__(self) -> Sequence[Change]:
        while not self._elements:
            if not await self._horizon.beyond(self._next_revision - 1):
                raise StopAsyncIteration
            page = await self._read(self._prefix, self._next_revision)
            self._elements.extend(page.elements)
            self._next_revision = page.next_revision
        return self._elements.popleft()
