"""/control/failovers: plan, approve, drive step by step, watch, report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import PlainTextResponse

from omnirelay.api import present, schemas
from omnirelay.api.etags import etag
from omnirelay.api.events import EventStream, stream
from omnirelay.api.guard import Calling, DryRun, GuardedRoute, Serving, needs, note_dry_run
from omnirelay.api.services import Services
from omnirelay.errors import BadRequest, CoordinationUnavailable
from omnirelay.failover import report
from omnirelay.failover.acknowledgement import noticed
from omnirelay.failover.modes import is_open
from omnirelay.failover.record import ApprovalSource, Check, Failover, Limits, Mode, State
from omnirelay.failover.record import Request as FailoverRequest
from omnirelay.model.access import Scope

router = APIRouter(prefix="/control/failovers", tags=["failovers"], route_class=GuardedRoute)

STEPS = {
    "preflight": "Judges again while nothing has started; `checks` are fresh.",
    "drain": "The source stops admitting writes and the target catches up to the barrier. It undoes itself in time.",
    "promote": "Ownership, epoch and routing move in one change; done when the target admits writes.",
    "verify": "A canary goes through the target and comes back to the source. May be called again after it failed.",
    "complete": "Closes the record.",
    "abort": "Undoes a failover that is not promoted yet.",
}
MARKDOWN = "text/markdown"

Wait = Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for the step's end.")]


@router.post("", operation_id="planFailover", status_code=201, responses={200: {"model": schemas.FailoverModel}})
@needs(Scope.OPERATE, "failover.plan", idempotency_key=True)
async def plan_failover(
    services: Serving, caller: Calling, request: Request, response: Response, body: schemas.FailoverCreate
) -> schemas.FailoverModel:
    """Checks and stores a plan. 200 with the open plan that the same inputs made before, and for a dry run."""
    note_dry_run(request, body.dry_run)
    mode = Mode(body.mode)
    if body.break_glass:
        services.access.require(caller.principal, Scope.ADMIN)
    if body.break_glass and not body.reason.strip():
        raise BadRequest("breaking the glass needs a reason", path="reason")
    limits = body.limits.model_dump(exclude_none=True)
    limits.setdefault("approvals_required", services.failovers.policy.least(mode, body.break_glass))
    asked = FailoverRequest(
        mode=mode,
        target=body.target,
        namespaces=tuple(body.namespaces),
        reason=body.reason,
        change_ticket=body.change_ticket,
        limits=Limits(**limits),
        accept_data_loss=body.accept_data_loss,
        break_glass=body.break_glass,
        reverses=body.reverses,
        approval_source=ApprovalSource(body.approval_source),
    )
    record, new = await services.failovers.plan(asked, caller.actor, body.run_url, body.dry_run)
    response.status_code = 201 if new and not body.dry_run else 200
    if response.status_code == 201:
        response.headers["Location"] = f"/control/failovers/{record.id}"
    return await _changed(services, record, response)


@router.get("", operation_id="listFailovers")
@needs(Scope.READ)
async def list_failovers(
    services: Serving,
    state: State | None = None,
    open: Annotated[bool | None, Query(description="Only those that are not final, or only final ones.")] = None,  # noqa: A002
) -> schemas.FailoverList:
    """All failovers, newest first."""
    fitting = [
        record
        for record in services.failovers.all()
        if state in (None, record.state) and open in (None, is_open(record))
    ]
    return schemas.FailoverList(failovers=[_shown(services, record) for record in fitting])


@router.get("/{failover_id}", operation_id="getFailover")
@needs(Scope.READ)
async def get_failover(services: Serving, response: Response, failover_id: schemas.Name) -> schemas.FailoverModel:
    """One failover with plan, checks, approvals and journal."""
    record = await _find(services, failover_id)
    _tag(services, record, response)
    return _shown(services, record)


@router.get("/{failover_id}/events", operation_id="watchFailover", response_class=EventStream)
@needs(Scope.READ)
async def watch_failover(services: Serving, request: Request, failover_id: schemas.Name) -> EventStream:
    """Server-sent events `failover`: the current state, then each newer one; the stream ends at a final state."""
    found = await _find(services, failover_id)

    def look() -> tuple[schemas.FailoverModel, bool]:
        record = services.view.failovers.get(failover_id, found)
        return _shown(services, record), not is_open(record)

    return stream(request, services.view.changed, "failover", look)


@router.post("/{failover_id}/approvals", operation_id="decideFailover")
@needs(Scope.APPROVE, "failover.decide")
async def decide_failover(
    services: Serving,
    caller: Calling,
    response: Response,
    failover_id: schemas.Name,
    body: schemas.Decision,
    dry_run: DryRun,
) -> schemas.FailoverModel:
    """Approves or denies the plan with this hash. Whoever asked for the failover cannot approve it."""
    record = await services.failovers.approve(
        failover_id, body.decision, body.plan_hash, body.comment, body.via, caller.actor, dry_run
    )
    return await _changed(services, record, response)


@router.get("/{failover_id}/approvals", operation_id="listApprovals")
@needs(Scope.READ)
async def list_approvals(services: Serving, failover_id: schemas.Name) -> schemas.Approvals:
    """The decisions so far, and how many approvals it takes."""
    record = await _find(services, failover_id)
    return schemas.Approvals(required=record.request.limits.approvals_required, approvals=list(record.approvals))


@router.post("/{failover_id}/ticket", operation_id="postToTicket")
@needs(Scope.OPERATE, "failover.ticket")
async def post_to_ticket(
    services: Serving,
    caller: Calling,
    failover_id: schemas.Name,
    dry_run: DryRun,
    body: schemas.TicketAsked | None = None,
) -> schemas.FailoverModel:
    """Tries at once to post what the change ticket lacks, also what was given up; `ticket` says what is pending."""
    number = body.change_ticket if body else ""
    record, dossier = await services.tickets.ask_for(failover_id, number, caller.actor, dry_run)
    return present.failover(record, (), dossier)


@router.get(
    "/{failover_id}/report",
    operation_id="getReport",
    response_model=schemas.Report,
    responses={200: {"content": {MARKDOWN: {"schema": {"type": "string"}}}}},
)
@needs(Scope.READ)
async def get_report(services: Serving, request: Request, failover_id: schemas.Name) -> Response:
    """The evidence: timings, measured outage and loss beside the predicted ones, digests, checks, journal, audit range,
    and who reads by the old routing still, or did so when the failover was completed.

    JSON, or Markdown for `Accept: text/markdown`.
    """
    record = await _find(services, failover_id)
    audit = await services.auditor.range_of(f"failovers/{failover_id}", "failover.plan")
    readers = noticed(record, services.view.evidence())
    if MARKDOWN in request.headers.get("accept", ""):
        return PlainTextResponse(report.markdown(record, audit, readers), media_type=MARKDOWN)
    return Response(present.evidence(record, audit, readers).model_dump_json(), media_type="application/json")


def _step_endpoint(step: str) -> Callable[..., Awaitable[schemas.FailoverModel]]:
    @needs(Scope.OPERATE, f"failover.{step}", idempotency_key=True)
    async def take_step(
        services: Serving,
        caller: Calling,
        response: Response,
        failover_id: schemas.Name,
        dry_run: DryRun,
        wait: Wait = 30.0,
        body: schemas.StepBody | None = None,
    ) -> schemas.FailoverModel:
        reason = body.reason if body else ""
        if step == "complete" and (await _find(services, failover_id)).state is State.VERIFY_FAILED:
            services.access.require(caller.principal, Scope.ADMIN)
        result = await services.failovers.step(failover_id, step, caller.actor, wait, dry_run, reason)
        response.status_code = 200 if result.finished else 202
        return await _changed(services, result.failover, response, result.checks)

    return take_step


for _step, _text in STEPS.items():
    router.add_api_route(
        f"/{{failover_id}}/{_step}",
        _step_endpoint(_step),
        methods=["POST"],
        operation_id=f"{_step}Failover",
        summary=f"{_step.capitalize()} a failover",
        description=f"{_text} Idempotent: a step that is done answers the record as it is.",
        response_model=schemas.FailoverModel,
        responses={
            202: {"model": schemas.FailoverModel, "description": "Still going on when the wait ran out; call again."}
        },
    )


async def _find(services: Services, failover_id: str) -> Failover:
    """From the view; from the store when it may be too young for the view. Raises NotFound."""
    seen = services.view.failovers.get(failover_id)
    return seen if seen is not None else (await services.failovers.load(failover_id))[0]


async def _changed(
    services: Services, record: Failover, response: Response, checks: tuple[Check, ...] = ()
) -> schemas.FailoverModel:
    """Brings the view up to what was just written, so that the caller's next read here does not go back in time."""
    with suppress(CoordinationUnavailable):
        await services.view.refresh()
    _tag(services, record, response)
    return _shown(services, record, checks)


def _shown(services: Services, record: Failover, checks: tuple[Check, ...] = ()) -> schemas.FailoverModel:
    return present.failover(record, checks, services.view.tickets.get(record.id))


def _tag(services: Services, record: Failover, response: Response) -> None:
    if services.view.failovers.get(record.id) == record:
        response.headers["ETag"] = etag(services.view.failover_revisions[record.id])
