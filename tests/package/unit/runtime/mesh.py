"""Real replicators in one process and in virtual time: memory logs, a memory store, and links that tests cut."""

import asyncio
import itertools
from contextlib import asynccontextmanager, suppress

from tests.package.unit.failover.support import a_descriptor
from tests.package.unit.runtime.virtual import LoopClock

from omnirelay.errors import OmniRelayError, Unreachable
from omnirelay.failover.lease import Timing
from omnirelay.failover.record import Limits, Mode, Request
from omnirelay.model.batch import BatchKind
from omnirelay.model.record import Record
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.ports.coordination import Put
from omnirelay.ports.streams import ProducerBatch, ProtocolVersion, PublishAck, PublishOpen, PublishOpened
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.documents import CLUSTERS, LEASES, ROUTING, ROUTING_DOCUMENT
from omnirelay.runtime.replicator import Replicator, World
from omnirelay.runtime.reporter import Host
from omnirelay.runtime.retaining import RetentionSettings
from omnirelay.testing.memory_coordination import MemoryCoordination
from omnirelay.testing.memory_log import MemoryDisk, MemoryLog
from omnirelay.wire import codec

MEMBERS = ("us-east", "eu-west", "ap-south")
TIMING = Timing()
ALICE = Actor("token/alice", "token")


class Pipe:
    """One side of a stream."""

    def __init__(self):
        self.inbox = asyncio.Queue()
        self.other: Pipe

    @classmethod
    def pair(cls):
        here, there = cls(), cls()
        here.other, there.other = there, here
        return here, there

    async def receive(self):
        message = await self.inbox.get()
        if isinstance(message, Exception):
            self.inbox.put_nowait(message)
            raise message
        return message

    async def send(self, message):
        self.other.inbox.put_nowait(message)

    def fail(self, error):
        self.inbox.put_nowait(error)
        self.other.inbox.put_nowait(error)


class Site:
    """One cluster: its disk survives, its process comes and goes."""

    def __init__(self, mesh, name):
        self.mesh, self.name = mesh, name
        self.disk = MemoryDisk()
        self.clock = LoopClock()
        self.signer = lambda token: token
        self.replicator: Replicator
        self._running = None
        self._streams = {}

    async def start(self):
        self.client = self.mesh.memory.client()
        self.log = await MemoryLog.open(self.disk)
        numbers = self.mesh.numbers
        world = World(
            log=self.log,
            store=self.client,
            dialer=self,
            clock=self.clock,
            encode_header=codec.encode_header,
            control_records=lambda subject: codec.encode_record_set([Record(subject.encode(), b"")]),
            with_provenance=codec.with_provenance,
            decode_records=codec.decode_record_set,
            sign=self.sign,
            verify=lambda token, cluster: None,
            host=lambda: Host(50, 100, self.clock.wall_ms() + 90 * 86_400_000),
            new_id=lambda _: f"fo-{next(numbers)}",
            jitter=lambda: 0.5,
        )
        retention = self.mesh.retention
        audit = self.mesh.path / f"{self.name}.jsonl"
        self.replicator = Replicator(self.name, world, TIMING, ProtocolVersion(1, 1), retention, 1 << 20, audit)
        self._running = asyncio.create_task(self.replicator.run())
        await self.replicator.view.loaded.wait()

    async def kill(self):
        """As by -9: nothing is given back."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        for _, serving in self._streams.values():
            serving.cancel()
        self._streams.clear()
        self.mesh.disconnect(self.name)
        self.log.crash()
        await self.client.close()
        self._running = None

    async def hang(self):
        """Neither dead nor alive: what it holds stays open and nothing comes of it. Its lease ends."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        for site in self.mesh.sites.values():
            for cluster, serving in site._streams.values():
                if self.name in (cluster, site.name):
                    serving.cancel()
        await self.client.close()
        self._running = None

    def sign(self, token):
        return self.signer(token)

    @property
    def alive(self):
        return self._running is not None and not self._running.done()

    # --- PeerDialer ----------------------------------------------------------------------------------------------

    async def dial(self, cluster, endpoint):
        peer = self.mesh.sites[cluster]
        if not peer.alive or self.mesh.is_cut(self.name, cluster):
            raise Unreachable(f"{cluster} does not answer")
        here, there = Pipe.pair()

        async def serve():
            try:
                await peer.replicator.replicate(there, self.name, "memory")
            except OmniRelayError as error:
                here.inbox.put_nowait(error)

        self.mesh.streams[here] = (self.name, cluster)
        self._streams[here] = (cluster, asyncio.create_task(serve()))
        return here

    async def close_stream(self, stream):
        self.mesh.streams.pop(stream, None)
        _, serving = self._streams.pop(stream, (None, None))
        if serving is not None:
            serving.cancel()

    # --- doing ---------------------------------------------------------------------------------------------------

    @property
    def admitting(self):
        return self.replicator.ownerships.admitting()

    @property
    def vector(self):
        return dict(self.replicator.sequencer.log_vector())

    def failover(self, failover_id):
        return self.replicator.view.failovers.get(failover_id)

    async def plan(self, target, *, mode=Mode.EMERGENCY, namespaces=("default",), **changes):
        """Already accepted: nobody else needs to approve it."""
        fields = {"reason": "test", "change_ticket": "CHG-1", "limits": Limits(approvals_required=0), **changes}
        if mode is Mode.EMERGENCY:
            fields.setdefault("accept_data_loss", 10_000)
        request = Request(mode, target, namespaces, **fields)
        return (await self.replicator.failovers.plan(request, ALICE, "", False))[0]

    async def step(self, failover, name, wait=60.0):
        return (await self.replicator.failovers.step(failover.id, name, ALICE, wait)).failover


class Mesh:
    def __init__(self, path):
        self.path = path
        self.memory = MemoryCoordination(LoopClock())
        self.store = self.memory.client()
        self.sites = {name: Site(self, name) for name in MEMBERS}
        self.streams = {}
        self.numbers = itertools.count(1)
        self.retention = RetentionSettings(10**12, 10**12, 10**12)
        self._cut = set()

    def __getitem__(self, name):
        return self.sites[name]

    @property
    def now(self):
        return asyncio.get_running_loop().time()

    def is_cut(self, one, other):
        return frozenset({one, other}) in self._cut

    def cut(self, one, other):
        self._cut.add(frozenset({one, other}))
        for stream, ends in list(self.streams.items()):
            if set(ends) == {one, other}:
                stream.fail(Unreachable("the line is cut"))

    def mend(self):
        self._cut.clear()

    def disconnect(self, name):
        for stream, ends in list(self.streams.items()):
            if name in ends:
                stream.fail(Unreachable(f"{name} is gone"))

    async def until(self, condition, seconds=120.0):
        """Waits, in virtual time, until it is true."""
        end = self.now + seconds
        while not condition():
            if self.now > end:
                raise AssertionError(f"not within {seconds:g} s: {condition}")
            await asyncio.sleep(0.01)

    async def populate(self, namespaces=("default",), owner="us-east"):
        """Every member is known, and `owner` owns the namespaces in epoch 1."""
        puts = [Put(CLUSTERS.key(name), CLUSTERS.encode(a_descriptor(name))) for name in MEMBERS]
        routes = {name: Route(name, (Ownership(1, owner, owner),)) for name in namespaces}
        puts.append(Put(ROUTING, ROUTING_DOCUMENT.encode(RoutingDocument(1, routes))))
        await self.store.transact([], puts)

    async def settle(self):
        """Until everybody holds what everybody wrote."""
        alive = [site for site in self.sites.values() if site.alive]
        await self.until(lambda: all(site.vector == alive[0].vector for site in alive))

    async def claims(self):
        return {
            LEASES.name(e.key): LEASES.decode(e.value).cluster for e in (await self.store.list(LEASES.prefix)).entries
        }


@asynccontextmanager
async def running_mesh(path, **options):
    """Three sites that have heard of each other; us-east is active."""
    mesh = Mesh(path)
    mesh.retention = options.pop("retention", mesh.retention)
    await mesh.populate(**options)
    for site in mesh.sites.values():
        await site.start()
    try:
        owner = options.get("owner", "us-east")
        await mesh.until(lambda: set(mesh[owner].admitting) == set(options.get("namespaces", ("default",))))
        await asyncio.sleep(2.0)  # reports and heartbeats
        yield mesh
    finally:
        for site in mesh.sites.values():
            if site.alive:
                await site.kill()


class Producer:
    """Publishes batches of one record to one site and notes what was acknowledged."""

    def __init__(self, site, name="p", namespace="default"):
        self.site, self.name, self.namespace = site, name, namespace
        self.acknowledged = []
        self.epoch = 0
        self.last = 0

    @asynccontextmanager
    async def stream(self, resends_to=None):
        here, there = Pipe.pair()

        async def serve():
            try:
                await self.site.replicator.publish(there)
            except OmniRelayError as error:
                here.inbox.put_nowait(error)

        serving = asyncio.create_task(serve())
        try:
            await here.send(PublishOpen(self.namespace, self.name, self.epoch, 0, resends_to))
            opened = await here.receive()
            assert isinstance(opened, PublishOpened)
            self.epoch, self.last = opened.epoch, opened.last_producer_sequence
            yield here
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    async def publish(self, *texts):
        """Each text is a batch, and follows what the active cluster holds. Returns the acknowledgements."""
        async with self.stream() as stream:
            acks = []
            for number, text in enumerate(texts, self.last + 1):
                await stream.send(ProducerBatch(number, records_of(text), 1))
                ack = await stream.receive()
                assert isinstance(ack, PublishAck)
                acks.append(ack)
                self.acknowledged.append(text)
            return acks

    async def resend(self, number, text):
        async with self.stream() as stream:
            await stream.send(ProducerBatch(number, records_of(text), 1))
            return await stream.receive()


def records_of(*texts):
    return codec.encode_record_set([Record(text.encode(), text.encode(), (), 0) for text in texts])


async def delivered(site, namespace="default"):
    """The values of all valid records at the site, in order."""
    sequencer = site.replicator.sequencer
    route, held = sequencer.routes()[namespace], sequencer.log_vector()
    end, values = route.unbroken_prefix(held), []
    for ownership in route.history:
        last = route.valid_end(ownership.epoch)
        upto = held[ownership.origin] if last is None else min(last, held[ownership.origin])
        if ownership.epoch > end.epoch or upto == 0:
            continue
        batches = await site.log.read_namespace(namespace, ownership.epoch, ownership.origin, 0, upto, 1 << 30)
        values += [
            r.value.decode()
            for b in batches
            if b.header.kind is BatchKind.DATA
            for r in codec.decode_record_set(b.records)
        ]
    return values
