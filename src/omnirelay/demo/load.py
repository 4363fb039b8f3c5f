"""Producers and consumers that keep a ledger, in a thread with an event loop of their own.

Producers send at a steady pace whatever the mesh answers: a producer that waited for its acknowledgement before it
sent the next batch would hide an outage in fewer records. One consumer reads at every cluster, from the start.

Some producers may live where a cluster lives, and die with it: what they had to send again dies with them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from omnirelay.client.consumer import Consumer
from omnirelay.client.credentials import Credentials
from omnirelay.client.outbox import PublishResult
from omnirelay.client.producer import Producer
from omnirelay.client.reader import Fence
from omnirelay.demo.ledger import Ledger, Mark
from omnirelay.demo.workload import Workload
from omnirelay.errors import Unreachable

PRODUCERS = 4
DOOMED = ("doomed-1", "doomed-2")
"""Producers that `kill` ends without a last word."""
KILL_SECONDS = 5.0
DELIVERY_SECONDS = 15.0
"""Longest wait for the consumers to have everything that is due."""


class Load:
    """Use as `with Load(…) as load`: inside, records flow. `finish()` ends it in order, leaving the block at once."""

    def __init__(
        self,
        clusters: Mapping[str, str],
        credentials: Credentials,
        *,
        rate: int,
        seed: int,
        doomed: Sequence[str] = (),
    ) -> None:
        """`clusters`: gRPC endpoint by name; `rate`: records per second, of all producers together; `doomed`: the names
        of further producers, to be killed."""
        producers = [*(f"demo-{number}" for number in range(1, PRODUCERS + 1)), *doomed]
        self.ledger = Ledger(producers, clusters)
        self._clusters = clusters
        self._credentials = credentials
        self._rate = rate / len(producers)
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._progress = asyncio.Event()
        self._main: asyncio.Task[None] | None = None
        self._working: dict[str, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._main = self._loop.create_task(self._flow())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main is not None:
            self._ask(self._main.cancel)
        self._thread.join()

    def check(self) -> None:
        """Raises what ended the load early."""
        if self._failure is not None:
            raise self._failure

    def wait_flowing(self, seconds: float) -> None:
        """Until every producer has been acknowledged and every consumer has read. Raises Unreachable when they are not
        in time."""
        told, received = self.ledger.acknowledgements, self.ledger.received
        if not self.wait_until(lambda: all(told.values()) and all(received.values()), seconds):
            raise Unreachable(f"no records flow after {seconds:g} s")

    def wait_delivered(self, before: float) -> None:
        """Until every cluster has delivered what was handed over before that moment, so that nothing which happens from
        now on can touch it. Raises Unreachable when it has not in time."""
        due = self.ledger.handed_over(before)
        if not self.wait_until(lambda: all(due <= held for held in self.ledger.held.values()), DELIVERY_SECONDS):
            raise Unreachable(f"not everything is delivered after {DELIVERY_SECONDS:g} s")

    def kill(self, producers: Sequence[str]) -> None:
        """At once: what they had not been told of is in doubt, and what they keep is gone."""

        def kill() -> None:
            for producer in producers:
                self.ledger.kill(producer, time.monotonic())
                self._working[producer].cancel()
            killed.set()

        killed = threading.Event()
        self._ask(kill)
        killed.wait(KILL_SECONDS)
        self.check()

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true in time."""
        end = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def finish(self) -> Ledger:
        """Stops the producers, waits for their last acknowledgements and for the consumers to read them."""
        self._ask(self._stopping.set)
        self._thread.join()
        self.check()
        return self.ledger

    def _ask(self, action: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(action)

    # --- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._main is None:
            raise AssertionError("the load was not entered")
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the other thread, whatever it is
            self._failure = _innermost(error)
        finally:
            self._loop.close()

    async def _flow(self) -> None:
        async with asyncio.TaskGroup() as consuming:
            consumers = [consuming.create_task(self._consume(*cluster)) for cluster in self._clusters.items()]
            async with asyncio.TaskGroup() as producing:
                for producer in self.ledger.sent:
                    working = producing.create_task(self._produce(producer, list(self._clusters.values())))
                    self._working[producer] = working
            with suppress(TimeoutError):  # the verdict will say what is missing
                async with asyncio.timeout(DELIVERY_SECONDS):
                    await self._all_delivered()
            for consumer in consumers:
                consumer.cancel()

    async def _produce(self, name: str, endpoints: Sequence[str]) -> None:
        workload = Workload(self._seed, name)
        due = self._loop.time()
        async with Producer(endpoints, producer_id=name, credentials=self._credentials) as producer:
            while not self._stopping.is_set():
                records = workload.batch(time.time_ns() // 1_000_000)
                marks = self.ledger.send(name, records, time.monotonic())
                self._expect(name, marks, producer.send_nowait(records))
                due += len(records) / self._rate
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), due - self._loop.time())

    def _expect(self, name: str, marks: list[Mark], future: asyncio.Future[PublishResult]) -> None:
        def settled(future: asyncio.Future[PublishResult]) -> None:
            # A failure breaks the producer, which tells it to `_produce`; here it is only taken note of.
            if not future.cancelled() and future.exception() is None:
                self.ledger.acknowledge(name, marks, time.monotonic(), future.result().epoch)

        future.add_done_callback(settled)

    async def _consume(self, cluster: str, endpoint: str) -> None:
        def take_back(fence: Fence) -> None:
            self.ledger.take_back(cluster, fence.cut)

        async with Consumer([endpoint], credentials=self._credentials, on_fence=take_back) as consumer:
            async for batch in consumer.batches():
                self.ledger.deliver(cluster, batch.first, batch.records)
                self._progress.set()

    async def _all_delivered(self) -> None:
        while not self.ledger.all_delivered():
            self._progress.clear()
            await self._progress.wait()


def _innermost(error: BaseException) -> BaseException:
    """The first failure in a group of those that it caused."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
