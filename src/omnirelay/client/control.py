"""The control API as methods: several endpoints tried in turn, mutual TLS 1.3, typed errors.

Resources come as the JSON objects that the API documents (see /openapi.json), not as classes of our own: whoever
reads them, a table or a playbook, wants exactly those.
"""

from __future__ import annotations

import json
import re
import ssl
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter

from omnirelay.client.credentials import Credentials
from omnirelay.errors import ConfigInvalid, OmniRelayError, Unreachable, from_code

Json: TypeAlias = dict[str, Any]

CONNECT_TIMEOUT_SECONDS = 3.0
READ_TIMEOUT_SECONDS = 15.0
STREAM_SILENCE_SECONDS = 60.0
"""Longest silence of an event stream; the server sends comments while nothing happens."""
PAGE_SIZE = 500
_SENDABLE = re.compile(r"[\x21-\x7e]+")
"""A token that a header can carry (RFC 9110, 5.5)."""
_TRY_ELSEWHERE = frozenset({"unreachable", "shutting_down", "coordination_unavailable", "overloaded"})


@dataclass(frozen=True, slots=True)
class Resource:
    """A body with the ETag that a change of it must name."""

    body: Json
    etag: str


@dataclass(frozen=True, slots=True)
class StepAnswer:
    failover: Json
    done: bool
    """False while the step is still going on."""


class ControlClient:
    """Raises OmniRelayError of the code that the API answered, Unreachable when no endpoint does; ConfigInvalid at once
    for credentials that cannot be used.

    The endpoint that answered last is asked first. Every call may be repeated elsewhere after a broken connection:
    reads change nothing, steps are idempotent, and what creates something carries an idempotency key.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        credentials: Credentials | None = None,
        token: str | None = None,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        if not endpoints:
            raise ConfigInvalid("no endpoint is configured")
        self._endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self._connect_timeout = connect_timeout_seconds
        self._read_timeout = read_timeout_seconds
        self._session = _session(credentials, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    # --- clusters -------------------------------------------------------------------------------------------------

    def clusters(self, *, state: str = "", region: str = "", owner: str = "") -> Json:
        """All pages in one: `clusters`, `routing_version`, `coordination`."""
        filters = {"state": state, "region": region, "owner": owner, "limit": str(PAGE_SIZE)}
        answer = self._json("GET", "/control/clusters", query=filters)
        while token := answer.pop("next_page_token", ""):
            page = self._json("GET", "/control/clusters", query={**filters, "page_token": token})
            answer = {**page, "clusters": answer["clusters"] + page["clusters"]}
        return answer

    def cluster(self, cluster_id: str) -> Resource:
        return self._resource("GET", _path("clusters", cluster_id))

    def create_cluster(self, body: Json, *, dry_run: bool = False) -> Resource:
        return self._resource("POST", "/control/clusters", query=_dry(dry_run), body=body)

    def replace_cluster(self, cluster_id: str, body: Json, *, etag: str, dry_run: bool = False) -> Resource:
        return self._resource("PUT", _path("clusters", cluster_id), query=_dry(dry_run), body=body, etag=etag)

    def change_cluster(self, cluster_id: str, body: Json, *, etag: str, dry_run: bool = False) -> Resource:
        """Changes only the fields that are given."""
        return self._resource("PATCH", _path("clusters", cluster_id), query=_dry(dry_run), body=body, etag=etag)

    def delete_cluster(self, cluster_id: str, *, etag: str, change_ticket: str, dry_run: bool = False) -> None:
        query = {**_dry(dry_run), "change_ticket": change_ticket}
        self._send("DELETE", _path("clusters", cluster_id), query=query, etag=etag)

    def replication(self, cluster_id: str) -> Json:
        return self._json("GET", _path("clusters", cluster_id, "replication"))

    def rebuild_cluster(self, cluster_id: str, *, change_ticket: str, reason: str, dry_run: bool = False) -> Json:
        """Lets a cluster that has lost its own log begin a new one."""
        body = {"change_ticket": change_ticket, "reason": reason}
        return self._json("POST", _path("clusters", cluster_id) + "/rebuild", query=_dry(dry_run), body=body)

    def reseed_cluster(self, cluster_id: str, *, change_ticket: str, reason: str, dry_run: bool = False) -> Json:
        """Lets a cluster that fell behind retention go on without what was dropped meanwhile."""
        body = {"change_ticket": change_ticket, "reason": reason}
        return self._json("POST", _path("clusters", cluster_id) + "/reseed", query=_dry(dry_run), body=body)

    # --- routing --------------------------------------------------------------------------------------------------

    def routing(self, namespace: str = "") -> Resource:
        return self._resource("GET", "/control/routing", query={"namespace": namespace})

    def watch_routing(self) -> Iterator[Json]:
        """The document now, then each time it changes."""
        return self._events("/control/routing/watch")

    def readers(self, namespace: str = "") -> Json:
        """Which clusters and readers go by the routing as it is now, and who does not."""
        return self._json("GET", "/control/routing/readers", query={"namespace": namespace})

    # --- failovers ------------------------------------------------------------------------------------------------

    def plan_failover(self, request: Json) -> Json:
        """Creates the failover that `request` describes, or with `dry_run` only checks and predicts it."""
        return self._json("POST", "/control/failovers", body=request)

    def failovers(self, *, state: str = "", open_only: bool = False) -> list[Json]:
        query = {"state": state, "open": "true" if open_only else ""}
        found: list[Json] = self._json("GET", "/control/failovers", query=query)["failovers"]
        return found

    def failover(self, failover_id: str) -> Resource:
        return self._resource("GET", _path("failovers", failover_id))

    def watch_failover(self, failover_id: str) -> Iterator[Json]:
        """The failover now, then each change; ends with a final state, or early with Unreachable."""
        return self._events(_path("failovers", failover_id, "events"))

    def step(
        self, failover_id: str, step: str, *, wait_seconds: float = 30.0, reason: str = "", dry_run: bool = False
    ) -> StepAnswer:
        """One of preflight, drain, promote, verify, complete, abort. Waits up to `wait_seconds` (at most 60); when
        that was not enough, call again."""
        query = {**_dry(dry_run), "wait": f"{wait_seconds:g}"}
        body = {"reason": reason} if reason else {}
        path = _path("failovers", failover_id, step)
        response = self._send("POST", path, query=query, body=body, extra_seconds=wait_seconds)
        return StepAnswer(_object(response), response.status_code != requests.codes.accepted)

    def decide(self, failover_id: str, decision: str, *, plan_hash: str, comment: str = "", via: str = "api") -> Json:
        """`approve` or `deny`, for exactly the plan with this hash."""
        body = {"decision": decision, "plan_hash": plan_hash, "comment": comment, "via": via}
        return self._json("POST", _path("failovers", failover_id, "approvals"), body=body)

    def approvals(self, failover_id: str) -> Json:
        return self._json("GET", _path("failovers", failover_id, "approvals"))

    def post_to_ticket(self, failover_id: str, *, change_ticket: str = "") -> Json:
        """Asks for what the change ticket lacks; `ticket` in the answer says what is still pending."""
        body = {"change_ticket": change_ticket}
        return self._json("POST", _path("failovers", failover_id, "ticket"), body=body)

    def report(self, failover_id: str) -> Json:
        return self._json("GET", _path("failovers", failover_id, "report"))

    def report_markdown(self, failover_id: str) -> str:
        return self._send("GET", _path("failovers", failover_id, "report"), accept="text/markdown").text

    # --- divergence -----------------------------------------------------------------------------------------------

    def divergences(self) -> list[Json]:
        """Fenced data as far as the cluster that answers holds it."""
        found: list[Json] = self._json("GET", "/control/divergence")["divergences"]
        return found

    def divergence(self, divergence_id: str) -> Json:
        """`divergence`, its fenced `ranges`, and per key what was fenced and written since."""
        return self._json("GET", _path("divergence", divergence_id))

    def discard(self, divergence_id: str, *, reason: str = "", dry_run: bool = False) -> Json:
        return self._resolve(divergence_id, "discard", reason, dry_run)

    def replay(self, divergence_id: str, *, reason: str = "", dry_run: bool = False) -> Json:
        """Asks the active cluster to publish the open records again; it has done so once `unresolved` is 0."""
        return self._resolve(divergence_id, "replay", reason, dry_run)

    def export(self, divergence_id: str, *, reason: str = "", dry_run: bool = False) -> Iterator[bytes]:
        """The fenced records, one JSON line each. They count as exported once the last one has been sent."""
        path = _path("divergence", divergence_id, "export")
        body = {"reason": reason}
        response = self._send("POST", path, query=_dry(dry_run), body=body, accept="application/x-ndjson", stream=True)
        with response:
            try:
                for line in response.iter_lines():
                    yield line + b"\n"
            except requests.RequestException as error:
                raise Unreachable(f"the export from {response.url} broke off: {error}") from error

    def _resolve(self, divergence_id: str, how: str, reason: str, dry_run: bool) -> Json:
        path = _path("divergence", divergence_id, how)
        return self._json("POST", path, query=_dry(dry_run), body={"reason": reason})

    # --- audit and the rest ---------------------------------------------------------------------------------------

    def audit(self, *, after: int = 0, limit: int = PAGE_SIZE, wanted: Mapping[str, str] | None = None) -> Json:
        """One page. `wanted`: subject, action, actor, change_ticket, outcome."""
        return self._json("GET", "/control/audit", query={"after": str(after), "limit": str(limit), **(wanted or {})})

    def audit_entries(self, after: int = 0, wanted: Mapping[str, str] | None = None) -> Iterator[Json]:
        """All entries beyond `after`, page by page. What is written meanwhile is not for this reading."""
        end, beyond = None, after
        while end is None or beyond < end:
            page = self.audit(after=beyond, wanted=wanted)
            end = page["head"]["number"] if end is None else end
            yield from (entry for entry in page["entries"] if entry["number"] <= end)
            beyond = end if page["next_after"] is None else page["next_after"]

    def version(self) -> Json:
        return self._json("GET", "/version")

    def openapi(self) -> Json:
        return self._json("GET", "/openapi.json")

    # --- transport ------------------------------------------------------------------------------------------------

    def _resource(self, method: str, path: str, **options: Any) -> Resource:
        response = self._send(method, path, **options)
        return Resource(_object(response), response.headers.get("ETag", ""))

    def _json(self, method: str, path: str, **options: Any) -> Json:
        return _object(self._send(method, path, **options))

    def _events(self, path: str) -> Iterator[Json]:
        response = self._send("GET", path, accept="text/event-stream", stream=True)
        with response:
            try:
                yield from server_sent(response.iter_lines(chunk_size=1, decode_unicode=True))
            except requests.RequestException as error:
                raise Unreachable(f"the event stream of {response.url} broke: {error}") from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        etag: str = "",
        accept: str = "application/json",
        stream: bool = False,
        extra_seconds: float = 0.0,
    ) -> requests.Response:
        """The first answer that an endpoint gives for itself. Raises the last one's error when none does."""
        headers = {"Accept": accept}
        if etag:
            headers["If-Match"] = etag
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        read_timeout = STREAM_SILENCE_SECONDS if stream else self._read_timeout + extra_seconds
        failure: OmniRelayError | None = None
        for endpoint in list(self._endpoints):
            try:
                response = self._session.request(
                    method,
                    endpoint + path,
                    params={name: value for name, value in (query or {}).items() if value},
                    json=body,
                    headers=headers,
                    stream=stream,
                    timeout=(self._connect_timeout, read_timeout),
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                failure = Unreachable(f"{endpoint}: {_reason(error)}", endpoint=endpoint)
                continue
            if response.status_code < 300:
                self._prefer(endpoint)
                return response
            failure = _problem(response)
            if failure.code not in _TRY_ELSEWHERE:
                self._prefer(endpoint)
                raise failure
        if failure is None:
            raise AssertionError("there is at least one endpoint")
        raise failure

    def _prefer(self, endpoint: str) -> None:
        self._endpoints.remove(endpoint)
        self._endpoints.insert(0, endpoint)


class _Tls13Adapter(HTTPAdapter):
    """Lets requests verify and present certificates as usual, with TLS 1.3 as the least."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        super().init_poolmanager(*args, **kwargs, ssl_context=context)


def server_sent(lines: Iterable[str]) -> Iterator[Json]:
    """The data of server-sent events, as JSON; comments, ids and names are passed over."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield json.loads("\n".join(data))
            data.clear()


def _session(credentials: Credentials | None, token: str | None) -> requests.Session:
    session = requests.Session()
    # Proxies, .netrc and certificate bundles of the environment are meant for the web, not for a mesh.
    session.trust_env = False
    session.mount("https://", _Tls13Adapter())
    if credentials is not None:
        for path in (credentials.ca, credentials.cert, credentials.key):
            if path is not None:
                credentials.read(path)
        session.verify = str(credentials.ca)
        if credentials.cert is not None and credentials.key is not None:
            session.cert = (str(credentials.cert), str(credentials.key))
    if token:
        if not _SENDABLE.fullmatch(token):
            # Refused here: what refuses it further down quotes it.
            raise ConfigInvalid("the token holds a blank, a line break or another character that no header can carry")
        session.headers["Authorization"] = f"Bearer {token}"
    return session


def _problem(response: requests.Response) -> OmniRelayError:
    """The typed error behind an answer; one that is not ours says where it came from."""
    try:
        problem = response.json()
        code = problem["code"]
    except (ValueError, KeyError, TypeError):
        where = f"{response.status_code} from {response.url}"
        if response.status_code >= 500:
            return Unreachable(f"{where} (not a replicator's answer)")
        return from_code("internal", f"unexpected answer {where}", {"status": response.status_code})
    details = problem.get("details") or {}
    message = str(problem.get("detail") or problem.get("title") or code)
    return from_code(str(code), message, {str(name): value for name, value in details.items() if name != "message"})


def _object(response: requests.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Unreachable(f"{response.url} did not answer with a JSON object: is this a replicator?")
    return body


def _reason(error: requests.RequestException) -> str:
    """The innermost cause: what surrounds it names pools and retries that nobody asked about."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return str(cause) or type(cause).__name__


def _path(*segments: str) -> str:
    return "/control/" + "/".join(quote(segment, safe="") for segment in segments)


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dry_run": "true"} if dry_run else {}
