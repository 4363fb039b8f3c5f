"""The pure core as a whole: admission, receiver, picture and delivery over random histories of a small mesh."""

from hypothesis import given, settings
from tests.package.unit.replication.support import (
    CLUSTERS,
    NAMESPACES,
    Mesh,
    after,
    histories,
    in_order,
    long_histories,
    prefix,
    run,
)

from omnirelay.model.position import Cursor


@given(histories | long_histories)
@settings(max_examples=100)
def test_i5_living_producers_lose_nothing_and_double_nothing(history):
    mesh = after(history)
    mesh.heal()
    for who in mesh.producers:
        valid = in_order(mesh.routes[who.namespace], mesh.everything())
        numbers = [b.header.producer_sequence for b in valid if b.header.producer_id == who.name]
        assert numbers == sorted(set(numbers)), "doubled or reordered"
        assert who.acknowledged <= set(numbers), "lost"


@given(histories | long_histories)
@settings(max_examples=100)
def test_i12_all_clusters_converge(history):
    mesh = after(history)
    mesh.heal()
    first, *others = mesh.clusters.values()
    for other in others:
        assert other.held == first.held
        for origin in CLUSTERS:
            assert other.picture.head(origin).digest == first.picture.head(origin).digest
    for namespace in NAMESPACES:
        whole = in_order(mesh.routes[namespace], mesh.everything())
        assert [c.prefix(namespace) for c in mesh.clusters.values()] == [whole] * len(CLUSTERS)


@given(histories)
@settings(max_examples=100)
def test_the_unbroken_prefix_is_the_rule_s_at_every_cluster(history):
    mesh = after(history)
    for cluster in mesh.clusters.values():
        for namespace, route in cluster.routes.items():
            end, batches = prefix(route, cluster.logs)
            found = route.unbroken_prefix(cluster.held)
            assert found == end
            assert found.sequence <= cluster.held[route.history[found.epoch - 1].origin]
            covered = [b for b in in_order(route, mesh.everything()) if place(b) <= found]
            assert covered == batches, f"{namespace} at {cluster.name}"


@given(histories)
def test_i6_without_a_new_epoch_a_prefix_only_grows(history):
    mesh = Mesh()
    before = {}
    for _ in run(mesh, history):
        for cluster in mesh.clusters.values():
            for namespace, route in cluster.routes.items():
                key, now = (cluster.name, namespace), cluster.prefix(namespace)
                known, was = before.get(key, (route, []))
                if known == route:
                    assert now[: len(was)] == was
                before[key] = (route, now)


@given(histories)
def test_i6_of_two_prefixes_under_one_history_one_begins_the_other(history):
    mesh = after(history)
    for namespace, route in mesh.routes.items():
        shorter, *longer = sorted((prefix(route, c.logs)[1] for c in mesh.clusters.values()), key=len)
        for other in longer:
            assert other[: len(shorter)] == shorter, namespace


@given(histories)
def test_i7_nothing_that_was_committed_goes_away(history):
    mesh, seen = Mesh(), []
    for _ in run(mesh, history):
        now = mesh.everything()
        assert all(batch in now for batch in seen)
        seen = now


def place(batch):
    return Cursor(batch.header.epoch, batch.header.last_sequence)
