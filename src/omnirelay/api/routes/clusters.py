"""/control/clusters: descriptors, with what the mesh knows of each cluster."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from omnirelay.api import present, schemas
from omnirelay.api.etags import etag, expected_revision
from omnirelay.api.guard import Calling, DryRun, GuardedRoute, Serving, needs
from omnirelay.api.services import Services
from omnirelay.model.access import Scope
from omnirelay.model.descriptor import ClusterDescriptor, ClusterState, Endpoints
from omnirelay.runtime.clusters import Stored, derived_state

router = APIRouter(prefix="/control/clusters", tags=["clusters"], route_class=GuardedRoute)

IfMatch = Annotated[str | None, Header(alias="If-Match", description="The ETag of what is changed; required.")]


@router.get("", operation_id="listClusters")
@needs(Scope.READ)
async def list_clusters(
    services: Serving,
    response: Response,
    state: ClusterState | None = None,
    region: str | None = None,
    owner: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    page_token: Annotated[str, Query(description="`next_page_token` of the page before.")] = "",
) -> schemas.ClusterList:
    """Clusters by id, with state, readiness and the lag towards each peer."""
    view = services.view
    fitting = [
        descriptor
        for descriptor in services.clusters.all()
        if descriptor.cluster_id > page_token
        and state in (None, derived_state(view, descriptor))
        and region in (None, descriptor.region)
        and (owner is None or owner in descriptor.owners)
    ]
    page = fitting[:limit]
    response.headers["ETag"] = f"W/{etag(view.revision)}"
    return schemas.ClusterList(
        clusters=[present.cluster(view, descriptor) for descriptor in page],
        routing_version=view.routing.version,
        next_page_token=page[-1].cluster_id if len(fitting) > limit else "",
        coordination=schemas.Coordination(reachable=services.coordination_reachable),
    )


@router.post("", operation_id="createCluster", status_code=201, responses={200: {"model": schemas.Cluster}})
@needs(Scope.ADMIN, "cluster.create")
async def create_cluster(
    services: Serving, caller: Calling, response: Response, body: schemas.ClusterCreate, dry_run: DryRun
) -> schemas.Cluster:
    """A new descriptor; the cluster becomes the owner of those `namespaces` that nobody owns.

    The same call again answers 200 and changes nothing.
    """
    descriptor = _descriptor(body.cluster_id, body)
    stored, created = await services.clusters.create(descriptor, body.namespaces, caller.actor, dry_run)
    response.status_code = 201 if created and not dry_run else 200
    if response.status_code == 201:
        response.headers["Location"] = f"/control/clusters/{body.cluster_id}"
    return _answer(services, stored, response)


@router.get("/{cluster_id}", operation_id="getCluster")
@needs(Scope.READ)
async def get_cluster(services: Serving, response: Response, cluster_id: schemas.Name) -> schemas.Cluster:
    """One cluster. The ETag is the descriptor's; status and lag change without it."""
    return _answer(services, await services.clusters.find(cluster_id), response)


@router.put("/{cluster_id}", operation_id="replaceCluster")
@needs(Scope.OPERATE, "cluster.update")
async def replace_cluster(
    services: Serving,
    caller: Calling,
    response: Response,
    cluster_id: schemas.Name,
    body: schemas.ClusterReplace,
    dry_run: DryRun,
    if_match: IfMatch = None,
) -> schemas.Cluster:
    """The whole descriptor anew; what is left out gets its default."""
    descriptor = _descriptor(body.cluster_id or cluster_id, body)
    revision = expected_revision(if_match)
    stored = await services.clusters.update(cluster_id, revision, lambda _: descriptor, caller.actor, dry_run)
    return _answer(services, stored, response)


@router.patch("/{cluster_id}", operation_id="updateCluster")
@needs(Scope.OPERATE, "cluster.update")
async def update_cluster(
    services: Serving,
    caller: Calling,
    response: Response,
    cluster_id: schemas.Name,
    body: schemas.ClusterPatch,
    dry_run: DryRun,
    if_match: IfMatch = None,
) -> schemas.Cluster:
    """Some fields anew; the rest stays."""
    revision = expected_revision(if_match)
    stored = await services.clusters.update(
        cluster_id, revision, lambda known: _patched(known, body), caller.actor, dry_run
    )
    return _answer(services, stored, response)


@router.delete("/{cluster_id}", operation_id="deleteCluster")
@needs(Scope.ADMIN, "cluster.delete")
async def delete_cluster(
    services: Serving,
    caller: Calling,
    cluster_id: schemas.Name,
    dry_run: DryRun,
    change_ticket: Annotated[str, Query(min_length=1, max_length=2000)],
    if_match: IfMatch = None,
) -> schemas.Cluster:
    """Removes the descriptor and answers it as it was. Refused while it owns namespaces or a failover uses it."""
    revision = expected_revision(if_match)
    gone = await services.clusters.delete(cluster_id, revision, change_ticket, caller.actor, dry_run)
    return present.cluster(services.view, gone)


@router.get("/{cluster_id}/replication", operation_id="getReplication")
@needs(Scope.READ)
async def get_replication(services: Serving, cluster_id: schemas.Name) -> schemas.Replication:
    """Vector, heads with chain digests, and both directions of every link, as the cluster reported them last."""
    return present.replication(services.view, (await services.clusters.find(cluster_id)).descriptor)


@router.post("/{cluster_id}/rebuild", operation_id="rebuildCluster", status_code=202)
@needs(Scope.ADMIN, "cluster.rebuild")
async def rebuild_cluster(
    services: Serving, caller: Calling, cluster_id: schemas.Name, body: schemas.RecoveryBody, dry_run: DryRun
) -> schemas.RebuildModel:
    """Lets a cluster that has lost its own log begin a new one, under its next incarnation. Refused while nobody holds
    more of its log than it does itself, and while it owns namespaces. The cluster carries it out by itself."""
    rebuild = await services.rebuilding.request(cluster_id, body.change_ticket, body.reason, caller.actor, dry_run)
    return schemas.RebuildModel.model_validate(asdict(rebuild))


@router.post("/{cluster_id}/reseed", operation_id="reseedCluster", status_code=202)
@needs(Scope.ADMIN, "cluster.reseed")
async def reseed_cluster(
    services: Serving, caller: Calling, cluster_id: schemas.Name, body: schemas.RecoveryBody, dry_run: DryRun
) -> schemas.ReseedModel:
    """Lets a cluster that fell behind retention go on without what was dropped meanwhile. Refused while it reports of
    no such log. The cluster carries it out by itself, and closes it once another one proves the same history."""
    reseed = await services.reseeding.request(cluster_id, body.change_ticket, body.reason, caller.actor, dry_run)
    return schemas.ReseedModel(**{**asdict(reseed), "origins": list(reseed.origins)})


def _answer(services: Services, stored: Stored, response: Response) -> schemas.Cluster:
    response.headers["ETag"] = etag(stored.revision)
    return present.cluster(services.view, stored.descriptor, stored.routing)


def _descriptor(cluster_id: str, body: schemas.ClusterFields) -> ClusterDescriptor:
    return ClusterDescriptor(
        cluster_id=cluster_id,
        region=body.region,
        endpoints=Endpoints(body.endpoints.grpc, body.endpoints.control),
        owners=tuple(body.owners),
        change_ticket=body.change_ticket,
        priority=body.priority,
        failover_policy=body.failover_policy,
        maintenance=body.maintenance,
        annotations=dict(body.annotations),
    )


def _patched(known: ClusterDescriptor, body: schemas.ClusterPatch) -> ClusterDescriptor:
    changes = {name: value for name, value in body if value is not None and name not in ("endpoints", "owners")}
    if body.endpoints is not None:
        changes["endpoints"] = Endpoints(body.endpoints.grpc, body.endpoints.control)
    if body.owners is not None:
        changes["owners"] = tuple(body.owners)
    return replace(known, **changes)
