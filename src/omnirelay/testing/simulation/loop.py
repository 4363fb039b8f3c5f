"""An asyncio event loop in virtual time, whose callbacks belong to processes.

One callback is one step. Within a process callbacks run in the order in which they became ready, as asyncio promises;
whose turn it is among the processes is drawn from the seed, because between machines nothing is promised. Time passes
only when no process has anything left to do. A paused process's callbacks wait while time and the others go on; a
killed one's never run again: no handler, no `finally`, as with kill -9.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


AT_ONCE = 100_000
"""More steps than this at one instant, and time will never pass again."""


class Stuck(Exception):
    """Nothing is ready and no timer will ever make anything so; or the opposite, and no timer ever gets its turn."""


class Process:
    """What stops as one: its tasks inherit it by their context."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: deque[asyncio.Handle] = deque()
        self.paused = False
        self.killed = False

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def runs(self) -> bool:
        return not (self.paused or self.killed)

    def context(self) -> Context:
        """For a task of this process that somebody else starts."""
        context = copy_context()
        context.run(_PROCESS.set, self)
        return context


WORLD = Process("world")
"""Whoever belongs to no process: network, nemesis, the run itself."""
_PROCESS: ContextVar[Process] = ContextVar("process", default=WORLD)


def current_process() -> Process:
    return _PROCESS.get()


class VirtualLoop(asyncio.BaseEventLoop):
    """`after_step` is called after each step with the process whose it was."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._now = 0.0
        self._rng = rng
        self._runnable: list[Process] = []
        """Every process that has callbacks; a list, so that a draw does not depend on hashes."""
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_number = 0
        self._advanced_at = 0
        self.steps = 0
        self.after_step: Callable[[Process], None] = lambda process: None
        self.defects: list[str] = []
        """What asyncio would only have logged: exceptions that nobody retrieved."""
        self.set_exception_handler(self._note_defect)

    def time(self) -> float:
        return self._now

    def spawn(self, process: Process, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """A task of another process."""
        return self.create_task(work, name=name, context=process.context())

    def kill(self, process: Process) -> None:
        """The process never runs again. What it held stays referenced, so that no finaliser runs either."""
        process.killed = True
        if process in self._runnable:
            self._runnable.remove(process)

    def bury(self, process: Process) -> None:
        """Lets a killed process run again: after the play, for its tasks to be cancelled in an orderly way."""
        process.paused = process.killed = False
        if process.queue and process not in self._runnable:
            self._runnable.append(process)

    # --- what asyncio asks of a loop ---------------------------------------------------------------------------

    def _call_soon(self, callback: Any, args: Any, context: Context | None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready_now(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        """At once, in this thread: a simulation has no other."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  (it is the caller's, as from a thread)
            future.set_exception(error)
        return future

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        raise AssertionError("a simulation has no file descriptors")

    def _run_once(self) -> None:
        process = self._choose()
        handle = process.queue.popleft()
        if not process.queue:
            self._runnable.remove(process)
        if handle.cancelled():
            return
        handle._run()
        self.steps += 1
        if self.steps - self._advanced_at > AT_ONCE:
            self._advanced_at = self.steps
            raise Stuck(f"{process.name} is among those that leave no time to pass")
        self.after_step(process)

    # --- time and turns ----------------------------------------------------------------------------------------

    def _ready_now(self, handle: asyncio.Handle) -> None:
        process: Process = handle._context.get(_PROCESS, WORLD)  # type: ignore[attr-defined]
        if not process.queue and not process.killed:
            self._runnable.append(process)
        process.queue.append(handle)

    def _choose(self) -> Process:
        while True:
            candidates = [process for process in self._runnable if not process.paused]
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                return candidates[int(self._rng.random() * len(candidates))]
            self._advance()

    def _advance(self) -> None:
        """Moves time to the next timer, and makes ready all that are due then."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Stuck("nothing is ready and no timer is set")
        self._now = max(self._now, self._timers[0][0])
        self._advanced_at = self.steps
        while self._timers and self._timers[0][0] <= self._now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled():
                self._ready_now(timer)

    def _note_defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.defects.append(f"{current_process().name}: {context['message']}: {error!r}")
