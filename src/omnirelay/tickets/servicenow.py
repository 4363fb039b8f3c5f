"""Change requests of ServiceNow, through its Table API and its Attachment API.

https://www.servicenow.com/docs/r/api-reference/rest-apis/c_TableAPI.html
https://www.servicenow.com/docs/r/api-reference/rest-apis/c_AttachmentAPI.html
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from omnirelay.config.tickets import ServiceNowSettings
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

TABLE = "/api/now/table/change_request"
FIELDS = "sys_id,number,state,approval,start_date,end_date,work_notes,sys_updated_on"
APPROVALS = {
    "approved": TicketApproval.APPROVED,
    "rejected": TicketApproval.REJECTED,
    "cancelled": TicketApproval.REJECTED,
}
DECISIONS = {"approved": "approve", "rejected": "deny"}
NUMBER = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""What may stand in an encoded query without changing its meaning."""
MOST_DECISIONS = 200


class ServiceNow:
    system = "servicenow"

    def __init__(self, settings: ServiceNowSettings, caller: Caller) -> None:
        self._settings = settings
        self._caller = caller

    async def read(self, number: str, within: float | None = None) -> Ticket:
        record = await self._record(number, within)
        with published_form(self._caller):
            return self._ticket(record, await self._decisions(self._sys_id(record), number, within))

    async def note(self, number: str, note: TicketNote) -> TicketReceipt:
        record = await self._record(number)
        with published_form(self._caller):
            # An account that may not read work notes is not shown the field.
            there = note.marker in record.get("work_notes", {}).get("display_value", "")
        if there:
            return self._receipt(record)
        body = json.dumps({"work_notes": note.text}).encode()
        query = {"sysparm_fields": "sys_id,sys_updated_on", "sysparm_display_value": "all"}
        call = Call("PATCH", self._path(record), query, {"Content-Type": "application/json"}, body, about=number)
        changed = await self._result(call)
        return self._receipt(changed)

    async def link(self, number: str, link: TicketLink) -> TicketReceipt:
        """A change request has no links to the outside of its own."""
        return await self.note(number, TicketNote(link.marker, f"{link.title}: {link.url}\n\n{link.marker}"))

    async def attach(self, number: str, document: TicketDocument) -> TicketReceipt:
        record = await self._record(number)
        sys_id = self._sys_id(record)
        wanted = f"table_name=change_request^table_sys_id={sys_id}^file_name={document.name}"
        query = {"sysparm_query": wanted, "sysparm_limit": "1"}
        found = await self._result(Call("GET", "/api/now/attachment", query, repeatable=True, about=number))
        if not found:
            query = {"table_name": "change_request", "table_sys_id": sys_id, "file_name": document.name}
            headers = {"Content-Type": document.media_type}
            path = "/api/now/attachment/file"
            await self._result(Call("POST", path, query, headers, document.content, about=number))
        return self._receipt(record)

    async def close(self) -> None:
        await self._caller.close()

    async def _record(self, number: str, within: float | None = None) -> dict[str, Any]:
        if not NUMBER.fullmatch(number):
            raise self._caller.not_found(number)
        query = {
            "sysparm_query": f"number={number}",
            "sysparm_fields": FIELDS,
            "sysparm_display_value": "all",
            "sysparm_limit": "1",
        }
        found = await self._result(Call("GET", TABLE, query, repeatable=True, about=number), within)
        if not found:
            raise self._caller.not_found(number)
        with published_form(self._caller):
            record: dict[str, Any] = found[0]
            self._sys_id(record)
        return record

    async def _decisions(self, sys_id: str, number: str, within: float | None) -> tuple[TicketDecision, ...]:
        query = {
            "sysparm_query": f"sysapproval={sys_id}^stateINapproved,rejected^ORDERBYsys_updated_on",
            "sysparm_fields": "state,comments,sys_updated_on,approver.user_name,approver.email,approver.name",
            "sysparm_display_value": "false",
            "sysparm_limit": str(MOST_DECISIONS),
        }
        call = Call("GET", "/api/now/table/sysapproval_approver", query, repeatable=True, about=number)
        found = await self._result(call, within)
        return tuple(
            TicketDecision(
                user=row["approver.user_name"],
                names=tuple(name for name in (row.get("approver.email"), row.get("approver.name")) if name),
                decision=DECISIONS[row["state"]],
                at_ms=_ms(row["sys_updated_on"]),
                comment=row.get("comments") or "",
                exact=False,
            )
            for row in found
        )

    async def _result(self, call: Call, within: float | None = None) -> Any:
        answer = json_of(self._caller, await self._caller.send(call, _reason, within))
        with published_form(self._caller):
            return answer["result"]

    def _ticket(self, record: dict[str, Any], decisions: tuple[TicketDecision, ...]) -> Ticket:
        state, approval = record["state"], record["approval"]
        words = {state["value"].lower(), state["display_value"].lower()}
        return Ticket(
            number=record["number"]["value"],
            system=self.system,
            url=self._url(record),
            state=state["display_value"],
            approval=APPROVALS.get(approval["value"], TicketApproval.PENDING),
            workable=bool(words & {word.lower() for word in self._settings.workable_states}),
            closed=bool(words & {word.lower() for word in self._settings.closed_states}),
            starts_ms=_ms(record["start_date"]["value"]) if record["start_date"]["value"] else None,
            ends_ms=_ms(record["end_date"]["value"]) if record["end_date"]["value"] else None,
            decisions=decisions,
        )

    def _receipt(self, record: dict[str, Any]) -> TicketReceipt:
        with published_form(self._caller):
            return TicketReceipt(_ms(record["sys_updated_on"]["value"]), self._url(record))

    @staticmethod
    def _sys_id(record: dict[str, Any]) -> str:
        return str(record["sys_id"]["value"])

    def _path(self, record: dict[str, Any]) -> str:
        return f"{TABLE}/{quote(self._sys_id(record), safe='')}"

    def _url(self, record: dict[str, Any]) -> str:
        page = quote(f"change_request.do?sys_id={self._sys_id(record)}", safe="")
        return f"{self._settings.url}/nav_to.do?uri={page}"


def _reason(document: Any) -> str:
    error = document["error"]
    return " ".join(filter(None, (error["message"], error.get("detail"))))


def _ms(text: str) -> int:
    """A date-time of the Table API as a value: `2026-11-23 15:00:00`, in UTC."""
    return round(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() * 1000)
