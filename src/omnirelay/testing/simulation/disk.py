"""A log on a disk that takes its time, fills up, and loses power in the middle of a commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Self

from omnirelay.errors import StorageUnavailable
from omnirelay.model.batch import Batch
from omnirelay.ports.log import EpochGuard
from omnirelay.testing.memory_log import MemoryDisk, MemoryLog

USUAL_SECONDS = 0.003

Appended = Callable[[Batch, int | None], None]
"""(batch, epoch of its namespace installed on this disk) just before the batch is appended."""


class Disk(MemoryDisk):
    """The machine's disk: what outlives the process, and how the hardware behaves."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self.seconds = USUAL_SECONDS
        """About how long a commit takes."""
        self.full = False
        self.commits = 0
        self.due = 0.0
        """When the last commit that was begun ends."""

    async def sync(self) -> None:
        seconds = self._rng.expovariate(1.0) * self.seconds
        self.due = asyncio.get_running_loop().time() + seconds
        await asyncio.sleep(seconds)
        if self.full:
            raise StorageUnavailable("no space left on device", reason="no space left on device")
        self.commits += 1


class SimulatedLog(MemoryLog):
    """`appended` hears of each batch at the very moment at which the disk takes it."""

    appended: Appended

    @classmethod
    async def on(cls, disk: Disk, appended: Appended) -> Self:
        log = await cls.open(disk)
        log.before_commit = disk.sync
        log.appended = appended
        return log

    def lose_power(self, rng: random.Random) -> None:
        """Of what waits for the disk, a prefix has reached it."""
        self.crash(reached=rng.randint(0, self.waiting))

    def _append(self, batch: Batch, guard: EpochGuard | None) -> None:
        route = self._disk.routes.get(batch.header.namespace)
        super()._append(batch, guard)
        self.appended(batch, route.epoch if route else None)
