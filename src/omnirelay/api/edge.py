"""What every request passes first and every response last: its id, a place, a bounded body that comes in time, the net
for what nobody caught."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omnirelay.api.problems import problem
from omnirelay.errors import Busy, OmniRelayError, RequestTimeout, RequestTooLarge

MAX_BODY_BYTES = 1024 * 1024
MAX_DISCARDED_BYTES = 16 * MAX_BODY_BYTES
"""A body announced as too large, up to this size, is read and dropped: a client that is still sending when the
connection closes would never see the answer."""
READ_SECONDS = 10.0
"""For a request's body, from its first byte to its last."""
MAX_REQUESTS = 256
"""Read or worked on at once. A request leaves its place when its answer begins, so a stream of events takes none."""
MAX_STRANGERS = 32
"""The same for bodies of callers that nobody knows: they cannot take the places of those who are known."""

_log = logging.getLogger(__name__)
_LENGTH = re.compile("[0-9]{1,18}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Edge:
    """ASGI middleware. A request id that the caller sent is kept, so that both sides' logs can be joined. `is_known`
    tells whether somebody known is calling; without it nobody is."""

    def __init__(self, app: ASGIApp, is_known: Callable[[Request], bool] = lambda request: False) -> None:
        self._app = app
        self._is_known = is_known
        self._known = _Places(MAX_REQUESTS)
        self._strangers = _Places(MAX_STRANGERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request_id = request.headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = False
        place = _Place()

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                place.leave()
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if self._is_known(request):
                place.take(self._known)
            elif _has_body(request):
                place.take(self._strangers)
            body = await _body_in_time(request, receive)
            await self._app(scope, body, send_named)
        except (Busy, RequestTimeout, RequestTooLarge) as error:  # the rest of the body is not read
            await problem(error, request_id, {"Connection": "close"})(scope, receive, send_named)
        except Exception:
            _log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            if started:
                raise  # half an answer is out: only cutting the connection tells the caller
            defect = OmniRelayError(f"the replicator failed to answer; its log tells why under request {request_id}")
            await problem(defect, request_id)(scope, receive, send_named)
        finally:
            place.leave()


class _Places:
    def __init__(self, most: int) -> None:
        self.most = most
        self.free = most


class _Place:
    """At most one of the places, given back once."""

    def __init__(self) -> None:
        self._of: _Places | None = None

    def take(self, places: _Places) -> None:
        if not places.free:
            raise Busy(f"{places.most} requests of this kind are being served already", most=places.most)
        places.free -= 1
        self._of = places

    def leave(self) -> None:
        if self._of is not None:
            self._of.free += 1
            self._of = None


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


async def _body_in_time(request: Request, receive: Receive) -> Receive:
    """`receive` with the whole body read already. Raises RequestTimeout, RequestTooLarge, with nothing kept."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _bounded_body(request, receive)
    except TimeoutError as error:
        raise RequestTimeout(f"the request's body took more than {READ_SECONDS:g} s", seconds=READ_SECONDS) from error


async def _bounded_body(request: Request, receive: Receive) -> Receive:
    """`receive` with the whole body read already. Raises RequestTooLarge, with nothing kept."""
    length = request.headers.get("content-length", "0")
    announced = int(length) if _LENGTH.fullmatch(length) else None
    if announced is None or announced > MAX_BODY_BYTES:
        if announced is not None and announced <= MAX_DISCARDED_BYTES:
            while (await receive()).get("more_body", False):
                pass
        raise _too_large()
    body, messages = bytearray(), list[Message]()
    while not messages:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        if message["type"] != "http.request":
            messages = [message]
        elif not message.get("more_body", False):
            messages = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(f"the request body is larger than {MAX_BODY_BYTES} bytes", max_bytes=MAX_BODY_BYTES)
