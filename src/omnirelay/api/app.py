"""The application put together."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from fastapi.routing import APIRoute

from omnirelay.api import openapi, problems
from omnirelay.api.auth import is_known
from omnirelay.api.edge import Edge
from omnirelay.api.guard import Access, access_of
from omnirelay.api.idempotency import Idempotency
from omnirelay.api.routes import audit, clusters, divergence, failovers, meta, routing
from omnirelay.api.services import Services

ROUTERS = tuple(module.router for module in (clusters, routing, failovers, divergence, audit, meta))


def create_app(services: Services) -> FastAPI:
    """The control API over these services, as an ASGI application."""
    app = FastAPI(
        title="OmniRelay control API",
        version=services.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.idempotency = Idempotency()
    app.state.closing = asyncio.Event()
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app)
    openapi.install(app, _access())
    app.add_middleware(Edge, is_known=lambda request: is_known(request, services.access))
    return app


def _access() -> dict[tuple[str, str], Access]:
    marked = [(route, access_of(route)) for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {
        (method.lower(), route.path): access for route, access in marked if access for method in route.methods or ()
    }
