"""Delivery of a namespace (I6): a reader driven by `next_step` gets the unbroken prefix, all of it and nothing else."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.package.unit.replication.support import CLUSTERS, NAMESPACES, Mesh, a_route, histories, in_order, names, run

from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Ownership
from omnirelay.model.version_vector import VersionVector
from omnirelay.replication.delivery import Fence, Read, Wait, next_step

TWO_EPOCHS = a_route(Ownership(1, "a", "a"), Ownership(2, "b", "b", Cursor(1, 4)))
THIRD_CLUSTER = a_route(*TWO_EPOCHS.history, Ownership(3, "c", "c", Cursor(1, 2)))


class Reader:
    """Reads as the replicator does: some batches at a time, while the mesh goes on between any two of them."""

    def __init__(self, mesh, cluster, namespace, limit):
        self.cluster = mesh.clusters[cluster]
        self.namespace = namespace
        self.limit = limit
        self.got = []
        self._steps = self._read()

    def advance(self, steps):
        for _ in range(steps):
            next(self._steps)

    def catch_up(self):
        assert "waits" in itertools.islice(self._steps, 1000), "the reader goes round in circles"

    def _read(self):
        delivered = scanned = START
        while True:
            route, held = self.cluster.routes[self.namespace], self.cluster.held
            step = next_step(route, held, delivered, scanned)
            if isinstance(step, Wait):
                yield "waits"
            elif isinstance(step, Fence):
                delivered = scanned = step.cut
                self.got = [b for b in self.got if Cursor(b.header.epoch, b.header.last_sequence) <= step.cut]
                yield "fenced"
            else:
                inside = self.cluster.prefix(self.namespace)
                batches = self._batches(step)
                assert all(batch in inside for batch in batches), "outside the unbroken prefix"
                for batch in batches[: self.limit]:
                    delivered = scanned = Cursor(batch.header.epoch, batch.header.last_sequence)
                    self.got.append(batch)
                    yield "got one"
                if len(batches) <= self.limit:
                    scanned = max(scanned, step.end)
                yield "looked through"

    def _batches(self, step):
        return [
            batch
            for batch in self.cluster.logs.get(step.origin, [])
            if (batch.header.namespace, batch.header.epoch) == (self.namespace, step.epoch)
            and step.after < batch.header.last_sequence <= step.upto
        ]


@given(
    histories,
    names,
    st.sampled_from(NAMESPACES),
    st.integers(1, 4),
    st.lists(st.integers(0, 3), min_size=60, max_size=60),
)
@settings(max_examples=250)
def test_a_reader_has_the_unbroken_prefix_whenever_it_waits(history, cluster, namespace, limit, paces):
    mesh = Mesh()
    reader = Reader(mesh, cluster, namespace, limit)
    for _, pace in zip(run(mesh, history), paces, strict=False):
        reader.advance(pace)
    reader.catch_up()
    assert reader.got == reader.cluster.prefix(namespace)


@given(histories, st.integers(1, 4))
@settings(max_examples=100)
def test_i6_every_cluster_delivers_the_same_in_the_same_order(history, limit):
    mesh = Mesh()
    readers = [Reader(mesh, cluster, namespace, limit) for cluster in CLUSTERS for namespace in NAMESPACES]
    for _ in run(mesh, history):
        for reader in readers:
            reader.advance(1)
    mesh.heal()
    for reader in readers:
        reader.catch_up()
        assert reader.got == in_order(mesh.routes[reader.namespace], mesh.everything())


# --- step by step -------------------------------------------------------------------------------------------------


def held(**sequences):
    return VersionVector(sequences)


def test_a_new_reader_starts_with_the_first_epoch():
    assert next_step(TWO_EPOCHS, held(a=3), START, START) == Read(epoch=1, origin="a", after=0, upto=3)


def test_a_later_epoch_waits_for_what_is_missing_of_the_earlier_one():
    assert next_step(TWO_EPOCHS, held(a=3, b=9), Cursor(1, 3), Cursor(1, 3)) == Wait(Cursor(1, 3))
    assert next_step(TWO_EPOCHS, held(a=4, b=9), Cursor(1, 3), Cursor(1, 3)) == Read(1, "a", after=3, upto=4)
    assert next_step(TWO_EPOCHS, held(a=4, b=9), Cursor(1, 4), Cursor(1, 4)) == Read(2, "b", after=0, upto=9)


def test_fm10_late_batches_beyond_the_cut_are_not_read():
    assert next_step(TWO_EPOCHS, held(a=50), START, START) == Read(1, "a", after=0, upto=4)


def test_a_reader_beyond_the_cut_is_told_to_roll_back_once():
    fence = next_step(TWO_EPOCHS, held(a=9), Cursor(1, 7), Cursor(1, 9))
    assert fence == Fence(Cursor(1, 4), epoch=2)
    assert next_step(TWO_EPOCHS, held(a=9, b=1), fence.cut, fence.cut) == Read(2, "b", after=0, upto=1)


def test_fm13_the_strictest_of_the_later_cuts_is_told():
    assert next_step(THIRD_CLUSTER, held(a=9, b=9), Cursor(2, 5), Cursor(2, 5)) == Fence(Cursor(1, 2), epoch=3)
    assert next_step(THIRD_CLUSTER, held(a=9, b=9), Cursor(1, 9), Cursor(1, 9)) == Fence(Cursor(1, 2), epoch=3)
    assert next_step(THIRD_CLUSTER, held(a=9, b=9), Cursor(1, 2), Cursor(1, 2)) == Wait(Cursor(3, 0))


def test_an_epoch_fenced_as_a_whole_is_passed_over():
    assert next_step(THIRD_CLUSTER, held(a=4, b=9, c=2), Cursor(1, 2), Cursor(1, 2)) == Read(3, "c", after=0, upto=2)


def test_other_namespaces_batches_are_looked_through_once():
    assert next_step(TWO_EPOCHS, held(a=3), Cursor(1, 1), Cursor(1, 3)) == Wait(Cursor(1, 3))


def test_a_fence_behind_what_was_delivered_is_no_news():
    assert next_step(TWO_EPOCHS, held(a=9, b=2), Cursor(1, 3), Cursor(1, 9)) == Read(2, "b", after=0, upto=2)


def test_a_reader_from_a_later_epoch_waits_until_it_is_known_here():
    assert isinstance(next_step(a_route(), held(a=9), Cursor(2, 5), Cursor(2, 5)), Wait)


def test_the_prefix_of_a_cluster_that_holds_nothing():
    assert a_route().unbroken_prefix(held()) == Cursor(1, 0)


def test_the_prefix_stops_in_the_first_epoch_that_is_not_whole():
    assert TWO_EPOCHS.unbroken_prefix(held(a=3, b=9)) == Cursor(1, 3)
    assert TWO_EPOCHS.unbroken_prefix(held(a=4, b=9)) == Cursor(2, 9)
    assert THIRD_CLUSTER.unbroken_prefix(held(a=4, b=9)) == Cursor(3, 0)
