"""The OpenAPI 3.1 document: what FastAPI derives, and what it cannot know — scopes, problems, common headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from omnirelay.api import schemas
from omnirelay.api.guard import Access
from omnirelay.api.problems import MEDIA_TYPE

Json = dict[str, Any]

METHODS = ("get", "put", "post", "delete", "patch")
PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}

SECURITY_SCHEMES: Json = {
    "certificate": {
        "type": "mutualTLS",
        "description": "A client certificate of the mesh's authority; its SPIFFE id is the principal.",
    },
    "token": {"type": "http", "scheme": "bearer", "description": "A token that the replicator's configuration knows."},
}
DESCRIPTION = """\
Clusters, routing, failovers and audit of an OmniRelay mesh. Any cluster serves any call.

Errors are RFC 9457 problems with a stable `code`, `retryable` and the operator's next step as `hint`. Every response
carries `X-Request-Id`, and under /control `X-Coordination-Reachable`, which is `false` when what is shown may be old.
"""
IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same request gets the same answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}


def install(app: FastAPI, access: dict[tuple[str, str], Access]) -> None:
    """`access` tells what each (method, path) needs; whatever is not in it may be called by anybody."""

    def document() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, access)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, access: dict[tuple[str, str], Access]) -> Json:
    schema = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes
    )
    components = schema.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    components["schemas"]["Problem"] = schemas.Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    for method, path, operation in _operations(schema):
        _complete(operation, access.get((method, path)))
    return schema


def _operations(schema: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in schema["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def _complete(operation: Json, access: Access | None) -> None:
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {
        "description": "A problem.",
        "content": {MEDIA_TYPE: {"schema": PROBLEM_REF}},
    }
    for response in operation["responses"].values():
        response.setdefault("headers", {})["X-Request-Id"] = {"schema": {"type": "string"}}
    if access is None:
        operation["security"] = []
        return
    operation["security"] = [{scheme: [str(access.scope)]} for scheme in SECURITY_SCHEMES]
    operation["x-required-scope"] = str(access.scope)
    if access.idempotency_key:
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
