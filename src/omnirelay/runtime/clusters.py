"""Cluster descriptors: what they amount to, and changing them with an owner, a change ticket and an audit entry.

A descriptor says what people decided about a cluster; its state is derived from that and from what the mesh does, so
the two cannot contradict each other. Revisions are those of the coordination store, and are what the API shows as
ETags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from omnirelay.errors import BadRequest, ClusterInUse, Conflict, EtagMismatch, NotFound, OperationInProgress
from omnirelay.failover.evidence import FRESH_SECONDS
from omnirelay.failover.modes import HOLDS_LOCK, SOURCE_CLOSED
from omnirelay.failover.preflight import DISK_LOW_RATIO
from omnirelay.failover.record import Failover
from omnirelay.model import ids
from omnirelay.model.descriptor import ClusterDescriptor, ClusterState
from omnirelay.model.lag import ReplicationStatus
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.ports.coordination import Compare, Delete, Put, Write
from omnirelay.runtime.audit import Actor, Auditor, Deed
from omnirelay.runtime.documents import CLUSTERS, LOCKS, ROUTING, ROUTING_DOCUMENT
from omnirelay.runtime.view import MeshView

ATTEMPTS = 20
"""How often a change is decided again because descriptor or routing moved meanwhile."""

POLICIES = ("manual",)
"""Nothing promotes by itself; the field leaves room for policies that an operator could choose."""

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Stored:
    """A descriptor with the store revision of its key; 0 for one that a dry run would create."""

    descriptor: ClusterDescriptor
    revision: int
    routing: RoutingDocument | None = None
    """Of a dry run that would make it an owner: the routing that there would be."""


def derived_state(
    view: MeshView, descriptor: ClusterDescriptor, routing: RoutingDocument | None = None
) -> ClusterState:
    """What the descriptor amounts to: an operator's maintenance first, then what the mesh does with the cluster.
    `routing` stands in for the one that there is."""
    cluster = descriptor.cluster_id
    if descriptor.maintenance:
        return ClusterState.MAINTENANCE
    if any(f.source == cluster and f.state in SOURCE_CLOSED for f in view.failovers.values()):
        return ClusterState.DRAINING
    return ClusterState.ACTIVE if (routing or view.routing).owned_by(cluster) else ClusterState.PASSIVE


def unreadiness(view: MeshView, descriptor: ClusterDescriptor) -> list[str]:
    """Every reason why the cluster could not take part in a failover now. The unknown counts as a reason (I13)."""
    cluster = descriptor.cluster_id
    report, age = view.reports.get(cluster), view.report_age(cluster)
    reasons = ["is in maintenance"] if descriptor.maintenance else []
    if report is None or age is None:
        return [*reasons, "does not report"]
    if age > FRESH_SECONDS:
        return [*reasons, f"reported {age:.1f} s ago"]
    reasons += report.problems
    if report.disk_total_bytes <= 0 or report.disk_free_bytes / report.disk_total_bytes < DISK_LOW_RATIO:
        reasons.append(f"has {report.disk_free_bytes} of {report.disk_total_bytes} bytes of disk free")
    for active in sorted({route.active for route in view.routing.routes.values()} - {cluster}):
        peer = report.peers.get(active)
        status = peer.inbound.status if peer else ReplicationStatus.UNKNOWN
        if status is not ReplicationStatus.STREAMING:
            reasons.append(f"is not level with {active}: {status}")
    return reasons


class Clusters:
    """One instance per replicator. Every change is one transaction of descriptor, routing where it bootstraps
    ownership, and audit entry; a dry run takes the same checks (I14)."""

    def __init__(self, view: MeshView, auditor: Auditor) -> None:
        self._view = view
        self._auditor = auditor

    def get(self, cluster_id: str) -> Stored:
        """As this replicator sees it. Raises NotFound."""
        descriptor = self._view.clusters.get(cluster_id)
        if descriptor is None:
            raise NotFound(f"there is no cluster {cluster_id!r}", kind="clusters", cluster=cluster_id)
        return Stored(descriptor, self._view.cluster_revisions[cluster_id])

    async def find(self, cluster_id: str) -> Stored:
        """Like `get`; what is not seen is looked for in the store. Raises NotFound, CoordinationUnavailable."""
        if cluster_id not in self._view.clusters:
            await self._view.look_again()
        return self.get(cluster_id)

    def all(self) -> list[ClusterDescriptor]:
        """As this replicator sees them, by id."""
        return [descriptor for _, descriptor in sorted(self._view.clusters.items())]

    async def create(
        self, descriptor: ClusterDescriptor, namespaces: Sequence[str], actor: Actor, dry_run: bool = False
    ) -> tuple[Stored, bool]:
        """A new descriptor, and whether it is new. The cluster becomes the owner of those of `namespaces` that nobody
        owns, in epoch 1. The same call again changes nothing.

        Raises BadRequest, Conflict when the id is taken by another descriptor or another cluster owns a namespace.
        """
        _validate(descriptor)
        wanted = sorted({ids.namespace(name) for name in namespaces})
        cluster, key = descriptor.cluster_id, CLUSTERS.key(descriptor.cluster_id)
        for _ in range(ATTEMPTS):
            await self._view.refresh()
            known = self._view.clusters.get(cluster)
            if known not in (None, descriptor):
                raise Conflict(f"cluster {cluster} exists with another descriptor; update it instead", cluster=cluster)
            routing = self._bootstrap(cluster, wanted)
            if dry_run or (known and routing is None):
                return Stored(descriptor, self._view.cluster_revisions.get(cluster, 0), routing), known is None
            compares, writes = [Compare(key, self._view.cluster_revisions.get(cluster, 0))], _puts(descriptor)
            if routing is not None:
                compares.append(Compare(ROUTING, self._view.routing_revision))
                writes.append(Put(ROUTING, ROUTING_DOCUMENT.encode(routing)))
            after = {**asdict(descriptor), "namespaces": wanted, "routing_version": routing.version if routing else 0}
            deed = _deed("cluster.create", descriptor, asdict(known) if known else None, after)
            if await self._auditor.commit(compares, writes, actor, deed):
                await self._view.refresh()
                return self.get(cluster), known is None
        raise Conflict(f"cluster {cluster} or the routing was changed by others all the time", cluster=cluster)

    async def update(
        self,
        cluster_id: str,
        etag: int,
        change: Callable[[ClusterDescriptor], ClusterDescriptor],
        actor: Actor,
        dry_run: bool = False,
    ) -> Stored:
        """Replaces the descriptor whose revision is `etag`. Raises NotFound, EtagMismatch, BadRequest."""
        before = await self._expect(cluster_id, etag)
        after = change(before)
        _validate(after)
        if after.cluster_id != cluster_id:
            raise BadRequest(f"the id of {cluster_id} cannot change", path="cluster_id")
        if dry_run or after == before:
            return Stored(after, etag)
        deed = _deed("cluster.update", after, asdict(before), asdict(after))
        if not await self._auditor.commit([Compare(CLUSTERS.key(cluster_id), etag)], _puts(after), actor, deed):
            await self._expect(cluster_id, etag)  # raises: the revision has moved
        await self._view.refresh()
        return self.get(cluster_id)

    async def delete(
        self, cluster_id: str, etag: int, change_ticket: str, actor: Actor, dry_run: bool = False
    ) -> ClusterDescriptor:
        """Removes the descriptor whose revision is `etag`, and answers it.

        Raises NotFound, EtagMismatch, ClusterInUse while it owns namespaces, OperationInProgress while a failover
        moves something from or to it.
        """
        if not change_ticket.strip():
            raise BadRequest("a change ticket is required", path="change_ticket")
        for _ in range(ATTEMPTS):
            before = await self._expect(cluster_id, etag)
            self._refuse_in_use(cluster_id)
            if dry_run:
                return before
            # Neither ownership nor a failover of this cluster may begin between the look and the deletion.
            compares = [Compare(CLUSTERS.key(cluster_id), etag), Compare(ROUTING, self._view.routing_revision)]
            free = [name for name in self._view.routing.routes if name not in self._view.locks]
            compares += [Compare(LOCKS.key(name), 0) for name in free]
            deed = Deed(
                "cluster.delete",
                f"clusters/{cluster_id}",
                change_ticket=change_ticket,
                before=asdict(before),
                after=None,
            )
            if await self._auditor.commit(compares, [Delete(CLUSTERS.key(cluster_id))], actor, deed):
                await self._view.refresh()
                return before
        raise Conflict(f"the mesh around {cluster_id} was changed by others all the time", cluster=cluster_id)

    async def _expect(self, cluster_id: str, etag: int) -> ClusterDescriptor:
        await self._view.refresh()
        stored = self.get(cluster_id)
        if stored.revision != etag:
            raise EtagMismatch(
                f"cluster {cluster_id} was changed after it was read", etag=f'"{stored.revision}"', cluster=cluster_id
            )
        return stored.descriptor

    def _bootstrap(self, cluster: str, namespaces: Sequence[str]) -> RoutingDocument | None:
        """The routing document in which the cluster owns them all; None when it does already."""
        routes = dict(self._view.routing.routes)
        report = self._view.reports.get(cluster)
        for name in namespaces:
            route = routes.get(name)
            if route is not None and route.active != cluster:
                raise Conflict(f"{name} is owned by {route.active}", namespace=name, owner=route.active)
            if route is None:
                routes[name] = Route(name, (Ownership(1, cluster, report.origin if report else cluster),))
        if len(routes) == len(self._view.routing.routes):
            return None
        return RoutingDocument(self._view.routing.version + 1, routes)

    def _refuse_in_use(self, cluster: str) -> None:
        owned = self._view.routing.owned_by(cluster)
        if owned:
            names = ", ".join(owned)
            raise ClusterInUse(f"{cluster} owns {names}", cluster=cluster, namespaces=names, how="")
        for failover in self._view.failovers.values():
            if failover.state in HOLDS_LOCK and _takes_part(cluster, failover):
                raise OperationInProgress(
                    f"failover {failover.id} moves {', '.join(failover.request.namespaces)} from or to {cluster}",
                    failover_id=failover.id,
                )


def _takes_part(cluster: str, failover: Failover) -> bool:
    return cluster in (failover.source, failover.request.target)


def _puts(descriptor: ClusterDescriptor) -> list[Write]:
    return [Put(CLUSTERS.key(descriptor.cluster_id), CLUSTERS.encode(descriptor))]


def _deed(action: str, descriptor: ClusterDescriptor, before: object, after: object) -> Deed:
    subject = f"clusters/{descriptor.cluster_id}"
    return Deed(action, subject, change_ticket=descriptor.change_ticket, before=before, after=after)


def _validate(descriptor: ClusterDescriptor) -> None:
    """Raises BadRequest that names the field."""
    ids.cluster_id(descriptor.cluster_id)
    control = urlsplit(descriptor.endpoints.control)
    host_port = _HOST_PORT.fullmatch(descriptor.endpoints.grpc)
    rules = (
        ("region", bool(descriptor.region.strip()), "is required"),
        ("owners", bool(descriptor.owners) and all(o.strip() for o in descriptor.owners), "are required, none empty"),
        ("change_ticket", bool(descriptor.change_ticket.strip()), "is required"),
        ("failover_policy", descriptor.failover_policy in POLICIES, f"must be one of {', '.join(POLICIES)}"),
        ("endpoints.grpc", bool(host_port and 0 < int(host_port[2]) < 65536), "must be host:port"),
        ("endpoints.control", control.scheme == "https" and bool(control.hostname), "must be an https URL"),
    )
    for path, holds, rule in rules:
        if not holds:
            raise BadRequest(f"{path} {rule}", path=path)
