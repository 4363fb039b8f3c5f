"""/healthz, /readyz, /version for anybody; /metrics for readers, or for anybody where the configuration says so."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from omnirelay.api import schemas
from omnirelay.api.auth import identify
from omnirelay.api.guard import Serving, needs
from omnirelay.errors import NotReady
from omnirelay.model.access import Scope

router = APIRouter(tags=["meta"])

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz", operation_id="getHealth")
async def get_health() -> schemas.Health:
    """The process answers. It may still not be ready."""
    return schemas.Health(status="ok")


@router.get("/readyz", operation_id="getReadiness")
async def get_readiness(services: Serving) -> schemas.Readiness:
    """This replicator can do its part: its log is open, it sees the mesh as it is, and it holds a lease of the
    coordination store. Otherwise 503, `not_ready`, with every reason in `details.problems`."""
    problems = services.readiness()
    if problems:
        raise NotReady("; ".join(problems), problems=problems)
    return schemas.Readiness(ready=True, problems=[])


@router.get("/version", operation_id="getVersion")
async def get_version(services: Serving) -> schemas.Version:
    """Versions of package and wire, and the cluster that answers."""
    return schemas.Version(version=services.version, protocol=services.protocol, cluster=services.cluster)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
@needs(Scope.READ)  # for the document; enforced below, for the configuration may waive it
async def get_metrics(services: Serving, request: Request) -> Response:
    """Prometheus exposition."""
    if not services.access.metrics_public:
        services.access.require(identify(request, services.access).principal, Scope.READ)
    return Response(services.metrics(), media_type=EXPOSITION)
