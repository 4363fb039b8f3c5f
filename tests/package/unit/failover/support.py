"""A failover, its plan and a mesh in which every preflight check passes."""

from dataclasses import replace

from omnirelay.failover import planned, workflow
from omnirelay.failover.evidence import ClusterReport, Evidence, LeaseClaim, LinkReport, PeerReport, Probe
from omnirelay.failover.record import (
    Approval,
    Barrier,
    Check,
    DemotionToken,
    Failover,
    Limits,
    Mode,
    Request,
    State,
    Verdict,
)
from omnirelay.failover.refusal import Refusal
from omnirelay.model.descriptor import ClusterDescriptor, Endpoints
from omnirelay.model.lag import Lag, ReplicationStatus
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.model.times import rfc3339

NOW_MS = 1_769_828_645_678
NOW = rfc3339(NOW_MS)


def at(seconds: float) -> str:
    """RFC 3339 time of that many seconds after NOW."""
    return rfc3339(NOW_MS + round(seconds * 1000))


REQUEST = Request(
    mode=Mode.PLANNED,
    target="eu-west",
    namespaces=("default", "orders"),
    reason="quarterly drill",
    change_ticket="CHG-1",
    limits=Limits(approvals_required=1, cooldown_seconds=60.0),
)

ROUTING = RoutingDocument(
    version=7,
    routes={
        name: Route(name, (Ownership(epoch, "us-east", "us-east"),))
        for name, epoch in {"default": 3, "orders": 5, "other": 1}.items()
    },
)


def a_plan(request: Request = REQUEST, **changes: object) -> Failover:
    made = workflow.make(
        id="fo-1",
        request=request,
        routing=ROUTING,
        source="us-east",
        steps=planned.plan_steps("us-east", request.target, request.limits.drain_timeout_seconds),
        loss=(),
        outage_seconds=workflow.PREDICTED_OUTAGE_SECONDS,
        checks=(),
        requested_by="alice",
        run_url="https://awx.example/#/jobs/7",
        now=NOW,
        expires_at=at(3600),
    )
    return replace(made, **changes)


def a_failover(id: str = "fo-1", state: State = State.APPROVED, **changes: object) -> Failover:
    """In any state, with what that state needs where the caller says so."""
    return a_plan(id=id, state=state, **changes)


def an_approval(failover: Failover, principal: str = "bob", decision: str = "approve") -> Approval:
    return Approval(principal, decision, failover.plan.hash, NOW)


def a_refusal(**changes: object) -> Refusal:
    checks = (
        Check("target_lag", Verdict.FAIL, "7.000 s", "<= 5 s, known", "Wait."),
        Check("versions", Verdict.PASS, ""),
    )
    return replace(Refusal(REQUEST, "us-east", checks, "alice", "", NOW), **changes)


def a_token(failover: Failover, **changes: object) -> DemotionToken:
    token = DemotionToken(
        failover_id=failover.id,
        plan_hash=failover.plan.hash,
        barriers={"default": Barrier("us-east", 3, 40), "orders": Barrier("us-east", 5, 41)},
        digests={"us-east": "ab" * 32},
        issued_at=NOW,
    )
    return replace(token, **changes)


def a_descriptor(cluster: str, **changes: object) -> ClusterDescriptor:
    endpoints = Endpoints(f"{cluster}.example:7443", f"https://{cluster}.example:8443")
    return replace(ClusterDescriptor(cluster, cluster, endpoints, ("mesh-team",), "CHG-0"), **changes)


LEVEL = Lag(0, 0, 0.0)


def a_link(status: ReplicationStatus = ReplicationStatus.STREAMING, lag: Lag = LEVEL) -> LinkReport:
    return LinkReport(status, lag)


def a_report(cluster: str, *peers: str, **changes: object) -> ClusterReport:
    peer = PeerReport(
        outbound=a_link(), inbound=a_link(), clock_skew_seconds=0.01, digest_agrees=True, transport="grpc"
    )
    report = ClusterReport(
        cluster=cluster,
        origin=cluster,
        version="1.0.0",
        protocol="1.0",
        log_format=1,
        at_ms=NOW_MS,
        vector={"us-east": 40},
        sizes={"us-east": 4000},
        digests={"us-east": "ab" * 32},
        peers=dict.fromkeys(peers, peer),
        admits={},
        disk_free_bytes=50,
        disk_total_bytes=100,
        certificate_expires_ms=NOW_MS + 90 * 86_400_000,
    )
    return replace(report, **changes)


def healthy() -> Evidence:
    return Evidence(
        now_ms=NOW_MS,
        routing=ROUTING,
        clusters={name: a_descriptor(name) for name in ("us-east", "eu-west", "ap-south")},
        reports={
            "us-east": a_report("us-east", "eu-west", "ap-south"),
            "eu-west": a_report("eu-west", "us-east", "ap-south"),
        },
        report_age_seconds={"us-east": 0.5, "eu-west": 0.7},
        leases={name: LeaseClaim("us-east", route.epoch) for name, route in ROUTING.routes.items()},
        locks={},
        failovers={},
        coordination_lag_seconds=0.2,
        probes={"eu-west": Probe()},
    )
