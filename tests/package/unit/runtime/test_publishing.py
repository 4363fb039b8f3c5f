"""One producer's stream at the active: what it is told of remote copies, and when it is slowed or refused."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from omnirelay.errors import NotActive, ProducerSuperseded, RpoExceeded, StorageUnavailable, TooFewClusters
from omnirelay.failover.lease import Timing
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.streams import ProducerBatch, PublishAck, PublishOpen, PublishOpened, PublishRemote
from omnirelay.replication.rpo import RpoGuard
from omnirelay.runtime import publishing
from omnirelay.runtime.links import Links
from omnirelay.runtime.publishing import Publishing
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.testing.memory_log import MemoryLog
from omnirelay.wire.codec import encode_header

ROUTE = Route("default", (Ownership(1, "us-east", "us-east"),))


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def wall_ms(self):
        return round(self.now * 1000)


class Ownerships:
    """This cluster owns whatever the route says, until it is told otherwise."""

    def __init__(self, route):
        self.route = route
        self.lost = False

    def admit(self, namespace):
        self.still(namespace, self.route.epoch)
        return self.route.current

    async def admit_or_await(self, namespace):
        return self.admit(namespace)

    async def told(self, namespace, refusal):
        return refusal

    def still(self, namespace, epoch):
        if self.lost or epoch != self.route.epoch:
            raise NotActive("no lease", epoch=epoch)


class Stream:
    """The producer's end."""

    def __init__(self):
        self._to_server, self._to_producer = asyncio.Queue(), asyncio.Queue()
        self.reading, self.answered = asyncio.Event(), asyncio.Event()
        self.reading.set()

    async def receive(self):
        return await self._to_server.get()

    async def send(self, message):
        self.answered.set()
        await self.reading.wait()
        self._to_producer.put_nowait(message)

    def put(self, *messages):
        for message in messages:
            self._to_server.put_nowait(message)

    async def get(self):
        """The next answer. Raises what the stream ended with."""
        message = await self._to_producer.get()
        if isinstance(message, Exception):
            raise message
        return message

    def ended(self, serving):
        if not serving.cancelled():
            self._to_producer.put_nowait(serving.exception())

    @property
    def unread(self):
        return self._to_producer.qsize()


class Active:
    """us-east with two peers of which nothing has been heard."""

    def __init__(self, sequencer, clock, guard=None, route=ROUTE):
        self.sequencer, self.clock = sequencer, clock
        self.peers = {"eu-west", "ap-south"}
        self.ownerships = Ownerships(route)
        self.links = Links(sequencer, clock, Timing())
        self.publishing = Publishing(
            "us-east", sequencer, self.ownerships, self.links, clock, lambda: self.peers, 1 << 20, guard
        )

    @asynccontextmanager
    async def producer(self, copies=1, name="p"):
        """A stream that has been opened."""
        stream = Stream()
        serving = asyncio.create_task(self.publishing.serve(stream))
        serving.add_done_callback(stream.ended)
        stream.put(PublishOpen("default", name, 0, copies))
        try:
            assert isinstance(await stream.get(), PublishOpened)
            yield stream
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    def confirm(self, peer, **sequences):
        link = self.links.of(peer)
        link.sending = True
        self.links.confirmed(link, VersionVector({name.replace("_", "-"): n for name, n in sequences.items()}))


async def started(log, clock, route=ROUTE, **options):
    sequencer = Sequencer(log, "us-east", clock, encode_header, lambda subject: subject.encode())
    await sequencer.start()
    await sequencer.install({"default": route})
    return Active(sequencer, clock, route=route, **options)


@pytest.fixture
async def log():
    log = await MemoryLog.open()
    yield log
    await log.close()


@pytest.fixture
def clock():
    return Clock()


def batch(sequence, count=1):
    return ProducerBatch(sequence, b"records", count)


async def publish(stream, *sequences):
    stream.put(*map(batch, sequences))
    acks = [await stream.get() for _ in sequences]
    assert [ack.producer_sequence for ack in acks] == list(sequences)
    assert all(isinstance(ack, PublishAck) for ack in acks)


async def test_what_a_peer_confirms_is_told_once_and_in_one_word(log, clock):
    active = await started(log, clock)
    async with active.producer() as stream:
        await publish(stream, 1, 2, 3)
        active.confirm("eu-west", us_east=2)
        assert await stream.get() == PublishRemote(2)
        active.confirm("ap-south", us_east=2)
        active.confirm("ap-south", us_east=3)
        assert await stream.get() == PublishRemote(3)
        assert stream.unread == 0


async def test_as_many_copies_as_asked_for(log, clock):
    active = await started(log, clock)
    async with active.producer(copies=2) as stream:
        await publish(stream, 1, 2)
        active.confirm("eu-west", us_east=2)
        active.confirm("ap-south", us_east=1)
        assert await stream.get() == PublishRemote(1)


async def test_who_does_not_ask_is_not_told(log, clock):
    active = await started(log, clock)
    async with active.producer(copies=0) as stream, active.producer(copies=1, name="q") as curious:
        await publish(stream, 1)
        await publish(curious, 1)
        active.confirm("eu-west", us_east=2)
        assert await curious.get() == PublishRemote(1)
        assert stream.unread == 0


async def test_a_producer_that_comes_back_is_told_of_what_it_sent_before(log, clock):
    """It keeps those batches, and has nothing to send that would bring the word up again."""
    active = await started(log, clock)
    async with active.producer() as stream:
        await publish(stream, 1, 2)
    active.confirm("eu-west", us_east=2)
    async with active.producer() as stream:
        assert await stream.get() == PublishRemote(2)


async def test_what_is_remote_before_it_is_acknowledged_is_told_at_once(log, clock, monkeypatch):
    monkeypatch.setattr(publishing, "STILL_SECONDS", None)
    active = await started(log, clock)
    may_commit = asyncio.Event()
    log.before_commit = may_commit.wait
    async with active.producer() as stream:
        active.confirm("eu-west", us_east=1)
        stream.put(batch(1))
        may_commit.set()
        assert isinstance(await stream.get(), PublishAck)
        assert await stream.get() == PublishRemote(1)


async def test_a_batch_sent_again_that_is_remote_already_is_reported(log, clock):
    active = await started(log, clock)
    async with active.producer() as first:
        await publish(first, 1)
        active.confirm("eu-west", us_east=1)
        assert await first.get() == PublishRemote(1)
    async with active.producer() as second:
        assert await second.get() == PublishRemote(1)
        await publish(second, 1)


async def test_more_copies_than_other_clusters_are_refused(log, clock):
    active = await started(log, clock)
    with pytest.raises(TooFewClusters) as refused:
        async with active.producer(copies=3):
            pass
    assert refused.value.details == {"others": 2}


async def test_a_cluster_that_is_no_member_any_more_holds_no_copy(log, clock):
    active = await started(log, clock)
    async with active.producer() as stream:
        await publish(stream, 1)
        active.peers = {"ap-south"}
        active.confirm("eu-west", us_east=1)
        active.confirm("ap-south")
        await publish(stream, 2)
        assert stream.unread == 0


async def test_a_copy_behind_a_hole_of_an_earlier_epoch_is_none(log, clock):
    moved = Route("default", (Ownership(1, "eu-west", "eu-west"), Ownership(2, "us-east", "us-east", Cursor(1, 5))))
    active = await started(log, clock, route=moved)
    async with active.producer() as stream:
        await publish(stream, 1)
        active.confirm("ap-south", eu_west=4, us_east=1)
        await publish(stream, 2)
        assert stream.unread == 0
        active.confirm("ap-south", eu_west=5, us_east=1)
        assert await stream.get() == PublishRemote(1)


async def test_fm08_what_peers_confirm_after_the_lease_is_not_told(log, clock):
    """They may have been promoted without it, and fenced it; an idle producer finds out by this."""
    active = await started(log, clock)
    async with active.producer() as stream:
        await publish(stream, 1)
        active.ownerships.lost = True
        active.confirm("eu-west", us_east=1)
        with pytest.raises(NotActive):
            await stream.get()


# --- two streams of one producer ----------------------------------------------------------------------------------


async def test_the_newest_stream_of_a_producer_ends_the_older_one(log, clock):
    active = await started(log, clock)
    async with active.producer(copies=0) as older:
        await publish(older, 1)
        async with active.producer(copies=0) as newer:
            with pytest.raises(ProducerSuperseded) as ended:
                await older.get()
            assert not ended.value.retryable, "or the two would take the id from each other for ever"
            await publish(newer, 2)
        async with active.producer(copies=0, name="other") as other:
            await publish(other, 1)


async def test_the_older_stream_is_told_nothing_of_what_the_newer_one_may_be_asked_for(log, clock):
    """The batch was committed, but whose it was is for the newer stream to find out."""
    active = await started(log, clock)
    committing, may_commit = asyncio.Event(), asyncio.Event()

    async def held():
        committing.set()
        await may_commit.wait()

    log.before_commit = held
    async with active.producer(copies=0) as older:
        older.put(batch(1))
        await committing.wait()
        newer = Stream()
        serving = asyncio.create_task(active.publishing.serve(newer))
        try:
            newer.put(PublishOpen("default", "p", 0, 0))
            with pytest.raises(ProducerSuperseded):
                await older.get()
            may_commit.set()
            assert (await newer.get()).last_producer_sequence == 1
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_a_stream_that_ends_leaves_the_newer_one_alone(log, clock):
    active = await started(log, clock)
    async with active.producer(copies=0), active.producer(copies=0):
        pass
    async with active.producer(copies=0) as stream:
        await publish(stream, 1)


# --- a batch sent again while its first sending is on its way -----------------------------------------------------


class FailingDisk:
    """Commits when it is told to, or fails to."""

    def __init__(self, log):
        self.writing, self._go, self._full = asyncio.Event(), asyncio.Event(), False
        log.before_commit = self._commit

    async def _commit(self):
        self.writing.set()
        await self._go.wait()
        if self._full:
            raise StorageUnavailable("the disk refuses: full", reason="full")

    def fail(self):
        self._full = True
        self._go.set()

    def work(self):
        self._full = False
        self._go.set()


def publish_aside(active, sequence, name="p"):
    """As a replay does, under the producer's own number."""
    queued = active.sequencer.publish(ROUTE.current, "default", name, sequence, b"records", 1)
    return asyncio.ensure_future(queued.durable)


async def repeated(active, times):
    while active.sequencer.duplicate_batches < times:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_i4_a_repetition_was_acknowledged_although_the_first_sending_had_just_failed_on_disk(log, clock):
    active = await started(log, clock)
    async with active.producer(copies=0) as stream:
        disk = FailingDisk(log)
        first = publish_aside(active, 1)
        await disk.writing.wait()
        stream.put(batch(1))
        await repeated(active, 1)
        disk.fail()
        with pytest.raises(StorageUnavailable):
            await first
        with pytest.raises(StorageUnavailable) as refused:
            await stream.get()
        assert refused.value.retryable


async def test_i4_a_repetition_is_not_acknowledged_because_another_batch_has_come_to_its_place(log, clock):
    """The producer was slow to read, and by the time its acknowledgement was due the log had gone on."""
    active = await started(log, clock)
    async with active.producer(copies=0) as stream:
        await publish(stream, 1)
        stream.reading.clear()
        stream.answered.clear()
        stream.put(batch(1))
        await stream.answered.wait()
        disk = FailingDisk(log)
        first = publish_aside(active, 2)
        await disk.writing.wait()
        stream.put(batch(2))
        await repeated(active, 2)
        disk.fail()
        with pytest.raises(StorageUnavailable):
            await first
        disk.work()
        while active.sequencer.problem:
            clock.now += 1
            await asyncio.sleep(0)
        await publish_aside(active, 1, "other")
        stream.reading.set()
        assert (await stream.get()).producer_sequence == 1
        with pytest.raises(StorageUnavailable):
            await stream.get()


async def test_a_repetition_is_acknowledged_once_its_first_sending_is_durable(log, clock):
    active = await started(log, clock)
    async with active.producer(copies=0) as stream:
        disk = FailingDisk(log)
        first = publish_aside(active, 1)
        await disk.writing.wait()
        stream.put(batch(1))
        await repeated(active, 1)
        assert stream.unread == 0
        disk.work()
        await first
        assert (await stream.get()).duplicate


async def test_i4_a_producer_that_opens_is_told_no_number_whose_batch_may_yet_be_lost(log, clock):
    active = await started(log, clock)
    disk = FailingDisk(log)
    first = publish_aside(active, 1)
    await disk.writing.wait()
    stream = Stream()
    serving = asyncio.create_task(active.publishing.serve(stream))
    serving.add_done_callback(stream.ended)
    stream.put(PublishOpen("default", "p", 0, 0))
    while active.publishing.told_seconds("default", "p") is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    disk.fail()
    with pytest.raises(StorageUnavailable):
        await first
    with pytest.raises(StorageUnavailable):
        await stream.get()


# --- the RPO guard ------------------------------------------------------------------------------------------------


async def test_the_guard_refuses_while_the_best_peer_lags_and_lets_go_when_it_has_caught_up(log, clock):
    active = await started(log, clock, guard=RpoGuard(5.0, 1.0))
    active.confirm("eu-west")
    async with active.producer(copies=0) as stream:
        await publish(stream, 1)
        clock.now += 5
        stream.put(batch(2))
        assert isinstance(await stream.get(), PublishAck), "five seconds are allowed"
        clock.now += 0.1
        stream.put(batch(3))
        with pytest.raises(RpoExceeded) as refused:
            await stream.get()
        assert refused.value.details == {"lag": "5.1 s", "limit": "5 s"}
    with pytest.raises(RpoExceeded):
        async with active.producer() as stream:
            pass
    active.confirm("eu-west", us_east=2)
    async with active.producer(copies=0) as stream:
        await publish(stream, 3)


async def test_what_was_admitted_before_a_refusal_is_acknowledged(log, clock):
    active = await started(log, clock, guard=RpoGuard(5.0, 1.0))
    active.confirm("eu-west")
    committing, may_commit = asyncio.Event(), asyncio.Event()

    async def held():
        committing.set()
        await may_commit.wait()

    async with active.producer() as stream:
        await publish(stream, 1)
        log.before_commit = held
        stream.put(batch(2))
        await committing.wait()
        clock.now += 10
        stream.put(batch(3))
        may_commit.set()
        assert (await stream.get()).producer_sequence == 2
        with pytest.raises(RpoExceeded):
            await stream.get()


async def test_the_guard_knows_nothing_of_a_peer_that_never_came(log, clock):
    active = await started(log, clock, guard=RpoGuard(5.0, 1.0))
    with pytest.raises(RpoExceeded, match="unknown"):
        async with active.producer():
            pass


async def test_a_peer_that_went_is_trusted_for_as_long_as_the_lag_may_be(log, clock):
    active = await started(log, clock, guard=RpoGuard(5.0, 1.0))
    active.confirm("eu-west")
    active.links.of("eu-west").sending = False
    clock.now += 4
    async with active.producer() as stream:
        await publish(stream, 1)
    clock.now += 2
    with pytest.raises(RpoExceeded):
        async with active.producer():
            pass


async def test_without_a_guard_no_lag_matters(log, clock):
    active = await started(log, clock)
    async with active.producer() as stream:
        await publish(stream, 1)
        clock.now += 1e6
        await publish(stream, 2)
