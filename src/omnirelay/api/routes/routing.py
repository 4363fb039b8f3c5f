"""/control/routing: which cluster is active for each namespace, in which epoch, and where it answers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from omnirelay.api import present, schemas
from omnirelay.api.etags import etag
from omnirelay.api.events import EventStream, stream
from omnirelay.api.guard import GuardedRoute, Serving, needs
from omnirelay.failover.acknowledgement import acknowledgement
from omnirelay.model.access import Scope
from omnirelay.replication.picture import route_of
from omnirelay.runtime.view import MeshView

router = APIRouter(prefix="/control/routing", tags=["routing"], route_class=GuardedRoute)


@router.get("", operation_id="getRouting")
@needs(Scope.READ)
async def get_routing(services: Serving, response: Response, namespace: str | None = None) -> schemas.Routing:
    """The whole routing document, or the part about one namespace. The ETag is the document's version."""
    await _require_known(services.view, namespace)
    response.headers["ETag"] = etag(services.view.routing.version)
    return present.routing(services.view, services.coordination_reachable, namespace)


@router.get("/watch", operation_id="watchRouting", response_class=EventStream)
@needs(Scope.READ)
async def watch_routing(services: Serving, request: Request) -> EventStream:
    """Server-sent events `routing`: the document as it is, then each newer one. A slow reader skips to the newest."""
    return stream(
        request,
        services.view.changed,
        "routing",
        lambda: (present.routing(services.view, services.coordination_reachable), False),
    )


@router.get("/readers", operation_id="getReaders")
@needs(Scope.READ)
async def get_readers(services: Serving, namespace: str | None = None) -> schemas.Readers:
    """Which clusters and readers have taken notice of the routing as it is now, and who has not."""
    await _require_known(services.view, namespace)
    known = services.view.routing.routes
    return present.readers(acknowledgement(services.view.evidence(), known if namespace is None else [namespace]))


async def _require_known(view: MeshView, namespace: str | None) -> None:
    """Raises UnknownNamespace; CoordinationUnavailable when nobody can tell."""
    if namespace is not None and namespace not in view.routing.routes:
        await view.look_again()
        route_of(view.routing.routes, namespace)
