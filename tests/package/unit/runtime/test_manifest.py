"""The promise of an emergency's manifest, over random histories of a small mesh: what any active acknowledged is either
valid or named, exactly, and nothing is named twice.

The histories know no mercy: promotions at any time to any cluster, zombies that go on, producers that send again, and
producers that lose what they kept and number new records from where the new active tells them to.
"""

import asyncio
from collections import Counter
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.package.unit.failover.support import NOW_MS
from tests.package.unit.replication.support import CLUSTERS, NAMESPACES, Mesh, in_order, is_valid, names, sealed

from omnirelay.failover import loss
from omnirelay.failover.divergence import exact_ranges
from omnirelay.failover.record import Grade
from omnirelay.model.batch import Batch
from omnirelay.model.routing import RoutingDocument
from omnirelay.replication.admission import Duplicate, admit
from omnirelay.runtime.divergences import Divergences
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.testing.memory_log import MemoryLog


class Ruthless(Mesh):
    """Each record is unlike any other, and each promotion is an emergency that is remembered."""

    def __init__(self):
        super().__init__()
        self.emergencies = []
        self.acknowledged = {}
        """content → namespace"""

    def publish(self, producer, cluster, count):
        who, at = self.producers[producer], self.clusters[cluster]
        ownership = at.routes[who.namespace].current
        if ownership.cluster != cluster or ownership.epoch < who.epoch:
            return
        kept = who.__dict__.setdefault("contents", {})
        mark = at.picture.last_of(who.namespace, who.name)
        last = mark.producer_sequence if mark else 0
        if ownership.epoch > who.epoch or who.next != last + 1:
            who.epoch = ownership.epoch
            missing = [number for number in sorted(kept) if number > last]
            if (missing and missing[0] != last + 1) or (not missing and who.next != last + 1):
                self.restart(
                    producer
                )  # what was acknowledged is missing: the application has been told, and begins anew
                missing = []
                who.next = last + 1
            for number in missing:
                self._commit(who, at, ownership, number, *kept[number])
        content = f"{who.name} {len(self.acknowledged)}".encode()
        self._commit(who, at, ownership, who.next, content, count)
        kept[who.next] = content, count
        self.acknowledged[content] = who.namespace
        who.next += 1

    def _commit(self, who, at, ownership, number, content, count):
        header = admit(at.picture, ownership, who.namespace, who.name, number, count, 0)
        assert not isinstance(header, Duplicate)
        at.append(sealed(header, at.picture.head(header.origin).digest, content))

    def restart(self, producer):
        """It forgets what it kept."""
        self.producers[producer].__dict__["contents"] = {}

    def forget(self):
        for who in self.producers:
            route, kept = self.routes[who.namespace], who.__dict__.get("contents", {})
            held = [{b.records for b in cluster.prefix(route.namespace)} for cluster in self.clusters.values()]
            everywhere = set.intersection(*held)
            for number in [n for n, (content, _) in kept.items() if content in everywhere]:
                del kept[number]

    def promote(self, namespace, target):
        before = self.routes[namespace]
        heard = {o: log[-1].header.last_sequence for c in self.clusters.values() for o, log in c.logs.items() if log}
        super().promote(namespace, target)
        after = self.routes[namespace]
        if after is not before:
            told = [SimpleNamespace(origin=origin, heard=sequence) for origin, sequence in heard.items()]
            self.emergencies.append(
                SimpleNamespace(
                    plan=SimpleNamespace(loss=told),
                    manifest=(),
                    heard={},
                    expected_epochs={namespace: before.epoch},
                    cuts={namespace: after.current.cut},
                )
            )

    def pull(self, source, target, batches):
        for origin in CLUSTERS:
            for _ in range(batches):
                self.replicate(source, target, origin)

    def heal(self):
        for cluster in self.clusters:
            self.learn(cluster)
        for _ in range(len(CLUSTERS)):
            for origin in CLUSTERS:
                for source in CLUSTERS:
                    for target in CLUSTERS:
                        for _ in self.clusters[source].logs.get(origin, []):
                            self.replicate(source, target, origin)


operations = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 3), names, st.integers(1, 3)),
    st.tuples(st.just("publish"), st.integers(0, 3), names, st.integers(1, 3)),
    st.tuples(st.just("pull"), names, names, st.integers(1, 3)),
    st.tuples(st.just("replicate"), names, names, names),
    st.tuples(st.just("promote"), st.sampled_from(NAMESPACES), names),
    st.tuples(st.just("learn"), names),
    st.tuples(st.just("restart"), st.integers(0, 3)),
    st.just(("forget",)),
)
histories = st.lists(operations, min_size=10, max_size=80)


def after(history):
    mesh = Ruthless()
    for name, *arguments in history:
        getattr(mesh, name)(*arguments)
    return mesh


def with_place(records, header):
    return records + f" from {header.origin}:{header.first_sequence}".encode()


async def manifests(mesh, cluster):
    """Each emergency's manifest as this cluster knows it, and what diverged there."""
    site, log = mesh.clusters[cluster], await MemoryLog.open()
    clock = SimpleNamespace(monotonic=lambda: 0.0, wall_ms=lambda: NOW_MS)
    sequencer = Sequencer(log, cluster, clock, lambda header: repr(header).encode(), str.encode)
    await sequencer.start()
    for batches in site.logs.values():
        for batch in batches:
            await log.append(batch)
    await sequencer.install(site.routes)
    view = SimpleNamespace(divergences={})
    divergences = await Divergences(view, sequencer, None, clock, with_place, list).all()
    routing = RoutingDocument(1, site.routes)
    told = [loss.manifest(emergency, routing, site.held, divergences) for emergency in mesh.emergencies]
    await log.close()
    return told, divergences


def covers(range_, batch: Batch):
    header = batch.header
    return (range_.namespace, range_.origin, range_.epoch) == (header.namespace, header.origin, header.epoch) and (
        range_.first <= header.first_sequence and header.last_sequence <= range_.last
    )


@given(histories, names)
@settings(max_examples=300, deadline=None)
def test_what_was_acknowledged_is_valid_or_in_a_manifest_exactly_and_nothing_twice(history, cluster):
    mesh = after(history)
    mesh.heal()
    told, _ = asyncio.run(manifests(mesh, cluster))
    ranges = [range_ for manifest in told for range_ in manifest]
    assert all(range_.exact for range_ in ranges), "everything has arrived"
    copies = {}
    for batch in mesh.everything():
        copies.setdefault(batch.records, []).append(batch)
    assert copies.keys() == mesh.acknowledged.keys()
    for content, batches in copies.items():
        route = mesh.routes[mesh.acknowledged[content]]
        fates = Counter()
        for batch in batches:
            naming = [range_ for range_ in ranges if covers(range_, batch)]
            if is_valid(route, batch):
                assert naming == [], "valid, and yet in a manifest"
                fates["valid"] += 1
            else:
                [range_] = naming  # in one manifest, once
                fates[range_.grade] += 1
        superseded = fates.pop(Grade.SUPERSEDED, 0)
        assert superseded == len(batches) - 1
        assert sum(fates.values()) == 1, f"{content} is {dict(fates)}"
        assert fates.keys() <= {"valid", Grade.FENCED}
    named = sum(range_.records for range_ in ranges)
    assert named == sum(b.header.count for b in mesh.everything() if not is_valid(mesh.routes[b.header.namespace], b))


@given(histories, names)
@settings(max_examples=200, deadline=None)
def test_before_everything_has_arrived_no_acknowledged_record_that_was_heard_of_is_missing(history, cluster):
    """By what any one cluster holds: valid, exactly named, or within a range that is presumed lost."""
    mesh = after(history)
    mesh.learn(cluster)
    told, _ = asyncio.run(manifests(mesh, cluster))
    ranges = [range_ for manifest in told for range_ in manifest]
    for emergency in mesh.emergencies:
        heard = {each.origin: each.heard for each in emergency.plan.loss}
        [(namespace, epoch)] = emergency.expected_epochs.items()
        route = mesh.routes[namespace]
        for batch in mesh.everything():
            header = batch.header
            if (header.namespace, header.epoch) != (namespace, epoch) or is_valid(route, batch):
                continue
            if header.last_sequence <= heard.get(header.origin, 0):
                assert any(covers(range_, batch) for range_ in ranges), header


@given(histories)
@settings(max_examples=100, deadline=None)
def test_every_cluster_tells_the_same_once_it_holds_the_same(history):
    mesh = after(history)
    mesh.heal()
    first, *others = [asyncio.run(manifests(mesh, cluster))[0] for cluster in CLUSTERS]
    assert all(other == first for other in others)


@given(histories, names)
@settings(max_examples=100, deadline=None)
def test_divergence_and_the_valid_order_are_the_whole_log(history, cluster):
    mesh = after(history)
    mesh.heal()
    _, divergences = asyncio.run(manifests(mesh, cluster))
    fenced = {(d.origin, b.first_sequence) for d in divergences for b in d.batches}
    valid = {
        (b.header.origin, b.header.first_sequence)
        for route in mesh.routes.values()
        for b in in_order(route, mesh.everything())
    }
    assert fenced.isdisjoint(valid)
    assert fenced | valid == {(b.header.origin, b.header.first_sequence) for b in mesh.everything()}
    assert all(sum(r.records for r in exact_ranges(d)) == d.records for d in divergences)
