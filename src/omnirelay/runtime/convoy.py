"""Callers that change the same thing: they go in turn, and whoever has the turn takes along who waits behind.

Those that try at once make each other fail, and the more there are, the longer each of them takes; in a convoy the
last of many waits for the store about as often as the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False, slots=True)
class Passenger(Generic[T, R]):
    what: T
    done: asyncio.Future[R]

    def refuse(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # whoever gave up does not ask


class Convoy(Generic[T, R]):
    """`choose` names those of who waits, in the order of their coming, that can go together: at least one. `drive` ends
    each one's future; what it raises is told to those whose future is still open."""

    def __init__(
        self,
        choose: Callable[[Sequence[Passenger[T, R]]], Sequence[Passenger[T, R]]],
        drive: Callable[[Sequence[Passenger[T, R]]], Awaitable[None]],
    ) -> None:
        self._choose = choose
        self._drive = drive
        self._turn = asyncio.Lock()
        self._waiting: list[Passenger[T, R]] = []

    async def join(self, what: T) -> R:
        """What became of it. A caller that gives up before its turn is forgotten; later it happens all the same."""
        mine: Passenger[T, R] = Passenger(what, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        try:
            async with self._turn:
                if mine in self._waiting:
                    taken = self._choose(tuple(self._waiting))
                    self._waiting = [each for each in self._waiting if each not in taken]
                    # Whoever was taken along has to hear, even if the caller whose turn it is gives up.
                    await asyncio.shield(asyncio.ensure_future(self._go(taken)))
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
        return await asyncio.shield(mine.done)

    async def _go(self, taken: Sequence[Passenger[T, R]]) -> None:
        try:
            await self._drive(taken)
        except Exception as error:  # noqa: BLE001  (it belongs to whoever waits for it)
            for passenger in taken:
                passenger.refuse(error)
