"""A control API on a loopback port that keeps a mesh as plain values, with the answers that a test asks for."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest
from click.testing import CliRunner

from omnirelay.cli.main import cli
from omnirelay.errors import (
    EtagMismatch,
    IllegalTransition,
    NotApproved,
    NotFound,
    OmniRelayError,
    PlanHashMismatch,
    PreflightFailed,
)

STATES = {"drain": "drained", "promote": "promoted", "verify": "verified", "complete": "completed", "abort": "aborted"}


def cluster(cluster_id, **fields):
    return {
        "cluster_id": cluster_id,
        "region": "r1",
        "state": "passive",
        "priority": 100,
        "endpoints": {"grpc": f"{cluster_id}:1", "control": f"https://{cluster_id}"},
        "owners": ["sre"],
        "change_ticket": "CHG1",
        "namespaces": [],
        "ready": True,
        "problems": [],
        "last_seen": None,
        "version": None,
        "protocol": None,
        "vector": None,
        "peers": [],
        **fields,
    }


def check(name, status="pass", observed="0.1 s", limit="5 s", hint=""):
    return {"id": name, "status": status, "observed": observed, "limit": limit, "hint": hint}


def divergence(namespace="default", epoch=1, **fields):
    return {
        "id": f"{namespace}.{epoch}",
        "namespace": namespace,
        "epoch": epoch,
        "origin": "us-east",
        "first_sequence": 101,
        "last_sequence": 120,
        "records": 20,
        "superseded": 3,
        "replayed": 0,
        "unresolved": 17,
        "resolution": None,
        "decided_by": "",
        "decided_at": "",
        **fields,
    }


def a_range(**fields):
    return {
        "namespace": "default",
        "origin": "us-east",
        "epoch": 1,
        "first": 101,
        "last": 120,
        "records": 20,
        "exact": True,
        "grade": "fenced",
        **fields,
    }


def plan(request, loss):
    """`loss`: what an emergency would lose, by its only prediction."""
    emergency = request["mode"] == "emergency"
    prediction = {
        "origin": "us-east",
        "held": 100,
        "heard": 130,
        "known_records": 30,
        "known_bytes": 4096,
        "unheard_seconds": 2.5,
        "unheard_records": loss - 30,
    }
    return {
        "id": "" if request.get("dry_run") else "fo-1",
        "mode": request["mode"],
        "state": "approved" if emergency else "awaiting_approval",
        "source": "eu-west" if request["mode"] == "failback" else "us-east",
        "target": request["target"],
        "namespaces": request.get("namespaces") or ["default"],
        "reason": request["reason"],
        "change_ticket": request["change_ticket"],
        "requested_by": "spiffe://m/operator/alice",
        "created_at": "2026-11-23T12:00:00Z",
        "plan": {
            "hash": "sha256:1",
            "expires_at": "2026-11-23T13:00:00Z",
            "steps": [{"name": "drain", "effect": "us-east refuses writes", "undo": "it admits them again"}],
            "routing": [
                {
                    "namespace": "default",
                    "source": "us-east",
                    "target": request["target"],
                    "epoch_before": 1,
                    "epoch_after": 2,
                }
            ],
            "predicted_loss_records": loss if emergency else 0,
            "predicted_outage_seconds": 0.5,
            "loss": [prediction] if emergency else [],
        },
        "checks": [check("lag")],
        "accept_data_loss": request.get("accept_data_loss"),
        "break_glass": request.get("break_glass", False),
        "manifest": [],
        "routing_version": 0,
        "approvals": [],
        "approvals_required": 0 if emergency else 1,
        "journal": [{"at": "2026-11-23T12:00:00Z", "step": "plan", "event": "planned", "actor": "alice", "detail": {}}],
        "problem": "",
        "measured_outage_seconds": None,
        "next": ["approve", "deny", "abort"],
    }


def refusal(name, observed, hint):
    checks = [check("coordination"), check(name, "fail", observed, "none", hint)]
    return PreflightFailed(f"{name}: {observed}", failed=name, checks=checks)


class ControlApi:
    def __init__(self):
        self.clusters = {"us-east": cluster("us-east"), "eu-west": cluster("eu-west")}
        self.failovers = {}
        self.audit = []
        self.loss = 37
        self.divergences = {}
        self.requests = []
        self.refusals = {}
        """(method, path) → errors to answer with, one after the other, before anything else happens."""
        self.unfinished = {}
        """step → how often it answers 202 first."""
        self.replay_after = 0
        """How many looks at a divergence until its replay is done."""
        self.ticket = None
        """What the change ticket holds, of every failover."""
        self.posting_takes = 1
        """How many looks until it holds everything."""
        self.approve_after = None
        """How many looks at an unapproved failover until somebody has approved it."""

    def answer(self, method, path, query, body, headers):
        """Status, JSON, ETag. Raises the error to answer with."""
        self.requests.append((method, path, query, body, headers))
        if errors := self.refusals.get((method, path)):
            raise errors.pop(0)
        match (method, *path.strip("/").split("/")[1:]):
            case ("GET", "clusters"):
                return 200, self._page(query), ""
            case ("POST", "clusters"):
                self.clusters[body["cluster_id"]] = cluster(**body)
                return 201, self.clusters[body["cluster_id"]], '"1"'
            case ("POST", "clusters", name, "rebuild"):
                return 202, {"cluster": name, "origin": name, "incarnation": 2, **body}, ""
            case ("POST", "clusters", name, "reseed"):
                return 202, {"cluster": name, "origins": ["us-east"], **body}, ""
            case (_, "clusters", name):
                return self._cluster(method, name, body, headers)
            case ("GET", "routing", "readers"):
                late = {
                    "cluster": "eu-west",
                    "namespace": "default",
                    "consumer": "",
                    "principal": "spiffe://m/client/b",
                }
                counts = {"routing_version": 3, "readers": 2, "readers_behind": 1, "late": [{**late, "epoch": 1}]}
                return 200, {**counts, "clusters_behind": ["ap-south"], "clusters_unknown": []}, ""
            case ("GET", "routing"):
                first = {"epoch": 1, "cluster": "us-east", "origin": "us-east", "cut": {"epoch": 0, "sequence": 0}}
                route = {"active": "us-east", "epoch": 1, "endpoint": "us-east:1", "control": "", "history": [first]}
                return 200, {"version": 3, "namespaces": {"default": route}}, '"3"'
            case ("POST", "failovers"):
                made = self._plan(body)
                if made["id"]:
                    self.failovers[made["id"]] = made
                return 200 if body.get("dry_run") else 201, made, ""
            case ("GET", "failovers"):
                return 200, {"failovers": list(self.failovers.values())}, ""
            case (_, "divergence", *rest):
                return self._divergence(rest, query, body)
            case (_, "failovers", failover_id, *rest):
                return self._failover(self._found(failover_id), rest, body, query)
            case ("GET", "audit"):
                after = int(query.get("after", 0))
                wanted = {name: value for name, value in query.items() if name not in ("after", "limit")}
                page = [entry for entry in self.audit if entry["number"] > after][:2]
                fitting = [entry for entry in page if wanted.items() <= entry.items()]
                more = page[-1]["number"] if page and page[-1] is not self.audit[-1] else None
                head = {"number": len(self.audit), "digest": ""}
                return 200, {"entries": fitting, "head": head, "next_after": more}, ""
        raise NotFound(path)

    def _page(self, query):
        names = sorted(self.clusters)
        first = int(query.get("page_token", 0))
        token = str(first + 1) if first + 1 < len(names) else ""
        page = [self.clusters[name] for name in names[first : first + 1]]
        return {"clusters": page, "routing_version": 3, "next_page_token": token, "coordination": {"reachable": True}}

    def _cluster(self, method, name, body, headers):
        if name not in self.clusters:
            raise NotFound(f"no cluster {name}", kind="clusters")
        known = self.clusters[name]
        etag = f'"{known.get("revision", 1)}"'
        if method != "GET" and headers.get("If-Match") != etag:
            raise EtagMismatch("changed", etag=etag)
        if method == "DELETE":
            del self.clusters[name]
        elif method == "PUT" and any(known.get(field) != value for field, value in body.items()):
            known.update(body, revision=known.get("revision", 1) + 1)
        return 200, known, f'"{known.get("revision", 1)}"'

    def _plan(self, body):
        if body["mode"] == "failback":
            body = {**body, "target": "us-east", "namespaces": []}
            if any(each["unresolved"] for each in self.divergences.values()):
                raise refusal("divergence_resolved", "17 records of default", "omnirelay mesh divergence list")
        accepted = body.get("accept_data_loss")
        if body["mode"] == "emergency" and not body["break_glass"] and (accepted is None or accepted < self.loss):
            raise refusal("loss_accepted", f"{self.loss} records", f"--accept-data-loss {self.loss}")
        return plan(body, self.loss)

    def _divergence(self, rest, query, body):
        match rest:
            case []:
                return 200, {"divergences": list(self.divergences.values())}, ""
            case [id, *_] if id not in self.divergences:
                raise NotFound(f"no divergence {id}", kind="divergence", divergence_id=id)
            case [id]:
                self.replay_after -= 1
                found = self.divergences[id]
                if found["resolution"] == "replaying" and self.replay_after < 0:
                    found |= {"resolution": "replayed", "replayed": found["unresolved"], "unresolved": 0}
                keys = [{"key": "k1", "fenced_records": 12, "written_since": 4}]
                return 200, {"divergence": found, "ranges": [a_range()], "keys": keys}, ""
            case [id, "export"]:
                return 200, [{"sequence": 101}, {"sequence": 102}], ""
            case [id, how]:
                decided = {"resolution": {"discard": "discarded", "replay": "replaying"}[how], "decided_by": "alice"}
                decided |= {"unresolved": 0} if how == "discard" else {}
                if not query.get("dry_run"):
                    self.divergences[id] |= decided
                return 200, {**self.divergences[id], **decided}, ""

    def _found(self, failover_id):
        if failover_id not in self.failovers:
            raise NotFound(f"no failover {failover_id}", kind="failovers")
        return self.failovers[failover_id]

    def _failover(self, failover, rest, body, query):
        match rest:
            case []:
                if self.ticket is not None:
                    self.posting_takes -= 1
                    if self.posting_takes < 0:
                        self.ticket |= {"posted": [{"key": "plan"}], "pending": []}
                    failover["ticket"] = self.ticket
                if failover["state"] == "awaiting_approval" and self.approve_after is not None:
                    self.approve_after -= 1
                    if self.approve_after < 0:
                        self._decide(failover, "approve", "spiffe://m/operator/bob")
                return 200, failover, '"1"'
            case ["ticket"]:
                self.posting_takes -= 1
                return 200, {**failover, "ticket": self.ticket}, ""
            case ["events"]:
                return 200, [failover, {**failover, "state": "completed"}], ""
            case ["approvals"]:
                if body["plan_hash"] != failover["plan"]["hash"]:
                    raise PlanHashMismatch("other plan", plan_hash=failover["plan"]["hash"], failover_id=failover["id"])
                self._decide(failover, body["decision"], "spiffe://m/operator/bob")
                return 200, failover, ""
            case ["report"]:
                return 200, {"failover_id": failover["id"], "timings": {"promoted_at": None}, "journal": [{}]}, ""
            case [step]:
                return self._step(failover, step)
        raise NotFound("?")

    def _decide(self, failover, decision, principal):
        failover["state"] = "approved" if decision == "approve" else "denied"
        failover["approvals"].append(
            {
                "principal": principal,
                "decision": decision,
                "plan_hash": "sha256:1",
                "at": "",
                "comment": "",
                "via": "api",
            }
        )

    def _step(self, failover, step):
        if failover["state"] == "awaiting_approval" and step != "abort":
            raise NotApproved("not yet", failover_id=failover["id"], requested_by="alice")
        if failover["mode"] == "emergency" and step == "drain":
            raise IllegalTransition("an emergency does not drain", state=failover["state"], allowed="promote")
        if self.unfinished.get(step, 0) > 0:
            self.unfinished[step] -= 1
            if failover["mode"] == "emergency" and step == "promote":
                self._advance(failover)
            return 202, failover, ""
        failover["state"] = STATES[step]
        if failover["mode"] == "emergency" and step == "promote":
            failover["routing_version"], failover["manifest"] = 4, [a_range(exact=False, grade="presumed_lost")]
        if step == "promote":
            failover["measured_outage_seconds"] = 0.123
        return 200, failover, ""

    @staticmethod
    def _advance(failover):
        """As the target's replicator does while somebody waits."""
        order = [("gathering", "gather", "started"), ("fencing", "gather", "gathered"), ("fenced", "fence", "fenced")]
        known = len([entry for entry in failover["journal"] if entry["step"] != "plan"])
        state, step, event = order[min(known, 2)]
        failover["state"] = state
        failover["journal"].append({"at": "", "step": step, "event": event, "actor": "eu-west", "detail": {}})

    @property
    def steps(self):
        """The steps that were asked for, in order."""
        return [path.rpartition("/")[2] for method, path, *_ in self.requests if method == "POST" and "/fo-1/" in path]


def handler(api):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def respond(self):
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            try:
                query = dict(parse_qsl(url.query))
                status, content, etag = api.answer(self.command, url.path, query, body, self.headers)
            except OmniRelayError as error:
                content = {"detail": error.message, "code": error.code, "details": error.details}
                self.send(error.http, "application/problem+json", json.dumps(content))
                return
            if self.headers.get("Accept") == "text/event-stream":
                sent = [f"event: failover\ndata: {json.dumps(state)}\n\n" for state in content]
                self.send(status, "text/event-stream", "".join(sent))
            elif self.headers.get("Accept") == "text/markdown":
                self.send(status, "text/markdown", "# Report\n")
            elif self.headers.get("Accept") == "application/x-ndjson":
                self.send(status, "application/x-ndjson", "".join(json.dumps(line) + "\n" for line in content))
            else:
                self.send(status, "application/json", json.dumps(content), etag)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond  # noqa: N815

        def send(self, status, media_type, text, etag=""):
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(data)))
            if etag:
                self.send_header("ETag", etag)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    return Handler


class Time:
    """Passes when someone sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def api():
    api = ControlApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(api))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.endpoint = f"http://127.0.0.1:{server.server_port}"
    yield api
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def terminal(monkeypatch):
    """Somebody sits at it."""
    for module in ("promote", "emergency", "failback", "divergence"):
        monkeypatch.setattr(f"omnirelay.cli.{module}.on_terminal", lambda: True)


@pytest.fixture
def run(api, monkeypatch, tmp_path):
    """Runs a command against the API, as a program would: no terminal, no environment, no waiting."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ENDPOINT", "CA", "CERT", "KEY", "TOKEN", "TOKEN_FILE", "OUTPUT", "PROFILE"):
        monkeypatch.delenv(f"OMNIRELAY_{name}", raising=False)
    monkeypatch.setenv("OMNIRELAY_ENDPOINT", api.endpoint)
    for module in ("carry_out", "divergence"):
        monkeypatch.setattr(f"omnirelay.cli.{module}.time", Time())

    def run(*args, stdin=None):
        return CliRunner().invoke(cli, args, input=stdin, prog_name="omnirelay", catch_exceptions=False)

    return run
