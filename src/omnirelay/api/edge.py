"""What every request passes first and every response last: its id, a bounded body, the net for what nobody caught."""

from __future__ import annotations

import logging
import re
import uuid

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omnirelay.api.problems import problem
from omnirelay.errors import OmniRelayError, RequestTooLarge

MAX_BODY_BYTES = 1024 * 1024
MAX_DISCARDED_BYTES = 16 * MAX_BODY_BYTES
"""A body announced as too large, up to this size, is read and dropped: a client that is still sending when the
connection closes would never see the answer."""

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Edge:
    """ASGI middleware. A request id that the caller sent is kept, so that both sides' logs can be joined."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            body = await _bounded_body(request, receive)
            await self._app(scope, body, send_named)
        except RequestTooLarge as error:
            await problem(error, request_id, {"Connection": "close"})(scope, receive, send_named)
        except Exception:
            _log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            if started:
                raise  # half an answer is out: only cutting the connection tells the caller
            defect = OmniRelayError(f"the replicator failed to answer; its log tells why under request {request_id}")
            await problem(defect, request_id)(scope, receive, send_named)


async def _bounded_body(request: Request, receive: Receive) -> Receive:
    """`receive` with the whole body read already. Raises RequestTooLarge, with nothing kept."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > MAX_BODY_BYTES:
        if announced.isdecimal() and int(announced) <= MAX_DISCARDED_BYTES:
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
