"""Errors as RFC 9457 problems. The table in omnirelay.errors decides code, status and hint; here is their shape."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from omnirelay.errors import BadRequest, MethodNotAllowed, OmniRelayError, UnknownPath

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)


def problem(error: OmniRelayError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response that tells of `error`."""
    content = {
        "type": f"urn:omnirelay:error:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.http,
        "detail": error.message,
        "code": error.code,
        "retryable": error.retryable,
        "hint": error.operator_hint,
        "details": jsonable_encoder(error.details),
        "request_id": request_id,
    }
    return JSONResponse(content, error.http, {**_headers(error), **(headers or {})}, MEDIA_TYPE)


def validation_error(error: RequestValidationError) -> BadRequest:
    """The first violation in the message, all of them in the details, each with the path of its field."""
    violations = [{"path": _path(e["loc"]), "message": str(e["msg"])} for e in error.errors()]
    first = violations[0]
    return BadRequest(f"{first['path']}: {first['message']}", path=first["path"], violations=violations)


def request_id_of(request: Request) -> str:
    """Set by omnirelay.api.edge before anything else looks at the request."""
    return str(request.scope["state"]["request_id"])


def install(app: FastAPI) -> None:
    """Makes every error of the routes and of the frameworks below them a problem."""

    @app.exception_handler(OmniRelayError)
    async def typed(request: Request, error: OmniRelayError) -> Response:
        if error.http >= 500 and not error.retryable:
            _log.error("request %s: %s: %s", request_id_of(request), error.code, error.message)
        return problem(error, request_id_of(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem(validation_error(error), request_id_of(request))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        return problem(_typed(error, request), request_id_of(request), error.headers)


def _typed(error: HTTPException, request: Request) -> OmniRelayError:
    if error.status_code == 404:
        return UnknownPath(f"there is no {request.url.path}")
    if error.status_code == 405:
        return MethodNotAllowed(f"{request.url.path} does not take {request.method}")
    return BadRequest(str(error.detail))


def _headers(error: OmniRelayError) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if error.http == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable:
        headers["Retry-After"] = "1"
    return headers


def _path(location: Sequence[Any]) -> str:
    """`("body", "limits", "max_lag_seconds")` as `limits.max_lag_seconds`; the body itself is `body`."""
    parts = [str(part) for part in location]
    return ".".join(parts[1:]) or parts[0]
