# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control API in this process: the contract's paths over a mesh that is one dictionary.

It follows the contract where the collection relies on it - states, refusals, 202 when a wait ran out, dry run - and
does no replication. A test bends it: O(refuse) answers the next calls of a path with a problem, O(unfinished) lets a
step take that many calls.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

PEOPLE = {"alice-token": "spiffe://mesh.test/operator/alice", "bob-token": "spiffe://mesh.test/operator/bob"}

REACHES = dict(drain="drained", promote="promoted", verify="verified", complete="completed", abort="aborted")
ORDER = ("awaiting_approval", "approved", "draining", "drained", "promoted", "verified", "completed")
LEGAL = dict(
    awaiting_approval=["approve", "deny", "abort"],
    approved=["drain", "abort"],
    approved_emergency=["promote", "abort"],
    gathering=["abort"],
    draining=["abort"],
    drained=["promote", "abort"],
    promoted=["verify"],
    verify_failed=["verify"],
    verified=["complete"],
)


def legal(failover):
    emergency = failover["mode"] == "emergency" and failover["state"] == "approved"
    return LEGAL.get("approved_emergency" if emergency else failover["state"], [])


class Problem(Exception):
    def __init__(self, status, code, detail, hint="", retryable=False, **details):
        super().__init__(detail)
        self.status = status
        self.document = dict(
            type="urn:omnirelay:error:" + code,
            title=code.replace("_", " "),
            status=status,
            detail=detail,
            code=code,
            retryable=retryable,
            hint=hint,
            details=details,
            request_id="req-of-problem",
        )


def check(name, status="pass", observed="as it should be"):
    return dict(id=name, status=status, observed=observed, limit="", hint="")


def prediction(records):
    return dict(
        origin="us-east",
        held=100,
        heard=130,
        known_records=30,
        known_bytes=4096,
        unheard_seconds=2.5,
        unheard_records=records - 30,
        bounded=True,
    )


def peer(name):
    side = dict(status="streaming", lag_records=0, lag_bytes=0, lag_seconds=0.0)
    return dict(
        peer=name,
        mesh_replication_status="streaming",
        outbound=dict(side),
        inbound=dict(side),
        last_contact="2026-11-23T12:00:00Z",
        clock_skew_seconds=0.001,
        digest_agrees=True,
        retention_used_ratio=0.01,
        transport="h2",
    )


def cluster(name, state, namespaces, peers):
    return dict(
        cluster_id=name,
        region=name + "-1",
        state=state,
        priority=100,
        failover_policy="manual",
        endpoints=dict(grpc="127.0.0.1:7001", control="https://127.0.0.1:8001"),
        owners=["sre@example.net"],
        change_ticket="CHG0001",
        annotations={},
        maintenance=False,
        namespaces=namespaces,
        ready=True,
        problems=[],
        last_seen="2026-11-23T12:00:00Z",
        version="1.0.0",
        protocol="1.1",
        origin=name,
        vector={"us-east": 100},
        peers=[peer(other) for other in peers],
    )


def divergence(namespace="default", epoch=1, **fields):
    return dict(
        dict(
            id="%s.%d" % (namespace, epoch),
            namespace=namespace,
            epoch=epoch,
            origin="us-east",
            first_sequence=101,
            last_sequence=120,
            records=20,
            superseded=3,
            replayed=0,
            unresolved=17,
            resolution=None,
            decided_by="",
            decided_at="",
        ),
        **fields
    )


def audit_entry(number, **fields):
    return dict(
        dict(
            number=number,
            at="2026-11-23T12:00:0%dZ" % number,
            actor="spiffe://mesh.test/operator/" + ("alice" if number % 2 else "bob"),
            identity_proof="mtls",
            action="cluster.create" if number < 4 else "failover.plan",
            subject="clusters/us-east",
            why="",
            change_ticket="CHG-%d" % number,
            run_url="",
            before=None,
            after=dict(region="us-east-1"),
            outcome="done" if number < 5 else "refused",
            previous="%064d" % (number - 1),
            digest="%064d" % number,
        ),
        **fields
    )


class FakeMesh:
    """What the control planes of one mesh know together."""

    def __init__(self):
        self.active = "us-east"
        self.epoch = 1
        self.failovers = {}
        self.checks = [check("source_ready"), check("target_level")]
        self.calls = []
        self.refusals = {}
        self.unfinished = {}
        self.page_size = 2
        self.loss = 37
        self.divergences = {}
        self.replay_takes = 1
        """So many looks."""
        self.descriptors = {name: {} for name in ("us-east", "eu-west", "ap-south")}
        """What of each was given by somebody; the rest is as the function C(cluster) has it."""
        self.revisions = dict.fromkeys(self.descriptors, 1)
        self.owners = {}
        """Of the namespaces beside default."""
        self.audit = [audit_entry(number) for number in range(1, 6)]
        self.audit_page = 2
        self.ticket_source = False
        self.posting_takes = 0
        """So many looks until the ticket holds everything."""
        self.ticket_failures = 0
        """So many tries that fail."""

    def clusters(self):
        return [self._cluster(name, given, self.owners) for name, given in self.descriptors.items()]

    def _cluster(self, name, given, owners):
        owned = [dict(namespace="default", epoch=self.epoch)] if name == self.active else []
        owned += [dict(namespace=namespace, epoch=1) for namespace, owner in sorted(owners.items()) if owner == name]
        others = [other for other in self.descriptors if other != name]
        shown = dict(cluster(name, "active" if owned else "passive", owned, others), **given)
        return dict(shown, state="maintenance") if shown["maintenance"] else shown

    def refuse(self, path, problem, times=1):
        self.refusals.setdefault(path, []).extend([problem] * times)

    # Each handler returns a status, a body, and an ETag if there is one.

    def handle(self, method, path, query, body, principal, accept, if_match=""):
        self.calls.append((method, path, query, body))
        if self.refusals.get(path):
            raise self.refusals[path].pop(0)
        parts = path.split("/")[2:]
        if parts[0] == "clusters" and method == "GET":
            return self._read_clusters(parts, query)
        if parts[0] == "routing":
            return self._routing(query)
        if parts[0] == "audit":
            return self._audit(query)
        if principal is None:
            raise Problem(401, "unauthenticated", "Nobody is known by this token.")
        if parts[0] == "clusters":
            return self._change_clusters(method, parts[1:], query, body, if_match)
        if parts[0] == "divergence":
            return self._divergence(parts[1:], query, body, principal)
        if parts[0] != "failovers":
            raise Problem(404, "not_found", "There is no %s." % path)
        if len(parts) == 1:
            return self._plan(body, principal) if method == "POST" else self._list(query)
        failover = self.failovers.get(unquote(parts[1]))
        if failover is None:
            raise Problem(404, "not_found", "There is no failover %s." % parts[1])
        if len(parts) == 2:
            self._post_to_ticket(failover)
            return 200, self.view(failover)
        if parts[2] == "report":
            return 200, self._report(failover, accept)
        if parts[2] == "approvals":
            return self._decide(failover, body, principal, query)
        if parts[2] == "ticket":
            return self._ask_for_ticket(copy.deepcopy(failover) if query.get("dry_run") else failover, body)
        return self._step(failover, parts[2], query, body)

    def _read_clusters(self, parts, query):
        clusters = [item for item in self.clusters() if query.get("state") in (None, item["state"])]
        clusters = [item for item in clusters if query.get("region") in (None, item["region"])]
        if len(parts) > 1:
            found = [item for item in clusters if item["cluster_id"] == parts[1]]
            if not found:
                raise Problem(404, "not_found", "There is no cluster %s." % parts[1])
        if len(parts) == 2:
            return 200, found[0], self._etag(parts[1])
        if len(parts) == 3:
            return 200, dict(
                cluster_id=parts[1],
                vector=found[0]["vector"],
                heads={"us-east": dict(sequence=100, digest="ab")},
                peers=found[0]["peers"],
                observed_at="2026-11-23T12:00:00Z",
            )
        first = int(query.get("page_token", 0))
        after = first + self.page_size
        return 200, dict(
            clusters=clusters[first:after],
            routing_version=self.epoch,
            next_page_token=str(after) if after < len(clusters) else "",
            coordination=dict(reachable=True),
        )

    def _etag(self, name):
        return '"%d"' % self.revisions.get(name, 0)

    def _change_clusters(self, method, parts, query, body, if_match):
        name = parts[0] if parts else body["cluster_id"]
        stored, descriptors, owners = self.descriptors.get(name), dict(self.descriptors), dict(self.owners)
        if method == "POST":
            given = {field: value for field, value in body.items() if field not in ("cluster_id", "namespaces")}
            shown = self._cluster(name, stored or {}, owners)
            if stored is not None and any(shown[field] != value for field, value in given.items()):
                raise Problem(409, "conflict", "Cluster %s exists with another descriptor." % name)
            for namespace in body["namespaces"]:
                owner = self.active if namespace == "default" else owners.setdefault(namespace, name)
                if owner != name:
                    raise Problem(409, "conflict", "%s is owned by %s" % (namespace, owner), owner=owner)
            descriptors[name] = given
        elif stored is None:
            raise Problem(404, "not_found", "There is no cluster %s." % name)
        elif if_match != self._etag(name):
            raise Problem(412, "etag_mismatch", "It was changed.", etag=self._etag(name))
        elif method == "DELETE":
            if name == self.active:
                raise Problem(409, "cluster_in_use", "%s owns default" % name, "Move it first.")
            gone = self._cluster(name, stored, owners)
            del descriptors[name]
        else:
            descriptors[name] = dict(stored, **body)
        if not query.get("dry_run"):
            self.revisions[name] = self.revisions.get(name, 0) + (descriptors != self.descriptors)
            self.descriptors, self.owners = descriptors, owners
        if method == "DELETE":
            return 200, gone
        return 201 if stored is None and not query.get("dry_run") else 200, self._cluster(name, descriptors[name], owners), self._etag(name)

    def _routing(self, query):
        owners = dict(self.owners, default=self.active)
        wanted = query.get("namespace")
        if wanted is not None and wanted not in owners:
            raise Problem(404, "unknown_namespace", "There is no namespace %r." % wanted)
        namespaces = {
            name: dict(
                active=owner,
                epoch=1,
                endpoint="127.0.0.1:7001",
                control="https://127.0.0.1:8001",
                history=[dict(epoch=1, cluster=owner, origin=owner, cut=dict(epoch=0, sequence=0))],
            )
            for name, owner in owners.items()
            if wanted in (None, name)
        }
        return 200, dict(version=self.epoch, namespaces=namespaces, coordination=dict(reachable=True))

    def _audit(self, query):
        limit = int(query["limit"])
        wanted = {name: value for name, value in query.items() if name not in ("after", "limit")}
        seen, fitting = int(query.get("after", 0)), []
        for entry in [entry for entry in self.audit if entry["number"] > seen][: self.audit_page]:
            if len(fitting) == limit:
                break
            seen = entry["number"]
            if all(entry[name] == value for name, value in wanted.items()):
                fitting.append(entry)
        last = self.audit[-1]
        head = dict(number=last["number"], digest=last["digest"])
        return 200, dict(entries=fitting, head=head, next_after=seen if seen < last["number"] else None)

    def _divergence(self, parts, query, body, principal):
        if not parts:
            return 200, dict(divergences=list(self.divergences.values()))
        found = self.divergences.get(unquote(parts[0]))
        if found is None:
            raise Problem(404, "not_found", "There is no divergence %s." % parts[0])
        if len(parts) == 1:
            if found["resolution"] == "replaying":
                self.replay_takes -= 1
                if self.replay_takes <= 0:
                    found.update(resolution="replayed", replayed=found["unresolved"], unresolved=0)
            return 200, dict(divergence=dict(found), ranges=self._ranges(found), keys=self._keys())
        after = dict(found, decided_by=principal, decided_at="2026-11-23T12:20:00Z")
        if parts[1] == "export":
            if not query.get("dry_run") and found["unresolved"]:
                found.update(after, resolution="exported", unresolved=0)
            return 200, "".join('{"sequence":%d}\n' % number for number in range(101, 121))
        if not found["unresolved"]:
            raise Problem(400, "invalid_argument", "Divergence %s has no open records." % found["id"])
        after.update(dict(resolution="replaying") if parts[1] == "replay" else dict(resolution="discarded", unresolved=0))
        if not query.get("dry_run"):
            found.update(after)
        return 200, after

    @staticmethod
    def _ranges(found):
        place = {name: found[name] for name in ("namespace", "origin", "epoch", "records")}
        return [dict(place, first=found["first_sequence"], last=found["last_sequence"], exact=True, grade="fenced")]

    @staticmethod
    def _keys():
        return [dict(key="k1", fenced_records=12, written_since=4)]

    def _list(self, query):
        found = [self.view(failover) for failover in self.failovers.values()]
        if query.get("open"):
            found = [failover for failover in found if failover["next"]]
        return 200, dict(failovers=[failover for failover in found if query.get("state") in (None, failover["state"])])

    def _plan(self, body, principal):
        if body["mode"] == "failback":
            body = dict(body, target=self._home(body["reverses"]))
        emergency = body["mode"] == "emergency"
        loss = self.loss if emergency else 0
        inputs = dict(body, expected=self.epoch)
        dry_run = inputs.pop("dry_run", False)
        digest = "sha256:" + hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        for failover in self.failovers.values():
            if (failover["plan"]["hash"], failover["requested_by"]) == (digest, principal) and legal(failover):
                return 200, self.view(failover)
        self._require_checks()
        if emergency and not body["break_glass"] and (body["accept_data_loss"] or 0) < loss:
            failed = check("loss_accepted", "fail", "%d records" % loss)
            raise Problem(409, "preflight_failed", "Failed: loss_accepted.", checks=[failed], failed="loss_accepted")
        failover = dict(
            id="" if dry_run else "fo-%d" % (len(self.failovers) + 1),
            mode=body["mode"],
            state="approved" if emergency else "awaiting_approval",
            source=self.active,
            target=body["target"],
            namespaces=body["namespaces"] or ["default"],
            reason=body["reason"],
            change_ticket=body["change_ticket"],
            run_url=body["run_url"],
            requested_by=principal,
            created_at="2026-11-23T12:08:13Z",
            limits=dict(dict(approvals_required=int(not emergency), drain_timeout_seconds=10), **body["limits"]),
            expected_epochs={"default": self.epoch},
            plan=dict(
                hash=digest,
                expires_at="2026-11-23T13:08:13Z",
                steps=[dict(name=name, effect="effect of " + name, undo="undo of " + name) for name in ("drain", "promote", "verify")],
                routing=[
                    dict(
                        namespace="default",
                        source=self.active,
                        target=body["target"],
                        epoch_before=self.epoch,
                        epoch_after=self.epoch + 1,
                    )
                ],
                predicted_loss_records=loss,
                predicted_outage_seconds=0.5,
                loss=[prediction(loss)] if emergency else [],
            ),
            accept_data_loss=body["accept_data_loss"],
            break_glass=body["break_glass"],
            reverses=body["reverses"],
            approval_source=body["approval_source"],
            ticket=self._ticket(body["change_ticket"]),
            cuts={},
            manifest=[],
            checks=copy.deepcopy(self.checks),
            approvals=[],
            journal=[],
            problem="",
            routing_version=0,
            measured_outage_seconds=None,
            outage_basis=None,
        )
        if not dry_run:
            self.failovers[failover["id"]] = failover
        return (200 if dry_run else 201), self.view(failover)

    def _ticket(self, number):
        if not self.ticket_source or not number:
            return None
        return dict(
            number=number,
            system="servicenow",
            url="https://acme.example/" + number,
            state="Scheduled",
            approval="approved",
            window_starts_at=None,
            window_ends_at=None,
            posted=[],
            pending=["plan", "link"],
            problem="",
            hint="",
            retry_at="",
            gave_up=False,
        )

    def _post_to_ticket(self, failover):
        """What the control plane does between two looks at it."""
        ticket = failover["ticket"]
        if ticket is None or ticket["retry_at"] or ticket["gave_up"]:
            return
        if self.ticket_failures:
            self.ticket_failures -= 1
            ticket.update(problem="acme.example does not answer", hint="Check it.", retry_at="2026-11-23T12:30:00Z")
        elif self.posting_takes:
            self.posting_takes -= 1
        else:
            done = [dict(key=key, at="2026-11-23T12:10:00Z", name="", sha256="") for key in ticket["pending"]]
            ticket.update(posted=ticket["posted"] + done, pending=[])

    def _ask_for_ticket(self, failover, body):
        if not self.ticket_source:
            raise Problem(409, "no_ticket_source", "There is no ticket source.", "Configure one.")
        if failover["ticket"] is None:
            failover["ticket"] = self._ticket(body["change_ticket"])
        failover["ticket"].update(problem="", hint="", retry_at="", gave_up=False)
        return 200, self.view(failover)

    def _home(self, failover_id):
        """The target of a failback. Raises Problem while it is not safe."""
        reversed_ = self.failovers.get(failover_id)
        if reversed_ is None:
            raise Problem(404, "not_found", "There is no failover %s." % failover_id)
        open_ = sum(each["unresolved"] for each in self.divergences.values())
        if open_:
            failed = check("divergence_resolved", "fail", "%d records of default" % open_)
            raise Problem(409, "preflight_failed", "Failed: divergence_resolved.", checks=[failed], failed="divergence_resolved")
        return reversed_["source"]

    def _require_checks(self):
        failed = [item["id"] for item in self.checks if item["status"] == "fail"]
        if failed:
            raise Problem(
                409, "preflight_failed", "Failed: %s." % ", ".join(failed), "Mend them.", checks=self.checks, failed=failed
            )

    def _decide(self, failover, body, principal, query):
        if principal == failover["requested_by"]:
            raise Problem(403, "self_approval", "%s made this plan." % principal, "Ask somebody else.", principal=principal)
        if body["plan_hash"] != failover["plan"]["hash"]:
            raise Problem(409, "plan_hash_mismatch", "That is another plan.", plan_hash=failover["plan"]["hash"])
        if query.get("dry_run"):
            failover = copy.deepcopy(failover)
        standing = [item for item in failover["approvals"] if item["principal"] == principal]
        if not standing or standing[0]["decision"] != body["decision"]:
            self._require(failover, body["decision"])
            failover["approvals"].append(dict(body, principal=principal, at="2026-11-23T12:09:00Z"))
        if body["decision"] == "deny":
            failover["state"] = "denied"
        elif self.view(failover)["approved"] and failover["state"] == "awaiting_approval":
            failover["state"] = "approved"
        return 200, self.view(failover)

    def _step(self, failover, step, query, body):
        if step == "preflight":
            self._require_checks()
            failover["checks"] = copy.deepcopy(self.checks)
            return 200, self.view(failover)
        reached = REACHES[step]
        if failover["state"] in ORDER and reached in ORDER and ORDER.index(failover["state"]) >= ORDER.index(reached):
            return 200, self.view(failover)
        if failover["state"] == reached:
            return 200, self.view(failover)
        if step != "abort" and failover["state"] == "awaiting_approval":
            raise Problem(409, "not_approved", "Failover %s is not approved." % failover["id"], "Approve it.")
        if (step, failover["state"]) not in (("drain", "draining"), ("promote", "gathering")):
            self._require(failover, step)
        changed = failover if not query.get("dry_run") else copy.deepcopy(failover)
        if self.unfinished.get(step) and changed is failover:
            self.unfinished[step] -= 1
            if step == "drain":
                failover["state"] = "draining"
            if step == "promote" and failover["mode"] == "emergency":
                failover["state"] = "gathering"
            return 202, self.view(failover)
        changed["state"] = reached
        changed["journal"].append(dict(at="2026-11-23T12:10:00Z", step=step, event="done", actor="us-east", detail={}))
        if step == "abort":
            changed["problem"] = body.get("reason", "")
        if step == "promote" and changed is failover:
            self.active, self.epoch = failover["target"], self.epoch + 1
            failover["routing_version"] = self.epoch
            failover["measured_outage_seconds"] = 0.12
            if failover["mode"] == "emergency":
                failover["manifest"] = self._ranges(divergence())
        return 200, self.view(changed)

    def _require(self, failover, command):
        allowed = legal(failover)
        if command not in allowed:
            raise Problem(
                409,
                "illegal_transition",
                "The failover is %s." % failover["state"],
                "Possible now: %s." % ", ".join(allowed),
                state=failover["state"],
                allowed=allowed,
            )

    def _report(self, failover, accept):
        if accept.startswith("text/markdown"):
            return "# Failover %s\n\nIt is %s.\n" % (failover["id"], failover["state"])
        names = ("state", "mode", "source", "target", "namespaces", "change_ticket", "reason", "requested_by", "approvals")
        report = {name: failover[name] for name in names}
        report.update(
            failover_id=failover["id"],
            timings={},
            measured_outage_seconds=failover["measured_outage_seconds"],
            measured_loss_records=0,
            predicted_loss_records=0,
            predicted_outage_seconds=0.5,
            epochs={"default": dict(before=1, after=2)},
            manifest=failover["manifest"],
            digests={},
            checks=failover["checks"],
            journal=failover["journal"],
            audit=dict(first=1, last=7),
        )
        return report

    @staticmethod
    def view(failover):
        approvals = sum(item["decision"] == "approve" for item in failover["approvals"])
        required = failover["limits"]["approvals_required"]
        return dict(
            copy.deepcopy(failover),
            approvals_required=required,
            approved=approvals >= required and failover["state"] != "denied",
            next=legal(failover),
        )


class FakeControlApi:
    """One cluster's port to a mesh; several of them may share one."""

    def __init__(self, mesh=None, port=0):
        self.mesh = mesh or FakeMesh()
        mesh = self.mesh

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer(None)

            def do_DELETE(self):
                self._answer(None)

            def do_POST(self):
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            do_PATCH = do_POST

            def _answer(self, body):
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                principal = PEOPLE.get(self.headers.get("Authorization", "").replace("Bearer ", ""))
                etag = None
                try:
                    status, content, *tagged = mesh.handle(
                        self.command, url.path, query, body, principal, self.headers.get("Accept", ""), self.headers.get("If-Match")
                    )
                    etag = tagged[0] if tagged else None
                    kind = "application/json" if not isinstance(content, str) else self.headers["Accept"].split(",")[0]
                except Problem as problem:
                    status, content, kind = problem.status, problem.document, "application/problem+json"
                data = (content if isinstance(content, str) else json.dumps(content)).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind + "; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("X-Request-Id", "req-%d" % len(mesh.calls))
                if etag:
                    self.send_header("ETag", etag)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.endpoint = "http://127.0.0.1:%d" % self._server.server_address[1]

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def main():
    with FakeControlApi(port=18443) as api:
        print(api.endpoint, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
