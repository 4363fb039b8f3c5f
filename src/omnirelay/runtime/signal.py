"""Something changed: wakes every waiter, loses no change, queues nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

LEAST_SECONDS = 0.001
"""No wait is shorter: what rounding leaves of one, between the caller's clock and the loop's, would be waited for again
and again at the same instant."""


class Signal:
    """A counter to wait on. Take `version` before looking at the state; `wait_beyond(version)` then returns at once if
    anything changed since, so no wake-up is lost between looking and waiting."""

    def __init__(self) -> None:
        self.version = 0
        self._waiters: dict[asyncio.Future[None], None] = {}
        """Woken in the order in which they came."""

    def fire(self) -> None:
        self.version += 1
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_beyond(self, version: int, seconds: float | None = None) -> bool:
        """True on a change, False when `seconds` passed without one."""
        if self.version > version:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            async with asyncio.timeout(None if seconds is None else max(seconds, LEAST_SECONDS)):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.pop(waiter, None)
        return True


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Returns when the first of them has ended; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
