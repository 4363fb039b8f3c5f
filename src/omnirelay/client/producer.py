"""A producer: batches in, durable positions out, through disconnections and failovers.

The shell around `Outbox` (what is not remote) and `Finder` (where the active is): it moves bytes, tells the time
and resolves futures; what to send and what a reopened stream means is decided there.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeAlias, get_args

import grpc.aio

from omnirelay.client.channels import Channels
from omnirelay.client.credentials import Credentials
from omnirelay.client.errors import AcknowledgedMissing, ProducerIdInUse, Unacknowledged
from omnirelay.client.finder import Finder
from omnirelay.client.outbox import MIB, Durability, Opened, Outbox, OutboxLimits, PublishResult
from omnirelay.errors import (
    AccessDenied,
    BadRequest,
    BatchTooLarge,
    ConfigInvalid,
    NotFound,
    OmniRelayError,
    ProducerGap,
    ProducerSuperseded,
    RpoExceeded,
    TooFewClusters,
    Unavailable,
    Unreachable,
)
from omnirelay.model import ids
from omnirelay.model.record import Record
from omnirelay.wire import codec
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2 as pb
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2_grpc
from omnirelay.wire.calls import ending
from omnirelay.wire.status import from_rpc_error

OPEN_TIMEOUT_SECONDS = 2.0
"""Longest time for a cluster to connect and to answer `open`."""
DEFAULT_MAX_BATCH_BYTES = 4 * MIB
"""Until a cluster names its own limit."""

_Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.PublishRequest, pb.PublishResponse]"


def is_final(error: OmniRelayError) -> bool:
    """Whether no other cluster and no later time would give another answer. A gap that a cluster reports is not
    final: opening again tells where to go on."""
    if isinstance(error, ProducerGap):
        return False
    shared = ProducerIdInUse | ProducerSuperseded
    return isinstance(error, BadRequest | AccessDenied | NotFound | shared | AcknowledgedMissing)


class Producer:
    """Use as `async with Producer(…) as producer`; leaving the block waits for what is unacknowledged.

    One process per `producer_id` at a time. While no cluster takes writes, batches wait (up to `limits`); after
    `park_timeout_seconds` without any acknowledgement every waiting future fails with Unacknowledged, and so does
    every later call: which of the batches were committed is learnt by a new Producer with the same id.

    With `durability="local"` a batch's future ends once the active cluster has it on disk, and the producer keeps the
    batch until `remote_copies` other clusters have it too: an active that was promoted in an emergency is sent what it
    lacks. So while the producer lives nothing is lost, unless more is kept than `limits` allow: see `at_risk`. With
    `durability="remote"` the future ends only then, and nothing is at risk.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        producer_id: str,
        namespace: str = "default",
        credentials: Credentials | None = None,
        limits: OutboxLimits | None = None,
        durability: Durability = "local",
        remote_copies: int = 1,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._producer_id = ids.producer_id(producer_id)
        self._namespace = ids.namespace(namespace)
        self._channels = Channels(credentials)
        self._finder = Finder(endpoints)
        self._limits = limits or OutboxLimits()
        if durability not in get_args(Durability):
            raise ConfigInvalid(f"durability must be one of {', '.join(get_args(Durability))}, not {durability!r}")
        if remote_copies < 1:
            raise ConfigInvalid(f"remote_copies must be positive, not {remote_copies}")
        self._durability = durability
        self._remote_copies = remote_copies
        self._outbox = Outbox(self._producer_id, self._limits, durability)
        self._jitter = jitter
        self._max_batch_bytes = DEFAULT_MAX_BATCH_BYTES
        self._futures: deque[asyncio.Future[PublishResult]] = deque()
        self._handed_over = 0
        self._admission = asyncio.Lock()
        self._room = asyncio.Event()
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._last_error: OmniRelayError | None = None
        self._broken: OmniRelayError | None = None
        self._opened: asyncio.Future[int] | None = None

    # --- the application's side -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._opened = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"producer-{self._producer_id}")
        self._task.add_done_callback(self._run_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self.close()

    async def opened(self) -> int:
        """Waits for the first connection. Returns the producer's last sequence that the mesh holds: what an application
        that was interrupted need not send again."""
        if self._opened is None:
            raise RuntimeError("the producer was not entered")
        return await asyncio.shield(self._opened)

    @property
    def cluster_epoch(self) -> int:
        """The highest epoch of the namespace that the producer has heard of."""
        return self._finder.epoch

    @property
    def unacknowledged(self) -> int:
        """Batches that wait."""
        return len(self._outbox)

    @property
    def kept(self) -> int:
        """Batches that are acknowledged, not yet remote, and kept in case a new active lacks them."""
        return self._outbox.kept

    @property
    def at_risk(self) -> int:
        """Batches that are acknowledged, not known to be remote, and had to be let go of because too many were kept: an
        emergency at this moment would lose them. On a mesh without other clusters that is most of them."""
        return self._outbox.at_risk

    async def send(self, records: Iterable[Record]) -> PublishResult:
        """Sends one batch and waits until it is durable; waits for room first if there is none.

        Raises Unacknowledged, BatchTooLarge, or what a cluster finally refused the producer with.
        """
        batch = self._encode(records)
        async with self._admission:
            while not self._outbox.has_room(len(batch[0])):
                self._check()
                await self._next_room()
            future = self._offer(*batch)
        return await future

    def send_nowait(self, records: Iterable[Record]) -> asyncio.Future[PublishResult]:
        """Hands one batch over; the future ends once it is durable. Raises Overloaded at once if there is no room."""
        return self._offer(*self._encode(records))

    async def flush(self) -> None:
        """Waits until everything handed over so far is durable. Raises what the producer broke with."""
        handed_over = self._handed_over
        while self._handed_over - len(self._outbox) < handed_over:
            self._check()
            await self._next_room()
        self._check()

    async def close(self) -> None:
        """Stops without waiting; whatever is unacknowledged fails with Unacknowledged."""
        if self._task is not None:
            self._give_up(Unreachable("the producer was closed"))
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._channels.close()

    def _encode(self, records: Iterable[Record]) -> tuple[bytes, int]:
        batch = list(records)
        if not batch:
            raise BadRequest("a batch has at least one record")
        data = codec.encode_record_set(batch)
        if len(data) > self._max_batch_bytes:
            raise BatchTooLarge(
                f"the batch has {len(data)} bytes, {self._max_batch_bytes} are allowed",
                max_batch_bytes=self._max_batch_bytes,
            )
        return data, len(batch)

    def _offer(self, data: bytes, count: int) -> asyncio.Future[PublishResult]:
        self._check()
        loop = asyncio.get_running_loop()
        self._outbox.offer(data, count, loop.time())
        future: asyncio.Future[PublishResult] = loop.create_future()
        self._futures.append(future)
        self._handed_over += 1
        self._work.set()
        if self._expiry is None:
            self._watch_expiry()
        return future

    async def _next_room(self) -> None:
        """Until another batch is acknowledged, or the producer breaks."""
        self._room.clear()
        await self._room.wait()

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._task is None:
            raise RuntimeError("the producer was not entered")

    # --- connections ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Opens streams, one after the other, until the producer breaks or is closed."""
        while True:
            endpoint = self._finder.endpoint
            try:
                await self._stream(endpoint)
            except OmniRelayError as error:
                self._outbox.disconnected()
                self._last_error = error
                if is_final(error):
                    self._give_up(error)
                    return
                if isinstance(error, Unavailable) and not isinstance(error, RpoExceeded):
                    await self._channels.drop(endpoint)
                await asyncio.sleep(self._finder.failed(error, self._jitter()))

    async def _stream(self, endpoint: str) -> None:
        """One stream from open to end. Raises the typed error that ended it."""
        try:
            await self._publish(endpoint, self._remote_copies)
        except TooFewClusters as error:
            if self._durability == "remote":
                raise
            # What is kept is then kept for as many clusters as there are.
            await self._publish(endpoint, min(self._remote_copies - 1, _others(error)))

    async def _publish(self, endpoint: str, remote_copies: int) -> None:
        stub = events_pb2_grpc.EventServiceStub(self._channels.get(endpoint))
        call = stub.Publish()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                cluster = await self._open(call, remote_copies)
            await self._exchange(call, cluster)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        except TimeoutError as error:
            raise Unreachable(f"{endpoint} did not answer within {OPEN_TIMEOUT_SECONDS} s") from error
        finally:
            call.cancel()

    async def _open(self, call: _Call, remote_copies: int) -> str:
        request = pb.PublishOpen(
            namespace=self._namespace,
            producer_id=self._producer_id,
            epoch=self._finder.token,
            remote_copies=remote_copies,
            resends_to=self._outbox.resends_to,
        )
        response = await _converse(call, pb.PublishRequest(open=request))
        opened = response.opened
        if opened.epoch < self._finder.epoch:
            raise Unreachable(f"{opened.cluster_id} is at epoch {opened.epoch}, {self._finder.epoch} is known")
        said = Opened(opened.cluster_id, opened.epoch, opened.last_producer_sequence)
        self._resolve(self._outbox.opened(said, asyncio.get_running_loop().time()))
        self._finder.opened(opened.epoch)
        self._last_error = None
        self._max_batch_bytes = opened.max_batch_bytes or DEFAULT_MAX_BATCH_BYTES
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(opened.last_producer_sequence)
        return opened.cluster_id

    async def _exchange(self, call: _Call, cluster: str) -> None:
        reader = asyncio.create_task(self._receive(call, cluster))
        writer = asyncio.create_task(self._transmit(call))
        running: set[asyncio.Task[None]] = {reader, writer}
        try:
            while True:
                done, running = await asyncio.wait(
                    running, timeout=self._seconds_to_stall(), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
                stalls_at = self._outbox.stalls_at
                if stalls_at is not None and stalls_at <= asyncio.get_running_loop().time():
                    raise Unreachable(f"{cluster} left batches unacknowledged")
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _transmit(self, call: _Call) -> None:
        """Ends quietly when the call is over: the receiving side knows why."""
        while True:
            while (entry := self._outbox.take()) is not None:
                batch = pb.ProducerBatch(producer_sequence=entry.sequence, records=entry.records)
                try:
                    await call.write(pb.PublishRequest(batch=batch))
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return
            self._work.clear()
            await self._work.wait()

    async def _receive(self, call: _Call, cluster: str) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            response = await call.read()
            if not isinstance(response, pb.PublishResponse):
                raise await ending(call)
            match response.WhichOneof("message"):
                case "ack":
                    ack = response.ack
                    position = codec.position_from_message(ack.position) if ack.HasField("position") else None
                    said = PublishResult(ack.producer_sequence, ack.count, cluster, ack.epoch, position, ack.duplicate)
                    self._resolve(self._outbox.acknowledged(said, clock()))
                    self._work.set()
                case "remote":
                    self._resolve(self._outbox.remote(response.remote.producer_sequence, clock()))

    def _resolve(self, results: Iterable[PublishResult]) -> None:
        for result in results:
            future = self._futures.popleft()
            if not future.done():
                future.set_result(result)
            self._room.set()

    # --- patience -------------------------------------------------------------------------------------------------

    def _seconds_to_stall(self) -> float:
        """How long nothing can have stalled: acknowledgements only ever move the moment further away."""
        stalls_at = self._outbox.stalls_at
        if stalls_at is None:
            return self._limits.stall_timeout_seconds
        return max(0.0, stalls_at - asyncio.get_running_loop().time())

    def _watch_expiry(self) -> None:
        """Looks again whenever the moment may have come; acknowledgements need not touch the timer."""
        self._expiry = None
        expires_at = self._outbox.expires_at
        if expires_at is None or self._broken is not None:
            return
        loop = asyncio.get_running_loop()
        if expires_at > loop.time():
            self._expiry = loop.call_at(expires_at, self._watch_expiry)
        else:
            self._give_up(self._last_error or Unreachable(self._silence()))

    def _silence(self) -> str:
        if self._durability == "remote" and self._outbox.connected:
            return f"fewer than {self._remote_copies} other clusters confirm"
        return "no cluster answered"

    def _give_up(self, cause: OmniRelayError) -> None:
        """Breaks the producer: nothing can be sent out of order, so nothing more can be sent at all."""
        if self._broken is not None:
            return
        self._broken = self._explain(cause)
        while self._futures:
            future = self._futures.popleft()
            if not future.done():
                future.set_exception(self._broken)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(self._broken)
            self._opened.exception()  # nobody need be waiting for it
        self._room.set()
        if self._expiry is not None:
            self._expiry.cancel()
        if self._task is not None:
            self._task.cancel()

    def _explain(self, cause: OmniRelayError) -> OmniRelayError:
        sent = self._outbox.unacknowledged
        details = {
            **cause.details,
            "producer_id": self._producer_id,
            "unsent": self._outbox.unsent,
            **({"first": sent[0], "last": sent[1]} if sent else {}),
        }
        doubt = f"batches {sent[0]} to {sent[1]} are unacknowledged" if sent else "no batch is in doubt"
        message = f"{cause.message}; {doubt}, {self._outbox.unsent} more were not sent"
        if is_final(cause):
            return type(cause)(message, **details)
        return Unacknowledged(message, cause=cause.code, **details)

    def _run_ended(self, task: asyncio.Task[None]) -> None:
        """A defect in here must not leave the application waiting."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._give_up(OmniRelayError(f"the producer failed: {error!r}"))


def _others(error: TooFewClusters) -> int:
    """How many other clusters the mesh has, as far as the refusal tells."""
    try:
        return max(0, int(error.details.get("others") or 0))
    except (TypeError, ValueError):
        return 0


async def _converse(call: _Call, request: pb.PublishRequest) -> pb.PublishResponse:
    """Sends the first request and reads the first response."""
    try:
        await call.write(request)
    except asyncio.InvalidStateError:
        raise await ending(call) from None
    response = await call.read()
    if not isinstance(response, pb.PublishResponse):
        raise await ending(call)
    if response.WhichOneof("message") != "opened":
        raise Unreachable("the first answer was not `opened`")
    return response
