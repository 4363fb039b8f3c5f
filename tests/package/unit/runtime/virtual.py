"""An event loop whose time is virtual: where nothing is ready it jumps to the next timer, so a lease takes no time."""

import asyncio
import functools
import selectors


class _Jumping(selectors.DefaultSelector):
    """Never waits: what the loop would have slept for is added to its time instead."""

    loop: "VirtualLoop"

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout:
            self.loop.now += timeout
        if not ready and timeout is None:
            raise RuntimeError("every task waits for another")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        selector = _Jumping()
        selector.loop = self
        self.now = 1000.0
        super().__init__(selector)

    def time(self):
        return self.now

    def run_in_executor(self, executor, function, *arguments):
        """At once: a thread would take real time."""
        done = self.create_future()
        try:
            done.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001  (it is the caller's)
            done.set_exception(error)
        return done


def in_virtual_time(test):
    """Runs an async test in a loop of its own."""

    @functools.wraps(test)
    def run(*arguments, **named):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*arguments, **named))

    return run


class LoopClock:
    """The loop's time; the wall clock is `ahead_seconds` of what it was when the loop began."""

    EPOCH_MS = 1_769_828_645_678

    def __init__(self, ahead_seconds: float = 0.0):
        self.ahead_seconds = ahead_seconds

    def monotonic(self):
        return asyncio.get_running_loop().time()

    def wall_ms(self):
        return self.EPOCH_MS + round((self.monotonic() + self.ahead_seconds) * 1000)
