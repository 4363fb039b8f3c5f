"""Batches, and a mesh in miniature that runs the pure core against readings of protocol.md by brute force."""

from collections.abc import Iterator

from hypothesis import strategies as st

from omnirelay.model.batch import GENESIS_DIGEST, Batch, BatchHeader, BatchKind, chain_digest
from omnirelay.model.log_state import Head, LogState, ProducerMark
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.replication.admission import Duplicate, admit
from omnirelay.replication.picture import LogPicture
from omnirelay.replication.receiver import Decision, receive

CLUSTERS = ("a", "b", "c")
NAMESPACES = ("one", "two")


def sealed(header: BatchHeader, previous: bytes = GENESIS_DIGEST, records: bytes = b"r") -> Batch:
    """The batch with its digest; header bytes are any that tell headers apart."""
    header_bytes = repr(header).encode()
    return Batch(header, header_bytes, records, chain_digest(previous, header_bytes, records))


def a_header(
    origin: str = "a",
    first: int = 1,
    count: int = 1,
    namespace: str = "one",
    epoch: int = 1,
    producer: str = "p",
    number: int = 1,
    kind: BatchKind = BatchKind.DATA,
) -> BatchHeader:
    return BatchHeader(origin, first, count, namespace, epoch, 0, producer, number, VersionVector(), kind)


def a_log(origin: str = "a", counts: tuple[int, ...] = (1, 1, 1), size: int = 1, epoch: int = 1) -> list[Batch]:
    """An origin's log of batches with so many records each, one producer's."""
    batches, previous, first = [], GENESIS_DIGEST, 1
    for number, count in enumerate(counts, 1):
        header = a_header(origin, first, count, number=number, epoch=epoch)
        batches.append(sealed(header, previous, b"r" * size))
        previous, first = batches[-1].digest, first + count
    return batches


def a_route(*ownerships: Ownership, namespace: str = "one") -> Route:
    return Route(namespace, ownerships or (Ownership(1, "a", "a"),))


def a_picture(*routes: Route) -> LogPicture:
    return LogPicture(LogState(routes={route.namespace: route for route in routes or (a_route(),)}))


# --- the rules by brute force -------------------------------------------------------------------------------------


def is_valid(route: Route, batch: Batch) -> bool:
    """Within the cut of every later ownership."""
    place = (batch.header.epoch, batch.header.last_sequence)
    return all(place <= (o.cut.epoch, o.cut.sequence) for o in route.history if o.epoch > batch.header.epoch)


def prefix(route: Route, held: dict[str, list[Batch]]) -> tuple[Cursor, list[Batch]]:
    """The unbroken prefix of a cluster that holds these logs: its end, and its batches in order."""
    end, got = Cursor(), []
    for owner in route.history:
        cuts = [(later.cut.epoch, later.cut.sequence) for later in route.history if later.epoch > owner.epoch]
        if cuts and min(cuts) <= (owner.epoch, 0):
            continue  # fenced as a whole
        log = held.get(owner.origin, [])
        have = log[-1].header.last_sequence if log else 0
        last = min(cuts)[1] if cuts else None
        got += [
            b
            for b in log
            if (b.header.namespace, b.header.epoch) == (route.namespace, owner.epoch)
            and (last is None or b.header.last_sequence <= last)
        ]
        end = Cursor(owner.epoch, have if last is None else min(have, last))
        if last is None or have < last:
            break  # something of this epoch may still be missing: nothing later is in order
    return end, got


def in_order(route: Route, batches: list[Batch]) -> list[Batch]:
    """The valid ones of the route's namespace, by (epoch, sequence)."""
    mine = [b for b in batches if b.header.namespace == route.namespace and is_valid(route, b)]
    return sorted(mine, key=lambda b: (b.header.epoch, b.header.first_sequence))


# --- the mesh -----------------------------------------------------------------------------------------------------


class Cluster:
    def __init__(self, name: str, routes: dict[str, Route]) -> None:
        self.name = name
        self.logs: dict[str, list[Batch]] = {}
        self.routes = routes
        self.picture = LogPicture(LogState(routes=routes))

    @property
    def held(self) -> VersionVector:
        return VersionVector({origin: log[-1].header.last_sequence for origin, log in self.logs.items()})

    def append(self, batch: Batch) -> None:
        self.picture.queued(batch)
        self.logs.setdefault(batch.header.origin, []).append(batch)

    def install(self, routes: dict[str, Route]) -> None:
        """What a log does: producers' marks are rebuilt from what is valid now."""
        self.routes = dict(routes)
        producers: dict[str, dict[int, dict[str, ProducerMark]]] = {}
        for batch in (b for log in self.logs.values() for b in log):
            h = batch.header
            if is_valid(routes[h.namespace], batch):
                marks = producers.setdefault(h.namespace, {}).setdefault(h.epoch, {})
                marks[h.producer_id] = ProducerMark(h.producer_sequence, h.first_sequence, h.count)
        heads = {
            origin: Head(log[-1].header.last_sequence, log[-1].digest, sum(b.size for b in log))
            for origin, log in self.logs.items()
        }
        self.picture = LogPicture(LogState(heads=heads, routes=self.routes, producers=producers))

    def prefix(self, namespace: str) -> list[Batch]:
        return prefix(self.routes[namespace], self.logs)[1]


class Producer:
    """Keeps what is not everywhere yet, and sends it again to a new active before anything new."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self.next = 1
        self.kept: list[int] = []
        self.acknowledged: set[int] = set()
        self.epoch = 1


class Mesh:
    """Clusters, links and producers that do one thing at a time. Nothing here waits: a cluster that is not told of a
    promotion goes on as owner of the old epoch, as one does that was paused."""

    def __init__(self) -> None:
        self.routes = {n: Route(n, (Ownership(1, CLUSTERS[0], CLUSTERS[0]),)) for n in NAMESPACES}
        self.clusters = {name: Cluster(name, dict(self.routes)) for name in CLUSTERS}
        self.producers = [Producer(f"{n}-{i}", n) for n in NAMESPACES for i in range(2)]

    # Each of these is one operation of a generated history.

    def publish(self, producer: int, cluster: str, count: int) -> None:
        who, at = self.producers[producer], self.clusters[cluster]
        ownership = at.routes[who.namespace].current
        if ownership.cluster != cluster or ownership.epoch < who.epoch:
            return  # not active, or a producer that knows better
        if ownership.epoch > who.epoch:
            who.epoch = ownership.epoch
            last = at.picture.last_of(who.namespace, who.name)
            for number in [k for k in who.kept if k > (last.producer_sequence if last else 0)]:
                self._send(who, at, ownership, number, count)
        self._send(who, at, ownership, who.next, count)
        who.kept.append(who.next)
        who.acknowledged.add(who.next)
        who.next += 1

    def _send(self, who: Producer, at: Cluster, ownership: Ownership, number: int, count: int) -> None:
        header = admit(at.picture, ownership, who.namespace, who.name, number, count, 0)
        assert not isinstance(header, Duplicate)
        at.append(sealed(header, at.picture.head(header.origin).digest))
        again = admit(at.picture, ownership, who.namespace, who.name, number, count, 0)
        assert isinstance(again, Duplicate)

    def replicate(self, source: str, target: str, origin: str) -> None:
        here, there = self.clusters[target], self.clusters[source].logs.get(origin, [])
        missing = there[len(here.logs.get(origin, [])) :]
        if not missing or source == target:
            return
        batch = missing[0]
        if batch.header.epoch > here.routes[batch.header.namespace].epoch:
            assert receive(here.picture, batch) is Decision.UNKNOWN_EPOCH
            self.learn(target)
        valid = is_valid(here.routes[batch.header.namespace], batch)
        assert receive(here.picture, batch) is (Decision.APPLY if valid else Decision.FENCED)
        here.append(batch)

    def learn(self, cluster: str) -> None:
        self.clusters[cluster].install(self.routes)

    def promote(self, namespace: str, target: str) -> None:
        route = self.routes[namespace]
        if route.active == target:
            return
        cut = prefix(route, self.clusters[target].logs)[0]
        ownership = Ownership(route.epoch + 1, target, target, cut)
        self.routes[namespace] = Route(namespace, (*route.history, ownership))
        self.learn(target)

    def forget(self) -> None:
        """Producers let go of what lies in every cluster's prefix."""
        for who in self.producers:
            route = self.routes[who.namespace]
            everywhere = min(
                max(
                    (b.header.producer_sequence for b in prefix(route, c.logs)[1] if b.header.producer_id == who.name),
                    default=0,
                )
                for c in self.clusters.values()
            )
            who.kept = [k for k in who.kept if k > everywhere]

    # And the end of every history.

    def heal(self) -> None:
        """Everyone hears of everything, and every producer meets the last active."""
        for cluster in self.clusters:
            self.learn(cluster)
        for number, who in enumerate(self.producers):
            self.publish(number, self.routes[who.namespace].active, 1)
        for _ in range(len(CLUSTERS)):
            for origin in CLUSTERS:
                for source in CLUSTERS:
                    for target in CLUSTERS:
                        for _ in self.clusters[source].logs.get(origin, []):
                            self.replicate(source, target, origin)

    def everything(self) -> list[Batch]:
        """Every batch that was ever committed: each origin's own log."""
        return [batch for name, cluster in self.clusters.items() for batch in cluster.logs.get(name, [])]


names = st.sampled_from(CLUSTERS)
operations = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 3), names, st.integers(1, 3)),
    st.tuples(st.just("replicate"), names, names, names),
    st.tuples(st.just("replicate"), names, names, names),
    st.tuples(st.just("promote"), st.sampled_from(NAMESPACES), names),
    st.tuples(st.just("learn"), names),
    st.just(("forget",)),
)
histories = st.lists(operations, max_size=60)
long_histories = st.lists(operations, min_size=100, max_size=150)
"""What lets producers meet several owners and forget in between; slower, and harder to read when it fails."""


def run(mesh: Mesh, history: list[tuple[object, ...]]) -> Iterator[Mesh]:
    """The mesh after each operation."""
    for name, *arguments in history:
        getattr(mesh, str(name))(*arguments)
        yield mesh


def after(history: list[tuple[object, ...]]) -> Mesh:
    mesh = Mesh()
    for _ in run(mesh, history):
        pass
    return mesh
