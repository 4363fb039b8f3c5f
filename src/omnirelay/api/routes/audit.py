"""/control/audit: the chain of who did what, read from the coordination store."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from omnirelay.api import present, schemas
from omnirelay.api.guard import GuardedRoute, Serving, needs
from omnirelay.failover.audit_chain import AuditOutcome
from omnirelay.model.access import Scope

router = APIRouter(prefix="/control/audit", tags=["audit"], route_class=GuardedRoute)


@router.get("", operation_id="listAudit")
@needs(Scope.READ)
async def list_audit(
    services: Serving,
    after: Annotated[int, Query(ge=0, description="The number after which to read on.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    subject: Annotated[str | None, Query(description="Of this resource only, as in `failovers/ID`.")] = None,
    action: Annotated[str | None, Query(description="As in `failover.promote`.")] = None,
    actor: Annotated[str | None, Query(description="Of this principal only.")] = None,
    change_ticket: str | None = None,
    outcome: AuditOutcome | None = None,
) -> schemas.AuditPage:
    """Entries in chain order, and the head that a copy can be checked against. Where few fit, a page may be empty and
    still have a `next_after`."""
    asked = {
        "subject": subject,
        "action": action,
        "actor": actor,
        "change_ticket": change_ticket,
        "outcome": outcome,
    }
    wanted = {name: value for name, value in asked.items() if value is not None}
    entries, seen = await services.auditor.search(after, limit, wanted)
    return present.audit_page(entries, seen, await services.auditor.head())
