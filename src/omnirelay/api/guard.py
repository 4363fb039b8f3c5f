"""The guard at every route: who is calling, whether they may, and that a refused mutation is on record.

It stands before anything of the request is parsed, so a stranger learns nothing from validation, and around the whole
handling, so a refusal is recorded wherever it comes from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from omnirelay.api.auth import Caller, identify
from omnirelay.api.idempotency import Idempotency
from omnirelay.api.problems import validation_error
from omnirelay.api.services import Services
from omnirelay.errors import BadRequest, CoordinationUnavailable, OmniRelayError
from omnirelay.model.access import Scope
from omnirelay.runtime.audit import Deed

_log = logging.getLogger(__name__)

COORDINATION_HEADER = "X-Coordination-Reachable"
"""`false` when the coordination store is silent, so that what was read may be old."""

TOLD_CHARACTERS = 2000
"""Of whatever a refusal quotes: no caller can make it too large for the store, nor the chain large by it."""

E = TypeVar("E", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Access:
    """What a route needs. `action` is the mutation's name in the audit; reads have none."""

    scope: Scope
    action: str = ""
    idempotency_key: bool = False


def needs(scope: Scope, action: str = "", idempotency_key: bool = False) -> Callable[[E], E]:
    """Marks an endpoint with the access that it needs; `GuardedRoute` enforces it, the OpenAPI document shows it."""

    def mark(endpoint: E) -> E:
        cast(Any, endpoint).access = Access(scope, action, idempotency_key)
        return endpoint

    return mark


def access_of(route: object) -> Access | None:
    """None for a route that anybody may call."""
    return getattr(getattr(route, "endpoint", None), "access", None)


class GuardedRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        access = access_of(self)
        if access is None:
            raise TypeError(f"{self.path} is not marked with the scope that it needs")

        async def guarded(request: Request) -> Response:
            services = services_of(request)
            caller = identify(request, services.access)
            request.state.caller = caller
            try:
                services.access.require(caller.principal, access.scope)
                if not services.view.loaded.is_set():
                    raise CoordinationUnavailable("the mesh's state has not been read yet")
                _require_text(await request.body())
                response = await _respond(request, caller, access, handle)
            except (OmniRelayError, RequestValidationError) as error:
                await _record_refusal(request, services, caller, access, error)
                raise
            response.headers[COORDINATION_HEADER] = str(services.coordination_reachable).lower()
            return response

        return guarded


def _require_text(body: bytes) -> None:
    """JSON can name half a character, a lone surrogate, which neither an answer nor the store can hold. Raises
    BadRequest; what is no JSON at all is told by whoever parses it."""
    if b"\\ud" not in body.lower():
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRequest("the body names half a character (a lone surrogate)", path="body") from error
    except (ValueError, RecursionError):
        return


async def _respond(
    request: Request, caller: Caller, access: Access, handle: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Response:
    key = request.headers.get("idempotency-key") if access.idempotency_key else None
    if key is None:
        return await handle(request)
    memory: Idempotency = request.app.state.idempotency
    return await memory.once(caller.principal, key, request, lambda: handle(request))


async def _record_refusal(
    request: Request, services: Services, caller: Caller, access: Access, error: OmniRelayError | RequestValidationError
) -> None:
    """Dry runs are not on record: nothing was to happen. A refusal that cannot be recorded is logged; it stays one."""
    if not access.action or getattr(request.state, "dry_run", False):
        return
    typed = validation_error(error) if isinstance(error, RequestValidationError) else error
    deed = Deed(
        action=access.action,
        subject=_told("/".join(request.url.path.split("/")[2:4])),  # the resource, without the step
        why=_told(typed.message),
        after={"code": typed.code, "request_id": request.state.request_id},
    )
    try:
        await services.auditor.refused(caller.actor, deed)
    except OmniRelayError as failure:
        _log.warning("refusal of %s by %s is not audited: %s", access.action, caller.principal, failure.message)


def _told(text: str) -> str:
    return text if len(text) <= TOLD_CHARACTERS else text[: TOLD_CHARACTERS - 1] + "…"


def note_dry_run(request: Request, dry_run: bool) -> bool:
    """Called as soon as a request is known to be a dry run, which its refusal then is too."""
    request.state.dry_run = dry_run
    return dry_run


def _dry_run(
    request: Request, dry_run: Annotated[bool, Query(description="Check and answer; change nothing.")] = False
) -> bool:
    return note_dry_run(request, dry_run)


def services_of(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def _caller(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


Serving = Annotated[Services, Depends(services_of)]
DryRun = Annotated[bool, Depends(_dry_run)]
Calling = Annotated[Caller, Depends(_caller)]
