"""The one way in which a system test waits: for a condition, with a deadline, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 30.0
"""Far beyond what anything here takes, so that a slow machine is no reason to fail."""
POLL_SECONDS = 0.01


def until(look: Callable[[], T], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """The first truthy thing that `look` sees. Raises AssertionError, which tells `what` did not come and what was."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end, f"after {seconds:g} s still not: {what} (last seen: {seen!r})"
        time.sleep(POLL_SECONDS)
    return seen


async def until_async(look: Callable[[], T], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """The same for a test that runs an event loop."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end, f"after {seconds:g} s still not: {what} (last seen: {seen!r})"
        await asyncio.sleep(POLL_SECONDS)
    return seen
