"""A ticket system behind a service of one's own: one address, signed JSON in and out.

Each request is `{"id", "event", "ticket", …}` with event `ticket.read`, `ticket.note` (`marker`, `text`),
`ticket.attach` (`name`, `media_type`, `content` in base64, `sha256`) or `ticket.link` (`marker`, `url`, `title`). The
answer repeats `id`, so that nobody can answer with what was recorded before; of `ticket.read` it has `ticket`, of the
others `at` and `url`. Times are RFC 3339. What is repeated with the same marker or name must be kept once.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from omnirelay.config.tickets import WebhookSettings
from omnirelay.model.ticket import (
    Ticket,
    TicketApproval,
    TicketDecision,
    TicketDocument,
    TicketLink,
    TicketNote,
    TicketReceipt,
)
from omnirelay.model.times import to_ms
from omnirelay.tickets.http import Call, Caller, json_of, published_form
from omnirelay.tickets.signing import flaw, sign

MOST_TEXT = 2000


class Webhook:
    system = "webhook"

    def __init__(self, settings: WebhookSettings, caller: Caller, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._caller = caller
        self._now = now

    async def read(self, number: str, within: float | None = None) -> Ticket:
        answer = await self._ask("ticket.read", number, {}, within)
        with published_form(self._caller):
            return _ticket(answer["ticket"])

    async def note(self, number: str, note: TicketNote) -> TicketReceipt:
        return await self._put("ticket.note", number, {"marker": note.marker, "text": note.text})

    async def link(self, number: str, link: TicketLink) -> TicketReceipt:
        return await self._put("ticket.link", number, {"marker": link.marker, "url": link.url, "title": link.title})

    async def attach(self, number: str, document: TicketDocument) -> TicketReceipt:
        fields = {
            "name": document.name,
            "media_type": document.media_type,
            "sha256": document.sha256,
            "content": base64.b64encode(document.content).decode(),
        }
        return await self._put("ticket.attach", number, fields)

    async def close(self) -> None:
        await self._caller.close()

    async def _put(self, event: str, number: str, fields: dict[str, str]) -> TicketReceipt:
        answer = await self._ask(event, number, fields)
        with published_form(self._caller):
            return TicketReceipt(to_ms(answer["at"]), str(answer["url"]))

    async def _ask(self, event: str, number: str, fields: dict[str, str], within: float | None = None) -> Any:
        id = str(uuid.uuid4())
        body = json.dumps({"id": id, "event": event, "ticket": number, **fields}).encode()
        secret = await self._caller.secret()
        headers = {"Content-Type": "application/json", **sign(secret, body, self._now())}
        call = Call("POST", "", None, headers, body, repeatable=True, about=number)
        answer = await self._caller.send(call, lambda document: str(document["message"]), within)
        wrong = flaw(secret, answer.headers, answer.body, self._now(), self._settings.replay_window)
        if wrong:
            raise self._caller.unavailable(f"answered, but {wrong}")
        document = json_of(self._caller, answer)
        if not isinstance(document, dict) or document.get("id") != id:
            raise self._caller.unavailable("answered to another request")
        return document


def _ticket(told: dict[str, Any]) -> Ticket:
    return Ticket(
        number=_text(told["number"]),
        system=Webhook.system,
        url=_text(told["url"]),
        state=_text(told["state"]),
        approval=TicketApproval(told["approval"]),
        workable=told["workable"] is True,
        closed=told["closed"] is True,
        starts_ms=to_ms(told["starts_at"]) if told.get("starts_at") else None,
        ends_ms=to_ms(told["ends_at"]) if told.get("ends_at") else None,
        decisions=tuple(_decision(decision) for decision in told.get("decisions", [])),
    )


def _decision(told: dict[str, Any]) -> TicketDecision:
    if told["decision"] not in ("approve", "deny"):
        raise ValueError("a decision is neither approve nor deny")
    names = tuple(_text(name) for name in told.get("names", []))
    comment = _text(told.get("comment", ""))
    return TicketDecision(_text(told["user"]), names, told["decision"], to_ms(told["at"]), comment)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise TypeError("a text is missing or too long")
    return value
