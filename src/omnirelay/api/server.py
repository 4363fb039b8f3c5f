"""The control API on a socket: TLS 1.3 only, inside the event loop that the replicator runs in."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from omnirelay.errors import ConfigInvalid

MAX_HEADER_BYTES = 32 * 1024
KEEP_ALIVE_SECONDS = 30
HEAD_SECONDS = 10.0
"""For a request's head, from the connection's beginning or from the head's first byte."""
BACKLOG = 256
GRACE_SECONDS = 2
"""How long running requests may go on when the server stops."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's chain and key, and the authorities that clients' certificates must come from."""

    certificate: Path
    key: Path
    authorities: Path


class ControlProtocol(H11Protocol):
    """Puts the peer's verified certificate (DER, or None) into each request's `state`, and ends a connection on which
    no request comes in time: uvicorn would wait for the rest of a head for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self.app_state = {**self.app_state, "peer_certificate": tls.getpeercert(binary_form=True) if tls else None}
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_head()

    def _expect_head(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever its annotation says
        if cycle is not None and not cycle.response_complete:
            self._forget_head()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._end)

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()

    def _forget_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class ControlServer:
    """Serves `app` from `start` to `stop`. Installs no signal handlers: whoever runs the loop decides when it ends."""

    def __init__(self, app: FastAPI, host: str, port: int, tls: TlsFiles) -> None:
        """`port` 0 takes a free one; `port` then tells which, once started."""
        self._app = app
        self._host = host
        self._port = port
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._server: uvicorn.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is bound, or the one that will be."""
        if self._server is None:
            return self._port
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listens when it returns. Raises ConfigInvalid for unusable certificates, OSError when the port is taken."""
        self._context = server_context(self._tls)
        config = uvicorn.Config(
            self._app,
            http=ControlProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            ssl_context_factory=lambda _config, _default: self._context or server_context(self._tls),
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        # Bound here and not by uvicorn, which would end the process when the port is taken.
        listener = _listen(self._host, self._port)
        await server.startup(sockets=[listener])
        self._server = server
        self._ticking = asyncio.create_task(server.main_loop(), name="control-api")

    async def stop(self) -> None:
        """Stops listening, ends event streams, gives other requests two seconds, then cuts every connection.

        uvicorn's own shutdown would wait for idle callers to agree that TLS ends; nothing is owed to them.
        """
        if self._server is None or self._ticking is None:
            return
        server, self._server = self._server, None
        for listener in server.servers:
            listener.close()
        self._app.state.closing.set()
        self._app.state.services.view.changed.fire()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=GRACE_SECONDS)
        for task in list(server.server_state.tasks):
            task.cancel()
        for connection in list(server.server_state.connections):
            # Early releases of Python 3.11 cannot cut a TLS connection that is closing already.
            with suppress(AttributeError):
                connection.transport.abort()
        self._ticking.cancel()
        await asyncio.wait([self._ticking])
        self._ticking = None

    def reload_certificates(self) -> None:
        """Reads the files again, for connections from now on. Raises ConfigInvalid, and keeps the old ones then.

        New authorities are added; one that is no longer trusted is forgotten by a restart only.
        """
        server_context(self._tls)  # a pair that does not fit must not half replace the one in use
        if self._context is not None:
            _load(self._context, self._tls)


def server_context(tls: TlsFiles) -> ssl.SSLContext:
    """TLS 1.3; a client certificate is optional, for tokens are an identity too, but one that comes must verify."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    _load(context, tls)
    return context


def _load(context: ssl.SSLContext, tls: TlsFiles) -> None:
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        context.load_verify_locations(tls.authorities)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigInvalid(f"the certificates cannot be used: {error}", path="tls") from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
