"""One thread that owns a blocking resource: it runs what it is handed, and a tick in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Item(NamedTuple):
    job: Callable[[], Any]
    future: Future[Any]
    final: bool = False


class Worker:
    """`tick` runs after every job, and after `period_seconds` without one; it returns False to end the thread.

    A job whose future is cancelled before its turn never runs; once it runs, it runs to its end.
    """

    def __init__(self, name: str, tick: Callable[[], bool], period_seconds: float) -> None:
        self._tick = tick
        self._period_seconds = period_seconds
        self._jobs: SimpleQueue[_Item] = SimpleQueue()
        # A daemon, because a disk that hangs in a system call must not keep the process from ending.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._jobs.put(_Item(job, future))
        return future

    def stop(self, last: Callable[[], T]) -> Future[T]:
        """Runs what was handed in before, then `last`, then ends the thread without another tick."""
        future: Future[T] = Future()
        self._jobs.put(_Item(last, future, final=True))
        return future

    def _run(self) -> None:
        while True:
            try:
                item = self._jobs.get(timeout=self._period_seconds)
            except Empty:
                pass
            else:
                _settle(item.job, item.future)
                if item.final:
                    return
            if not self._tick():
                return


def _settle(job: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
        future.set_exception(error)
    else:
        future.set_result(result)
