"""Issues of Jira, through version 2 of its REST API, which Cloud and Data Center share.

https://developer.atlassian.com/cloud/jira/platform/rest/v2/
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from omnirelay.config.tickets import JiraSettings
from omnirelay.model.ticket import (
    Ticket,
    TicketApproval,
    TicketDecision,
    TicketDocument,
    TicketLink,
    TicketNote,
    TicketReceipt,
)
from omnirelay.tickets.http import Call, Caller, json_of, published_form

KEY = re.compile(r"[A-Z][A-Z0-9_]{0,30}-[0-9]{1,12}")
NEWEST_COMMENTS = "100"
"""Ours is looked for among so many."""
JSON = {"Content-Type": "application/json"}


class Jira:
    system = "jira"

    def __init__(self, settings: JiraSettings, caller: Caller) -> None:
        self._settings = settings
        self._caller = caller
        self._approved = {name.lower() for name in settings.approved_statuses}
        self._rejected = {name.lower() for name in settings.rejected_statuses}

    async def read(self, number: str, within: float | None = None) -> Ticket:
        window = [f for f in (self._settings.window_start_field, self._settings.window_end_field) if f]
        query = {"fields": ",".join(["status", "updated", *window]), "expand": "changelog"}
        issue = await self._json(Call("GET", self._path(number), query, repeatable=True, about=number), within)
        with published_form(self._caller):
            return self._ticket(issue)

    async def note(self, number: str, note: TicketNote) -> TicketReceipt:
        path = self._path(number, "comment")
        query = {"orderBy": "-created", "maxResults": NEWEST_COMMENTS}
        page = await self._json(Call("GET", path, query, repeatable=True, about=number))
        with published_form(self._caller):
            said = next((c for c in page["comments"] if note.marker in c["body"]), None)
            if said is None:
                body = json.dumps({"body": note.text}).encode()
                said = await self._json(Call("POST", path, None, JSON, body, about=number))
            return TicketReceipt(_ms(said["created"]), self._url(number))

    async def link(self, number: str, link: TicketLink) -> TicketReceipt:
        """`globalId` makes a repeated call change the link that is there."""
        body = json.dumps(
            {
                "globalId": link.marker,
                "application": {"type": "org.omnirelay.mesh", "name": "OmniRelay Mesh"},
                "relationship": "carried out by",
                "object": {"url": link.url, "title": link.title},
            }
        ).encode()
        path = self._path(number, "remotelink")
        await self._json(Call("POST", path, None, JSON, body, repeatable=True, about=number))
        return await self._updated(number)

    async def attach(self, number: str, document: TicketDocument) -> TicketReceipt:
        query = {"fields": "attachment,updated"}
        issue = await self._json(Call("GET", self._path(number), query, repeatable=True, about=number))
        with published_form(self._caller):
            held = {attachment["filename"] for attachment in issue["fields"]["attachment"]}
        if document.name not in held:
            files = {"file": (document.name, document.content, document.media_type)}
            headers = {"X-Atlassian-Token": "no-check"}
            await self._json(Call("POST", self._path(number, "attachments"), None, headers, files=files, about=number))
        return await self._updated(number)

    async def close(self) -> None:
        await self._caller.close()

    async def _updated(self, number: str) -> TicketReceipt:
        issue = await self._json(Call("GET", self._path(number), {"fields": "updated"}, repeatable=True, about=number))
        with published_form(self._caller):
            return TicketReceipt(_ms(issue["fields"]["updated"]), self._url(number))

    async def _json(self, call: Call, within: float | None = None) -> Any:
        return json_of(self._caller, await self._caller.send(call, _reason, within))

    def _ticket(self, issue: dict[str, Any]) -> Ticket:
        fields = issue["fields"]
        status = fields["status"]["name"]
        decisions = self._decisions(issue["changelog"]["histories"])
        done = fields["status"]["statusCategory"]["key"] == "done"
        approved = status.lower() in self._approved
        rejected = status.lower() in self._rejected
        return Ticket(
            number=issue["key"],
            system=self.system,
            url=self._url(issue["key"]),
            state=status,
            approval=self._approval(approved, rejected),
            workable=approved,
            closed=done and not approved,
            starts_ms=self._moment(fields, self._settings.window_start_field),
            ends_ms=self._moment(fields, self._settings.window_end_field),
            decisions=decisions,
        )

    @staticmethod
    def _approval(approved: bool, rejected: bool) -> TicketApproval:
        if approved:
            return TicketApproval.APPROVED
        return TicketApproval.REJECTED if rejected else TicketApproval.PENDING

    def _decisions(self, histories: list[dict[str, Any]]) -> tuple[TicketDecision, ...]:
        """Who moved the issue from a status that is not approved into one that is, or into a rejected one."""
        found = []
        for history in sorted(histories, key=lambda history: _ms(history["created"])):
            for item in history["items"]:
                if item["field"] != "status":
                    continue
                before, after = (item.get("fromString") or "").lower(), (item.get("toString") or "").lower()
                decision = None
                if after in self._approved and before not in self._approved:
                    decision = "approve"
                elif after in self._rejected:
                    decision = "deny"
                if decision:
                    author = history["author"]
                    known = [author.get(name) for name in ("name", "emailAddress", "accountId", "key", "displayName")]
                    user, *names = [name for name in known if name]
                    moved = f"{item.get('fromString')} → {item.get('toString')}"
                    found.append(TicketDecision(user, tuple(names), decision, _ms(history["created"]), moved))
        return tuple(found)

    @staticmethod
    def _moment(fields: dict[str, Any], name: str) -> int | None:
        if not name:
            return None
        value = fields[name]
        return _ms(value) if value else None

    def _path(self, number: str, *more: str) -> str:
        if not KEY.fullmatch(number):
            raise self._caller.not_found(number)
        return "/".join(["/rest/api/2/issue", quote(number, safe=""), *more])

    def _url(self, number: str) -> str:
        return f"{self._settings.url}/browse/{number}"


def _reason(document: Any) -> str:
    fields = document.get("errors") or {}
    return "; ".join([*(document.get("errorMessages") or []), *(f"{name}: {why}" for name, why in fields.items())])


def _ms(text: str) -> int:
    """`2026-11-23T15:00:00.000+0000`, with whatever offset."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
