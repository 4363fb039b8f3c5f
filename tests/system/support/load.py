"""Producers and consumers at work beside a test, in a thread of their own, with ledgers of what they saw."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from types import TracebackType
from typing import Self

from tests.system.support.ledgers import Comparison, ConsumingLedger, ProducingLedger, Sending, compare
from tests.system.support.waiting import until

from omnirelay.client.consumer import Consumer
from omnirelay.client.outbox import OutboxLimits, PublishResult
from omnirelay.client.producer import Producer
from omnirelay.demo.mesh import CLIENT, LocalMesh
from omnirelay.model.record import Record

IN_FLIGHT = 64
"""Batches that a producer may have unanswered: a kill then meets several at every stage."""
PATIENT = OutboxLimits(park_timeout_seconds=180.0)
"""No outage of a test lasts so long; producers never give up."""

_names = count(1)


class Load:
    """Use as `with Load(mesh) as load`: one consumer for each cluster runs from the first record on. Producers run in
    `with load.producing() as leg`."""

    def __init__(self, mesh: LocalMesh, namespace: str = "default", endpoints: Sequence[str] = ()) -> None:
        """`endpoints`: where producers begin to look for the active; all clusters by default."""
        self.mesh = mesh
        self.namespace = namespace
        self.endpoints = list(endpoints) or mesh.endpoints
        self.consumed = {cluster: ConsumingLedger(cluster) for cluster in mesh.clusters}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="load")
        self._consumers: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._consumers = [self._start(self._consume(cluster)) for cluster in self.mesh.clusters]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._start(_cancel_others()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for consumer in self._consumers:
            if not consumer.cancelled() and (failure := consumer.exception()):
                raise failure

    def _start(self, work: Awaitable[None]) -> Future[None]:
        async def run() -> None:
            await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    @contextmanager
    def producing(
        self, producers: int = 2, records: int = 5, pause_seconds: float = 0.01, padding: int = 0
    ) -> Iterator[Leg]:
        """`producers` new producers, each of which hands over a batch of `records` every `pause_seconds`."""
        leg = Leg(self)
        working = [
            self._start(self._produce(leg, f"p{next(_names)}", records, pause_seconds, padding))
            for _ in range(producers)
        ]
        try:
            yield leg
        except BaseException:
            # The test has failed: what is unanswered may stay so, and nobody should wait for it.
            for work in working:
                work.cancel()
            raise
        leg.end()
        for work in working:
            work.result()

    def publish(self, ledger: ProducingLedger, producer: str, batches: int, records: int = 1, padding: int = 0) -> None:
        """So many batches of one producer, one after the other; returns once all are acknowledged."""

        async def work() -> None:
            async with self._producer(producer) as sending_to:
                for _ in range(batches):
                    sending = ledger.sending(producer, records, padding)
                    result = await sending_to.send(Record(b"", value) for value in sending.values)
                    ledger.acknowledged(sending, result.cluster, result.epoch)

        self._start(work()).result()

    def settle(self, ledger: ProducingLedger, clusters: Sequence[str] = ()) -> None:
        """Returns once every cluster (or those named) has delivered everything that the ledger was promised."""
        promised = set(ledger.promised)
        for cluster in clusters or self.consumed:
            delivered = self.consumed[cluster]
            until(lambda d=delivered: promised <= set(d.delivered), f"{cluster} delivers all that was acknowledged")

    def compare(self, ledger: ProducingLedger) -> Comparison:
        return compare(ledger, self.consumed)

    def _producer(self, name: str) -> Producer:
        credentials = self.mesh.credentials(CLIENT)
        return Producer(
            self.endpoints, producer_id=name, namespace=self.namespace, credentials=credentials, limits=PATIENT
        )

    async def _produce(self, leg: Leg, name: str, records: int, pause_seconds: float, padding: int) -> None:
        async with self._producer(name) as producer:
            while not leg.ended:
                if producer.unacknowledged < IN_FLIGHT:
                    sending = leg.ledger.sending(name, records, padding)
                    future = producer.send_nowait([Record(b"", value) for value in sending.values])
                    future.add_done_callback(_note(leg, sending))
                await asyncio.sleep(pause_seconds)

    async def _consume(self, cluster: str) -> None:
        ledger = self.consumed[cluster]

        def fenced(_: object) -> None:
            ledger.fences += 1

        consumer = Consumer(
            [self.mesh.members[cluster].grpc],
            namespace=self.namespace,
            credentials=self.mesh.credentials(CLIENT),
            on_fence=fenced,
            reconnect_timeout_seconds=600.0,
        )
        async with consumer:
            async for batch in consumer.batches():
                ledger.deliver(record.value for record in batch.records)


class Leg:
    """A stretch of production with its own ledger."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.ledger = ProducingLedger()
        self.ended = False
        self.failures: list[BaseException] = []
        """What became of batches that were given up."""

    def end(self) -> None:
        self.ended = True

    def flowing(self) -> None:
        """Returns once each of the leg's producers has had a batch acknowledged that it handed over after this call."""
        begin = len(self.ledger.sendings)
        producers = {sending.producer for sending in self.ledger.sendings}

        def answered() -> bool:
            if self.failures:
                raise self.failures[0]  # a producer broke: something that it was promised is missing
            new = self.ledger.sendings[begin:]
            served = {sending.producer for sending in new if sending.acknowledged_at}
            return bool(served) and served >= producers

        until(answered, "every producer is acknowledged again")

    def comparison(self) -> Comparison:
        """Of everything that was produced, once it is delivered everywhere. Call it after the leg."""
        assert self.ledger.unanswered == 0, f"{self.ledger.unanswered} batches were never answered"
        self._load.settle(self.ledger)
        return self._load.compare(self.ledger)


def _note(leg: Leg, sending: Sending) -> Callable[[asyncio.Future[PublishResult]], None]:
    def note(done: asyncio.Future[PublishResult]) -> None:
        if done.cancelled():
            return
        if (failure := done.exception()) is not None:
            leg.failures.append(failure)
        else:
            leg.ledger.acknowledged(sending, done.result().cluster, done.result().epoch)

    return note


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
