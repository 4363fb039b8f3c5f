"""Idempotency-Key: the same call again gets the same answer, as long as this replicator remembers it.

The steps are idempotent without it; the key makes the answer the same too, its status included. Only finished
successes are remembered: an error may be mended, and a 202 asks to call again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response

from omnirelay.errors import BadRequest, IdempotencyKeyReused

CAPACITY = 1024
LONGEST_KEY = 128
_REMEMBERED = frozenset({200, 201})

Respond = Callable[[], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def response(self) -> Response:
        response = Response(self.body, self.status)
        response.raw_headers = list(self.headers)
        return response


class _Slot:
    """One key of one principal; the lock makes a second call wait for the first one's end."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.lock = asyncio.Lock()
        self.answer: _Answer | None = None


class Idempotency:
    """Answers by (principal, key), the least recently used one forgotten first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._slots: OrderedDict[tuple[str, str], _Slot] = OrderedDict()

    async def once(self, principal: str, key: str, request: Request, respond: Respond) -> Response:
        """What `respond` answers, or answered before. Raises IdempotencyKeyReused for a different request."""
        if not 0 < len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
            raise BadRequest(
                f"Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters", path="Idempotency-Key"
            )
        fingerprint = _fingerprint(request, await request.body())
        slot = self._slots.setdefault((principal, key), _Slot(fingerprint))
        self._slots.move_to_end((principal, key))
        while len(self._slots) > self._capacity:
            self._slots.popitem(last=False)
        if slot.fingerprint != fingerprint:
            raise IdempotencyKeyReused(f"Idempotency-Key {key!r} came with a different request before", key=key)
        async with slot.lock:
            if slot.answer is None:
                response = await respond()
                if response.status_code not in _REMEMBERED:
                    return response
                slot.answer = _Answer(response.status_code, tuple(response.raw_headers), bytes(response.body))
            return slot.answer.response()


def _fingerprint(request: Request, body: bytes) -> str:
    """What makes two requests the same. `wait` is left out: it only says how patient the caller is."""
    query = sorted((name, value) for name, value in request.query_params.multi_items() if name != "wait")
    head = f"{request.method} {request.url.path} {query} ".encode()
    return hashlib.sha256(head + body).hexdigest()
