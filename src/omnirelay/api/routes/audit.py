"""/control/audit: the chain of who did what, read from the coordination store."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from omnirelay.api import present, schemas
from omnirelay.api.guard import GuardedRoute, Serving, needs
from omnirelay.model.access import Scope

router = APIRouter(prefix="/control/audit", tags=["audit"], route_class=GuardedRoute)


@router.get("", operation_id="listAudit")
@needs(Scope.READ)
async def list_audit(
    services: Serving,
    after: Annotated[int, Query(ge=0, description="The number after which to read on.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> schemas.AuditPage:
    """Entries in chain order, and the head that a copy can be checked against."""
    entries = await services.auditor.entries(after, limit)
    return present.audit_page(entries, await services.auditor.head())
