"""Ticket systems on loopback that answer as the vendors' published APIs do, and refuse what those would refuse.

They keep what they are given, so that a test reads back from the system's own side. A `Fault` stands in for one answer
of theirs, or lets them do what was asked and lose the answer.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from omnirelay.model.times import rfc3339
from omnirelay.tickets.signing import flaw, sign

SECRET = "hunter2-of-the-ticket-system"


@dataclass(frozen=True, slots=True)
class Fault:
    """The next answer to a request of this method (empty: any)."""

    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    method: str = ""
    hang: bool = False
    """No answer at all while the server lives."""
    lose_answer: bool = False
    """It is done, and the connection ends without a word."""


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Refusal(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Change:
    """A ticket as these servers keep it."""

    number: str
    approved: bool | None
    """None: not decided yet."""
    state: str
    starts_ms: int | None
    ends_ms: int | None
    updated_ms: int
    decisions: list[tuple[str, str, int]] = field(default_factory=list)
    """User, decision, when."""
    notes: list[str] = field(default_factory=list)
    documents: list[tuple[str, str, bytes]] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not wait any longer is no defect of the server; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class TicketServer:
    """Base: HTTP, faults, and what a test says and reads."""

    kind: ClassVar[str]
    ready: ClassVar[str] = "Scheduled"

    def __init__(self) -> None:
        self.changes: dict[str, Change] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.secret = SECRET
        self.ahead_ms = 0
        """How far this system's clock is ahead."""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                owner._serve(self, self.rfile.read(length))

            do_GET = do_POST = do_PATCH = _serve  # noqa: N815

            def log_message(self, *args: object) -> None:
                return None

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    # --- what a test says and reads ------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return round(time.time() * 1000) + self.ahead_ms

    def open(
        self,
        number: str,
        approved: bool | None = True,
        state: str | None = None,
        starts_ms: int | None = None,
        ends_ms: int | None = None,
    ) -> None:
        default = self.ready if approved else "Authorize"
        self.changes[number] = Change(number, approved, state or default, starts_ms, ends_ms, self.now_ms())

    def decide(self, number: str, user: str, decision: str = "approve") -> None:
        change = self.changes[number]
        change.approved = decision == "approve"
        change.state = self.ready if change.approved else "Canceled"
        change.updated_ms = self.now_ms()
        change.decisions.append((user, decision, change.updated_ms))

    def notes(self, number: str) -> list[str]:
        return list(self.changes[number].notes)

    def documents(self, number: str) -> dict[str, bytes]:
        held = self.changes[number].documents
        assert len({name for name, _, _ in held}) == len(held), "a document is there twice"
        return {name: content for name, _, content in held}

    def links(self, number: str) -> list[str]:
        return list(self.changes[number].links.values())

    def settings(self, directory: Path) -> dict[str, Any]:
        """This system as the section `tickets` of a replicator's configuration."""
        credential = directory / f"{self.kind}.secret"
        credential.write_text(self.secret + "\n")
        return {self.kind: {"url": self.url, "credential_file": str(credential), **self.account()}}

    def account(self) -> dict[str, Any]:
        return {"username": "mesh"}

    # --- HTTP ----------------------------------------------------------------------------------------------------

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        url = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        asked = Asked(handler.command, url.path, query, dict(handler.headers.items()), body)
        with self._lock:
            self.asked.append(asked)
            fault = next((f for f in self.faults if f.method in ("", asked.method)), None)
            if fault is not None:
                self.faults.remove(fault)
        if fault is not None and fault.hang:
            self._closing.wait()
            handler.close_connection = True
            return
        if fault is not None and not fault.lose_answer:
            self._send(handler, fault.status, fault.body, dict(fault.headers))
            return
        with self._lock:
            try:
                self.authenticate(asked)
                status, document = self.answer(asked)
            except Refusal as refusal:
                status, document = refusal.status, self.refusal(refusal)
        if fault is not None:
            handler.close_connection = True
            return
        answer = json.dumps(document).encode()
        headers = {"Content-Type": "application/json;charset=UTF-8", **self.answer_headers(answer)}
        self._send(handler, status, answer, headers)

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def authenticate(self, asked: Asked) -> None:
        expected = "Basic " + base64.b64encode(f"mesh:{self.secret}".encode()).decode()
        if asked.headers.get("Authorization") != expected:
            raise Refusal(401, "User Not Authenticated")

    def answer(self, asked: Asked) -> tuple[int, Any]:
        raise NotImplementedError

    def refusal(self, refusal: Refusal) -> Any:
        raise NotImplementedError

    def answer_headers(self, body: bytes) -> dict[str, str]:
        return {}


class ServiceNowServer(TicketServer):
    """Table API and Attachment API."""

    kind = "servicenow"
    STATES: ClassVar[dict[str, str]] = {
        "New": "-5",
        "Assess": "-4",
        "Authorize": "-3",
        "Scheduled": "-2",
        "Implement": "-1",
        "Review": "0",
        "Closed": "3",
        "Canceled": "4",
    }
    APPROVALS: ClassVar[dict[bool | None, tuple[str, str]]] = {
        None: ("requested", "Requested"),
        True: ("approved", "Approved"),
        False: ("rejected", "Rejected"),
    }

    def refusal(self, refusal: Refusal) -> Any:
        return {
            "error": {"message": str(refusal), "detail": "Required to provide Auth information"},
            "status": "failure",
        }

    def answer(self, asked: Asked) -> tuple[int, Any]:
        root, _, sys_id = asked.path.partition("/api/now/table/change_request")
        if root == "" and asked.method == "GET" and not sys_id:
            return 200, {"result": self._query(asked)}
        if root == "" and asked.method == "PATCH" and sys_id:
            return 200, {"result": self._patch(asked, sys_id.removeprefix("/"))}
        if (asked.method, asked.path) == ("GET", "/api/now/table/sysapproval_approver"):
            return 200, {"result": self._approvers(asked)}
        if (asked.method, asked.path) == ("GET", "/api/now/attachment"):
            return 200, {"result": self._attachments(asked)}
        if (asked.method, asked.path) == ("POST", "/api/now/attachment/file"):
            return 201, {"result": self._upload(asked)}
        raise Refusal(400, "Requested URI does not represent any resource")

    def _query(self, asked: Asked) -> list[Any]:
        field_, _, number = asked.query["sysparm_query"].partition("=")
        assert field_ == "number"
        change = self.changes.get(number)
        return [self._fields(change, asked)] if change else []

    def _patch(self, asked: Asked, sys_id: str) -> Any:
        if asked.headers.get("Content-Type") != "application/json":
            raise Refusal(415, "Unsupported media type")
        change = self._of(sys_id)
        document = json.loads(asked.body)
        assert set(document) == {"work_notes"}
        change.notes.append(document["work_notes"])
        change.updated_ms = self.now_ms()
        return self._fields(change, asked)

    def _fields(self, change: Change, asked: Asked) -> dict[str, Any]:
        """As `sysparm_display_value=all` shows them: value and label of each field that was asked for."""
        assert asked.query.get("sysparm_display_value") == "all"
        approval, label = self.APPROVALS[change.approved]
        journal = "".join(
            f"{_table_time(change.updated_ms)} - Mesh (Work notes)\n{note}\n\n" for note in reversed(change.notes)
        )
        every = {
            "sys_id": (self._sys_id(change),) * 2,
            "number": (change.number,) * 2,
            "state": (self.STATES[change.state], change.state),
            "approval": (approval, label),
            "start_date": (_table_time(change.starts_ms),) * 2,
            "end_date": (_table_time(change.ends_ms),) * 2,
            "work_notes": ("", journal),
            "sys_updated_on": (_table_time(change.updated_ms),) * 2,
        }
        wanted = asked.query["sysparm_fields"].split(",")
        return {name: {"value": every[name][0], "display_value": every[name][1]} for name in wanted}

    def _approvers(self, asked: Asked) -> list[Any]:
        terms = asked.query["sysparm_query"].split("^")
        change = self._of(terms[0].removeprefix("sysapproval="))
        rows = [
            {
                "state": {"approve": "approved", "deny": "rejected"}[decision],
                "comments": "",
                "sys_updated_on": _table_time(at),
                "approver.user_name": user,
                "approver.email": f"{user}@example.net",
                "approver.name": user.title(),
            }
            for user, decision, at in change.decisions
        ]
        wanted = asked.query["sysparm_fields"].split(",")
        return [{name: row[name] for name in wanted} for row in rows]

    def _attachments(self, asked: Asked) -> list[Any]:
        terms = dict(term.split("=", 1) for term in asked.query["sysparm_query"].split("^"))
        assert terms["table_name"] == "change_request"
        change = self._of(terms["table_sys_id"])
        return [
            {"sys_id": f"att-{name}", "file_name": name, "content_type": kind, "size_bytes": str(len(content))}
            for name, kind, content in change.documents
            if name == terms["file_name"]
        ]

    def _upload(self, asked: Asked) -> Any:
        missing = {"table_name", "table_sys_id", "file_name"} - set(asked.query)
        kind = asked.headers.get("Content-Type")
        if missing or not kind:
            raise Refusal(400, "Missing mandatory parameters")
        change = self._of(asked.query["table_sys_id"])
        name = asked.query["file_name"]
        change.documents.append((name, kind, asked.body))
        change.updated_ms = self.now_ms()
        return {"sys_id": f"att-{name}", "file_name": name, "content_type": kind, "size_bytes": str(len(asked.body))}

    def _of(self, sys_id: str) -> Change:
        found = next((c for c in self.changes.values() if self._sys_id(c) == sys_id), None)
        if found is None:
            raise Refusal(404, "No Record found")
        return found

    @staticmethod
    def _sys_id(change: Change) -> str:
        return change.number.encode().hex().ljust(32, "0")


class JiraServer(TicketServer):
    """Version 2 of the REST API, as Data Center answers it."""

    kind = "jira"
    ready = "Approved"

    def account(self) -> dict[str, Any]:
        return {
            "username": "mesh",
            "window_start_field": "customfield_10040",
            "window_end_field": "customfield_10041",
        }

    def refusal(self, refusal: Refusal) -> Any:
        return {"errorMessages": [str(refusal)], "errors": {}}

    def answer(self, asked: Asked) -> tuple[int, Any]:
        parts = asked.path.removeprefix("/rest/api/2/issue/").split("/")
        change = self.changes.get(parts[0])
        if change is None:
            raise Refusal(404, "Issue Does Not Exist")
        match asked.method, parts[1:]:
            case "GET", []:
                return 200, self._issue(change, asked)
            case "GET", ["comment"]:
                return 200, self._comments(change, asked)
            case "POST", ["comment"]:
                change.notes.append(self._json(asked)["body"])
                change.updated_ms = self.now_ms()
                return 201, self._comment(change, len(change.notes) - 1)
            case "POST", ["remotelink"]:
                document = self._json(asked)
                assert document["object"]["title"]
                change.links[document["globalId"]] = document["object"]["url"]
                return 201, {"id": len(change.links), "self": f"{self.url}{asked.path}/1"}
            case "POST", ["attachments"]:
                return 200, self._attach(change, asked)
        raise Refusal(405, "Method Not Allowed")

    def _json(self, asked: Asked) -> Any:
        if asked.headers.get("Content-Type") != "application/json":
            raise Refusal(415, "Unsupported Media Type")
        return json.loads(asked.body)

    def _issue(self, change: Change, asked: Asked) -> Any:
        done = change.state in ("Done", "Canceled")
        every = {
            "status": {
                "id": "3",
                "name": change.state,
                "statusCategory": {"id": 3, "key": "done" if done else "indeterminate", "name": "…"},
            },
            "updated": _jira_time(change.updated_ms),
            "customfield_10040": _jira_time(change.starts_ms),
            "customfield_10041": _jira_time(change.ends_ms),
            "attachment": [
                {"id": str(n), "filename": name, "mimeType": kind, "size": len(content)}
                for n, (name, kind, content) in enumerate(change.documents)
            ],
        }
        fields = {name: every[name] for name in asked.query["fields"].split(",")}
        issue = {"id": "10002", "key": change.number, "self": f"{self.url}{asked.path}", "fields": fields}
        if asked.query.get("expand") == "changelog":
            histories = [self._history(n, *decision) for n, decision in enumerate(change.decisions)]
            issue["changelog"] = {"startAt": 0, "maxResults": 100, "total": len(histories), "histories": histories}
        return issue

    @staticmethod
    def _history(number: int, user: str, decision: str, at: int) -> Any:
        moved = {"field": "status", "fieldtype": "jira", "from": "1", "to": "2", "fromString": "Authorize"}
        moved["toString"] = "Approved" if decision == "approve" else "Declined"
        author = {"name": user, "key": user, "emailAddress": f"{user}@example.net", "displayName": user.title()}
        return {"id": str(number), "author": author, "created": _jira_time(at), "items": [moved]}

    def _comments(self, change: Change, asked: Asked) -> Any:
        newest = [self._comment(change, n) for n in reversed(range(len(change.notes)))]
        most = int(asked.query["maxResults"])
        return {"startAt": 0, "maxResults": most, "total": len(newest), "comments": newest[:most]}

    def _comment(self, change: Change, number: int) -> Any:
        return {"id": str(number), "body": change.notes[number], "created": _jira_time(change.updated_ms)}

    def _attach(self, change: Change, asked: Asked) -> Any:
        if asked.headers.get("X-Atlassian-Token") != "no-check":
            raise Refusal(403, "XSRF check failed")
        head = f"Content-Type: {asked.headers['Content-Type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + asked.body)
        made = []
        for part in form.iter_parts():
            assert part.get_param("name", header="content-disposition") == "file"
            name, content = part.get_filename(), part.get_payload(decode=True)
            change.documents.append((name, part.get_content_type(), content))
            made.append({"id": "1", "filename": name, "mimeType": part.get_content_type(), "size": len(content)})
        change.updated_ms = self.now_ms()
        return made


class WebhookServer(TicketServer):
    """A service that follows the description in omnirelay.tickets.webhook."""

    kind = "webhook"

    def __init__(self) -> None:
        super().__init__()
        self.signs_with = SECRET
        self.signs_at_ms = 0
        """Added to the time stamp of its answers."""
        self._seen: set[str] = set()

    def account(self) -> dict[str, Any]:
        return {}

    def authenticate(self, asked: Asked) -> None:
        if wrong := flaw(self.secret, asked.headers, asked.body, time.time(), 300):
            raise Refusal(401, wrong)
        if (id := json.loads(asked.body)["id"]) in self._seen and not self._repeat(id):
            raise Refusal(401, "it was sent before")
        self._seen.add(json.loads(asked.body)["id"])

    def _repeat(self, id: str) -> bool:
        """The same request again, after its answer was lost."""
        return sum(json.loads(asked.body)["id"] == id for asked in self.asked) > 1

    def refusal(self, refusal: Refusal) -> Any:
        return {"message": str(refusal)}

    def answer_headers(self, body: bytes) -> dict[str, str]:
        return sign(self.signs_with, body, time.time() + self.signs_at_ms / 1000)

    def answer(self, asked: Asked) -> tuple[int, Any]:
        request = json.loads(asked.body)
        change = self.changes.get(request["ticket"])
        if change is None:
            raise Refusal(404, "no such ticket")
        url = f"{self.url}/{change.number}"
        match request["event"]:
            case "ticket.read":
                return 200, {"id": request["id"], "ticket": self._told(change, url)}
            case "ticket.note":
                if not any(request["marker"] in note for note in change.notes):
                    change.notes.append(request["text"])
            case "ticket.attach":
                content = base64.b64decode(request["content"], validate=True)
                if request["name"] not in {name for name, _, _ in change.documents}:
                    change.documents.append((request["name"], request["media_type"], content))
            case "ticket.link":
                change.links[request["marker"]] = request["url"]
        change.updated_ms = self.now_ms()
        return 200, {"id": request["id"], "at": rfc3339(change.updated_ms), "url": url}

    @staticmethod
    def _told(change: Change, url: str) -> Any:
        return {
            "number": change.number,
            "url": url,
            "state": change.state,
            "approval": {None: "pending", True: "approved", False: "rejected"}[change.approved],
            "workable": bool(change.approved) and change.state == "Scheduled",
            "closed": change.state in ("Closed", "Canceled"),
            "starts_at": rfc3339(change.starts_ms) if change.starts_ms is not None else None,
            "ends_at": rfc3339(change.ends_ms) if change.ends_ms is not None else None,
            "decisions": [
                {"user": user, "names": [f"{user}@example.net"], "decision": decision, "at": rfc3339(at)}
                for user, decision, at in change.decisions
            ],
        }


def _table_time(ms: int | None) -> str:
    """Whole seconds, UTC; an empty field is an empty string."""
    return "" if ms is None else datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _jira_time(ms: int | None) -> str | None:
    return (
        None
        if ms is None
        else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + (f"{ms % 1000:03d}+0000")
    )
