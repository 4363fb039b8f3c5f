"""A consumer: the records of a namespace in its order, from any cluster, through disconnections and failovers."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Literal, Self, TypeAlias

import grpc.aio

from omnirelay.client.channels import Channels
from omnirelay.client.credentials import Credentials
from omnirelay.client.finder import Finder
from omnirelay.client.reader import DeliveredBatch, Delivery, Fence, Reader
from omnirelay.errors import (
    AccessDenied,
    BadRequest,
    NotFound,
    OmniRelayError,
    ResumePointDeleted,
    Unavailable,
    Unreachable,
)
from omnirelay.model import ids
from omnirelay.model.position import Cursor
from omnirelay.model.version_vector import VersionVector
from omnirelay.wire import codec
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2 as pb
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2_grpc
from omnirelay.wire.calls import ending
from omnirelay.wire.status import from_rpc_error

_Call: TypeAlias = "grpc.aio.UnaryStreamCall[pb.SubscribeRequest, pb.SubscribeResponse]"
_START = {"earliest": pb.START_AT_EARLIEST, "latest": pb.START_AT_LATEST}


class Consumer:
    """Use as `async with Consumer(…) as consumer: async for delivery in consumer: …`.

    At least once: store `delivery.cursor` after dealing with a record and pass it as `cursor` next time. When a
    cluster stops answering, another endpoint is asked from the same cursor. `on_fence` is called, between two records,
    with the records that this reader was given and that are not valid any more; reading goes on from the cut.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        namespace: str = "default",
        cursor: Cursor | None = None,
        start: Literal["earliest", "latest"] = "earliest",
        consumer_id: str = "",
        credentials: Credentials | None = None,
        on_fence: Callable[[Fence], None] = lambda fence: None,
        silence_timeout_seconds: float = 10.0,
        reconnect_timeout_seconds: float = 60.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`start` matters without a cursor only. A cluster that says nothing (it sends progress when idle) for
        `silence_timeout_seconds` is given up; after `reconnect_timeout_seconds` without any answer the error surfaces.

        `consumer_id` is what operators see of a reader that has not taken notice of a new epoch; made up if it is
        empty, and to be given once only among those of one certificate.
        """
        self._namespace = ids.namespace(namespace)
        self._reader = Reader(cursor)
        self._start = _START[start]
        self._channels = Channels(credentials)
        self._finder = Finder(endpoints)
        self._on_fence = on_fence
        self._silence_timeout = silence_timeout_seconds
        self._reconnect_timeout = reconnect_timeout_seconds
        self._jitter = jitter
        self._heard_at = 0.0
        self._id = ids.consumer_id(consumer_id) or f"consumer-{secrets.token_hex(6)}"
        self._epoch = 0
        """The highest that any cluster has told."""
        self._told_epoch = 0
        """The highest that the serving cluster was told to be known here."""
        self._telling: asyncio.Task[None] | None = None
        self.vector = VersionVector()
        """What the serving cluster had applied when it sent the latest answer."""

    @property
    def cursor(self) -> Cursor | None:
        """The last record that was handed out, or where a fence rolled back to."""
        return self._reader.cursor

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await self._channels.close()

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self._deliveries()

    async def _deliveries(self) -> AsyncIterator[Delivery]:
        # An inner loop over batches() would move the cursor past records that the application has not seen yet.
        async with aclosing(self._undelivered()) as batches:
            async for batch in batches:
                for delivery in batch.deliveries():
                    self._reader.dealt_with(delivery.cursor)
                    yield delivery

    async def batches(self) -> AsyncGenerator[DeliveredBatch, None]:
        """The same records, batch-wise: half the cost."""
        async with aclosing(self._undelivered()) as batches:
            async for batch in batches:
                self._reader.dealt_with(batch.last)
                yield batch

    async def _undelivered(self) -> AsyncGenerator[DeliveredBatch, None]:
        """Reconnects for ever, within the limits. Raises what no cluster will answer differently."""
        clock = asyncio.get_running_loop().time
        self._heard_at = clock()
        while True:
            endpoint = self._finder.endpoint
            try:
                async with aclosing(self._stream(endpoint)) as batches:
                    async for batch in batches:
                        yield batch
            except OmniRelayError as error:
                if isinstance(error, BadRequest | AccessDenied | NotFound | ResumePointDeleted):
                    raise
                if clock() - self._heard_at > self._reconnect_timeout:
                    raise
                if isinstance(error, Unavailable):
                    await self._channels.drop(endpoint)
                await asyncio.sleep(self._finder.failed(error, self._jitter()))

    async def _stream(self, endpoint: str) -> AsyncGenerator[DeliveredBatch, None]:
        """One call from start to end. Raises the typed error that ended it."""
        request = pb.SubscribeRequest(
            namespace=self._namespace, start_at=self._start, consumer_id=self._id, epoch=self._epoch
        )
        self._told_epoch = self._epoch
        if self._reader.cursor is not None:
            request.after.CopyFrom(codec.cursor_to_message(self._reader.cursor))
        call: _Call = events_pb2_grpc.EventServiceStub(self._channels.get(endpoint)).Subscribe(request)
        try:
            while True:
                response = await self._read(call, endpoint)
                batch = self._receive(response)
                self._acknowledge()
                if batch is not None:
                    yield batch
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    async def _read(self, call: _Call, endpoint: str) -> pb.SubscribeResponse:
        try:
            async with asyncio.timeout(self._silence_timeout):
                response = await call.read()
        except TimeoutError as error:
            raise Unreachable(f"{endpoint} was silent for {self._silence_timeout} s") from error
        if not isinstance(response, pb.SubscribeResponse):
            raise await ending(call)
        self._heard_at = asyncio.get_running_loop().time()
        self._finder.opened(0)
        return response

    def _receive(self, response: pb.SubscribeResponse) -> DeliveredBatch | None:
        if response.HasField("vector"):
            self.vector = codec.vector_from_message(response.vector)
        match response.WhichOneof("message"):
            case "batch":
                batch = codec.batch_from_message(response.batch)
                self._epoch = max(self._epoch, batch.header.epoch)
                return self._reader.batch(batch)
            case "withdrawn":
                self._reader.withdraw(codec.batch_from_message(response.withdrawn))
            case "fence":
                self._epoch = max(self._epoch, response.fence.epoch)
                cut = codec.cursor_from_message(response.fence.cut)
                self._on_fence(self._reader.fence(cut, response.fence.epoch))
            case "progress":
                self._epoch = max(self._epoch, response.progress.epoch)
                if response.progress.HasField("delivered"):
                    self._reader.dealt_with(codec.cursor_from_message(response.progress.delivered))
            case _:
                pass  # a later version's message
        return None

    def _acknowledge(self) -> None:
        """Tells the serving cluster of an epoch that it has just told. Reading never waits for that."""
        if self._epoch > self._told_epoch and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """Once more for an epoch that came meanwhile: whoever deals with its record may not read for long."""
        while self._epoch > self._told_epoch:
            self._told_epoch = self._epoch
            request = pb.AcknowledgeRequest(namespace=self._namespace, consumer_id=self._id, epoch=self._epoch)
            stub = events_pb2_grpc.EventServiceStub(self._channels.get(self._finder.endpoint))
            # A cluster that cannot be told is told by the next subscription; one of an older version cannot at all.
            with suppress(grpc.aio.AioRpcError):
                await stub.Acknowledge(request, timeout=self._silence_timeout)
