"""A mesh in one process that speaks the event service by the contract, with the faults that a test asks for."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import grpc.aio
import pytest

from omnirelay.errors import Draining, NotActive, ProducerGap, RpoExceeded, StaleEpoch, TooFewClusters
from omnirelay.model.batch import Batch, BatchHeader, BatchKind
from omnirelay.model.position import Cursor, Position
from omnirelay.model.version_vector import VersionVector
from omnirelay.wire import codec
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2 as pb
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2_grpc
from omnirelay.wire.status import to_rpc_status


async def refuse(context, error):
    code, message, metadata = to_rpc_status(error)
    await context.abort(code, message, metadata)


class Cluster(events_pb2_grpc.EventServiceServicer):
    def __init__(self, mesh, cluster_id):
        self.mesh = mesh
        self.id = cluster_id
        self.opens = []
        self.copies = []
        """What the producers asked for that opened a stream."""
        self.streams = []
        self.acknowledged = 0
        """The last batch of any producer whose acknowledgement is on its way."""
        self.writing = asyncio.Condition()
        """gRPC takes one message at a time."""
        self.lose_acks = 0
        """That many batches are committed, and the connection is cut before they are acknowledged."""
        self.answers = asyncio.Event()
        """Cleared: batches are committed and epochs heard of, but nothing is answered."""
        self.answers.set()
        self.server = None
        self.endpoint = ""

    async def start(self):
        self.server = grpc.aio.server()
        events_pb2_grpc.add_EventServiceServicer_to_server(self, self.server)
        self.endpoint = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        await self.server.start()

    async def stop(self):
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop(None)

    async def Publish(self, requests, context):
        opened = (await anext(aiter(requests))).open
        self.opens.append(opened.epoch)
        self.mesh.heard.set()
        await self._admit(context)
        self.copies.append(opened.remote_copies)
        if opened.remote_copies > self.mesh.others:
            await refuse(context, TooFewClusters("too few", others=self.mesh.others))
        if 0 < opened.epoch < self.mesh.epoch:
            await refuse(context, StaleEpoch("old token", epoch=self.mesh.epoch))
        producer = opened.producer_id
        said = pb.PublishOpened(
            cluster_id=self.id,
            epoch=self.mesh.epoch,
            last_producer_sequence=self.mesh.last(producer),
            max_batch_bytes=self.mesh.max_batch_bytes,
        )
        await context.write(pb.PublishResponse(opened=said))
        self.streams.append(context)
        try:
            async for request in requests:
                await self._admit(context)
                ack = await self._commit(producer, request.batch, context)
                async with self.writing:
                    await context.write(ack)
                    self.acknowledged = request.batch.producer_sequence
                    self.writing.notify_all()
        finally:
            self.streams.remove(context)

    async def tell_remote(self, upto):
        """Tells whoever is connected, once it has been acknowledged."""
        async with self.writing:
            await self.writing.wait_for(lambda: self.acknowledged >= upto)
            for stream in self.streams:
                await stream.write(pb.PublishResponse(remote=pb.PublishRemote(producer_sequence=upto)))

    async def _commit(self, producer, batch, context):
        last = self.mesh.last(producer)
        if batch.producer_sequence > last + 1:
            await refuse(context, ProducerGap("gap", last_producer_sequence=last))
        duplicate = batch.producer_sequence <= last
        if not duplicate:
            self.mesh.commit(self.id, producer, batch.producer_sequence, batch.records)
        if self.lose_acks:
            self.lose_acks -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        await self.answers.wait()
        header = self.mesh.log[-1].header
        ack = pb.PublishAck(
            producer_sequence=batch.producer_sequence, count=header.count, epoch=header.epoch, duplicate=duplicate
        )
        if not duplicate:
            ack.position.CopyFrom(codec.position_to_message(Position(header.origin, header.first_sequence)))
        return pb.PublishResponse(ack=ack)

    async def _admit(self, context):
        mesh = self.mesh
        if mesh.exposed and self.id == mesh.active:
            await refuse(context, RpoExceeded("exposed", lag="9 s", limit="5 s"))
        if mesh.draining and self.id == mesh.active:
            await refuse(context, Draining("moving", cluster="", epoch=mesh.epoch, retry_after_seconds=0.05))
        if mesh.active != self.id:
            active = mesh.clusters.get(mesh.active)
            known = {"cluster": active.id, "endpoint": active.endpoint} if active else {}
            await refuse(context, NotActive("not here", epoch=mesh.epoch, **known))

    async def Acknowledge(self, request, context):
        self.mesh.known[request.consumer_id] = request.epoch
        self.mesh.noticed.set()
        await self.answers.wait()
        return pb.AcknowledgeResponse()

    async def Subscribe(self, request, context):
        self.mesh.known[request.consumer_id] = request.epoch
        self.mesh.subscriptions.append((self.id, Cursor(request.after.epoch, request.after.sequence)))
        sent = 0
        if request.HasField("after"):
            after = codec.cursor_from_message(request.after)
            sent = sum(Cursor(b.header.epoch, b.header.last_sequence) <= after for b in self.mesh.log)
        elif request.start_at == pb.START_AT_LATEST:
            sent = len(self.mesh.log)
        delivered = Cursor()
        while True:
            self.mesh.changed.clear()
            while self.mesh.notices:
                yield self.mesh.notices.popleft()
            for batch in self.mesh.log[sent:]:
                sent += 1
                vector = codec.vector_to_message(VersionVector({batch.header.origin: batch.header.last_sequence}))
                yield pb.SubscribeResponse(vector=vector, batch=codec.batch_to_message(batch))
            if self.mesh.log:
                delivered = Cursor(self.mesh.log[-1].header.epoch, self.mesh.log[-1].header.last_sequence)
            yield pb.SubscribeResponse(
                progress=pb.SubscribeProgress(delivered=codec.cursor_to_message(delivered), epoch=self.mesh.epoch)
            )
            await self.mesh.changed.wait()


@dataclass
class Mesh:
    clusters: dict = field(default_factory=dict)
    active: str = ""
    epoch: int = 1
    draining: bool = False
    max_batch_bytes: int = 4 << 20
    others: int = 1
    """Clusters beside the active one."""
    exposed: bool = False
    """The active could lose more than it is allowed to."""
    log: list = field(default_factory=list)
    notices: deque = field(default_factory=deque)
    subscriptions: list = field(default_factory=list)
    known: dict = field(default_factory=dict)
    """Consumer → epoch that it has said it knows."""
    noticed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each acknowledgement."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a producer asks to be admitted."""

    @property
    def endpoints(self):
        return [cluster.endpoint for cluster in self.clusters.values()]

    @property
    def keys(self):
        """All committed records' keys, in order."""
        return [record.key for batch in self.log for record in codec.decode_record_set(batch.records)]

    async def add(self, cluster_id):
        cluster = Cluster(self, cluster_id)
        await cluster.start()
        self.clusters[cluster_id] = cluster
        return cluster

    def last(self, producer):
        return max((b.header.producer_sequence for b in self.log if b.header.producer_id == producer), default=0)

    def commit(self, origin, producer, producer_sequence, records, kind=BatchKind.DATA):
        first = 1 + max((b.header.last_sequence for b in self.log if b.header.origin == origin), default=0)
        count = codec.count_records(records)
        header = BatchHeader(
            origin, first, count, "default", self.epoch, 0, producer, producer_sequence, VersionVector(), kind
        )
        self.log.append(Batch(header, codec.encode_header(header), records, bytes(32)))
        self.changed.set()

    def promote(self, cluster_id, lost=0):
        """In an emergency the last `lost` batches are not at the one that is promoted."""
        self.active, self.draining = cluster_id, False
        self.epoch += 1
        del self.log[len(self.log) - lost :]

    async def next_knock(self):
        """A producer asks some cluster, from now on."""
        self.heard.clear()
        await self.heard.wait()

    async def stop(self):
        await asyncio.gather(*(cluster.stop() for cluster in self.clusters.values()))


@pytest.fixture
async def mesh():
    mesh = Mesh()
    await mesh.add("us-east")
    await mesh.add("eu-west")
    mesh.active = "us-east"
    yield mesh
    await mesh.stop()
