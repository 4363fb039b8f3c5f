"""An emergency: us-east is gone, eu-west and ap-south are alive and level with each other, 3 records behind us-east."""

from dataclasses import replace

from tests.package.unit.failover.support import NOW, REQUEST, ROUTING, a_descriptor, a_link, a_report, an_approval, at

from omnirelay.failover import emergency, emergency_workflow, workflow
from omnirelay.failover.approvals import decide
from omnirelay.failover.evidence import ClusterReport, Evidence, PeerReport, Probe
from omnirelay.failover.loss import predict
from omnirelay.failover.record import Failover, LossPrediction, Mode, Request
from omnirelay.model.lag import ReplicationStatus
from omnirelay.model.position import Cursor
from omnirelay.model.routing import RoutingDocument

TTL = 6.0
EMERGENCY = replace(
    REQUEST, mode=Mode.EMERGENCY, accept_data_loss=30, limits=replace(REQUEST.limits, cooldown_seconds=0)
)
CUTS = {"default": Cursor(3, 40), "orders": Cursor(5, 40)}


def a_view_of_the_source(silent: float = 5.0, **changes: object) -> PeerReport:
    """What somebody has last heard of us-east: its log up to 43, growing by 2 records a second."""
    gone = a_link(ReplicationStatus.DISCONNECTED)
    view = PeerReport(outbound=gone, inbound=gone, heard=43, heard_bytes=4300, heard_rate=2.0)
    return replace(view, last_contact_ms=a_report("x").at_ms - round(silent * 1000), **changes)


def a_survivor(cluster: str, **changes: object) -> ClusterReport:
    other = {"eu-west": "ap-south", "ap-south": "eu-west"}[cluster]
    report = a_report(cluster, other)
    return replace(report, peers={**report.peers, "us-east": a_view_of_the_source()}, **changes)


def disaster(**changes: object) -> Evidence:
    """us-east's report and lease have ended."""
    evidence = Evidence(
        now_ms=a_report("x").at_ms,
        routing=ROUTING,
        clusters={name: a_descriptor(name) for name in ("us-east", "eu-west", "ap-south")},
        reports={name: a_survivor(name) for name in ("eu-west", "ap-south")},
        report_age_seconds={"eu-west": 0.5, "ap-south": 0.5},
        leases={},
        locks={},
        failovers={},
        coordination_lag_seconds=0.2,
        probes={"eu-west": Probe()},
    )
    return replace(evidence, **changes)


def with_survivor(cluster: str, **changes: object):
    def mutate(evidence: Evidence) -> Evidence:
        return replace(evidence, reports={**evidence.reports, cluster: replace(evidence.reports[cluster], **changes)})

    return mutate


def with_view(cluster: str, **changes: object):
    def mutate(evidence: Evidence) -> Evidence:
        peers = evidence.reports[cluster].peers
        view = replace(peers["us-east"], **changes)
        return with_survivor(cluster, peers={**peers, "us-east": view})(evidence)

    return mutate


def both(*mutations):
    def mutate(evidence: Evidence) -> Evidence:
        for each in mutations:
            evidence = each(evidence)
        return evidence

    return mutate


def predictions(evidence: Evidence | None = None, request: Request = EMERGENCY) -> tuple[LossPrediction, ...]:
    return predict(evidence or disaster(), request, "us-east", TTL)


# The stages: each of these is the one before, and one step more.


def an_emergency(request: Request = EMERGENCY, routing: RoutingDocument = ROUTING, **changes: object) -> Failover:
    made = workflow.make(
        "fo-1",
        request,
        routing,
        "us-east",
        emergency.plan_steps("us-east", request.target, TTL),
        predictions(disaster(routing=routing), request),
        TTL,
        (),
        "alice",
        "",
        NOW,
        at(3600),
    )
    return replace(made, **changes)


def accepted() -> Failover:
    plan = an_emergency()
    return decide(plan, an_approval(plan))


def gathering() -> Failover:
    return emergency_workflow.start(accepted(), ROUTING, predictions(), "bob", at(1))


def fencing() -> Failover:
    return emergency_workflow.gathered(gathering(), CUTS, at(2))


def fenced() -> Failover:
    return emergency_workflow.fence(fencing(), CUTS, "eu-west", at(8))


def promoted() -> Failover:
    return emergency_workflow.promote(fenced(), ROUTING, "cluster/eu-west", at(9))[0]
