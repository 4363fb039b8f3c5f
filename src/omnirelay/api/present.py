"""From the model to what the API answers. Values in, values out."""

from __future__ import annotations

from dataclasses import asdict

from omnirelay.api import schemas
from omnirelay.failover import report
from omnirelay.failover.approvals import is_approved
from omnirelay.failover.audit_chain import START_DIGEST, AuditEntry
from omnirelay.failover.divergence import Divergence, exact_ranges
from omnirelay.failover.dossier import Dossier, due
from omnirelay.failover.events import Event
from omnirelay.failover.evidence import FRESH_SECONDS, ClusterReport, LinkReport, PeerReport
from omnirelay.failover.modes import machine
from omnirelay.failover.outage import measured_outage
from omnirelay.failover.record import Check, Failover, LossRange
from omnirelay.model.descriptor import ClusterDescriptor
from omnirelay.model.lag import ReplicationStatus
from omnirelay.model.readers import Acknowledgement
from omnirelay.model.routing import Route, RoutingDocument
from omnirelay.model.times import rfc3339
from omnirelay.runtime.clusters import derived_state, unreadiness
from omnirelay.runtime.view import MeshView

COMMANDS = {
    Event.APPROVE: "approve",
    Event.DENY: "deny",
    Event.DRAIN: "drain",
    Event.GATHER: "promote",
    Event.PROMOTE: "promote",
    Event.VERIFY: "verify",
    Event.COMPLETE: "complete",
    Event.ABORT: "abort",
}
"""Events that a caller can cause, by the command that does; the others are observations of the replicators."""

WORSE = (
    ReplicationStatus.STREAMING,
    ReplicationStatus.CATCHING_UP,
    ReplicationStatus.UNKNOWN,
    ReplicationStatus.STALLED,
    ReplicationStatus.DISCONNECTED,
    ReplicationStatus.FENCED,
)
"""From best to worst."""


# --- clusters -------------------------------------------------------------------------------------------------


def cluster(view: MeshView, descriptor: ClusterDescriptor, predicted: RoutingDocument | None = None) -> schemas.Cluster:
    """`predicted` is the routing that a dry run would lead to, where that is another one."""
    name = descriptor.cluster_id
    told = view.reports.get(name)
    problems = unreadiness(view, descriptor)
    routing = predicted or view.routing
    return schemas.Cluster(
        cluster_id=name,
        region=descriptor.region,
        state=derived_state(view, descriptor, routing).value,
        priority=descriptor.priority,
        failover_policy=descriptor.failover_policy,
        endpoints=schemas.EndpointsModel(**asdict(descriptor.endpoints)),
        owners=list(descriptor.owners),
        change_ticket=descriptor.change_ticket,
        annotations=dict(descriptor.annotations),
        maintenance=descriptor.maintenance,
        namespaces=[
            schemas.OwnedNamespace(namespace=owned, epoch=routing.routes[owned].epoch)
            for owned in routing.owned_by(name)
        ],
        ready=not problems,
        problems=problems,
        last_seen=rfc3339(told.at_ms) if told else None,
        version=told.version if told else None,
        protocol=told.protocol if told else None,
        origin=told.origin if told else None,
        vector=dict(told.vector) if told else None,
        peers=_peers(view, name, told),
    )


def replication(view: MeshView, descriptor: ClusterDescriptor) -> schemas.Replication:
    name = descriptor.cluster_id
    told = view.reports.get(name)
    heads = {
        origin: schemas.OriginHead(sequence=sequence, digest=told.digests.get(origin) if told else None)
        for origin, sequence in (told.vector if told else {}).items()
    }
    return schemas.Replication(
        cluster_id=name,
        vector=dict(told.vector) if told else None,
        heads=heads,
        peers=_peers(view, name, told),
        observed_at=rfc3339(told.at_ms) if told else None,
    )


def _peers(view: MeshView, name: str, told: ClusterReport | None) -> list[schemas.Peer]:
    """By name. What a report says of lag is no longer known once the report is old."""
    age = view.report_age(name)
    fresh = age is not None and age <= FRESH_SECONDS
    return [_peer(peer, seen, fresh) for peer, seen in sorted(told.peers.items())] if told else []


def _peer(name: str, seen: PeerReport, fresh: bool) -> schemas.Peer:
    outbound, inbound = (seen.outbound, seen.inbound) if fresh else (LinkReport(), LinkReport())
    return schemas.Peer(
        peer=name,
        outbound=_link(outbound),
        inbound=_link(inbound),
        mesh_replication_status=max(outbound.status, inbound.status, key=WORSE.index).value,
        last_contact=rfc3339(seen.last_contact_ms) if seen.last_contact_ms is not None else None,
        clock_skew_seconds=seen.clock_skew_seconds,
        digest_agrees=seen.digest_agrees if fresh else None,
        transport=seen.transport or None,
        retention_used_ratio=seen.retention_used,
    )


def _link(link: LinkReport) -> schemas.Link:
    lag = link.lag
    return schemas.Link(status=link.status.value, lag_records=lag.records, lag_bytes=lag.size, lag_seconds=lag.seconds)


# --- routing --------------------------------------------------------------------------------------------------


def routing(view: MeshView, reachable: bool, only: str | None = None) -> schemas.Routing:
    routes = {name: route for name, route in sorted(view.routing.routes.items()) if only in (None, name)}
    return schemas.Routing(
        version=view.routing.version,
        namespaces={name: _route(view, route) for name, route in routes.items()},
        coordination=schemas.Coordination(reachable=reachable),
    )


def _route(view: MeshView, route: Route) -> schemas.NamespaceRoute:
    active = view.clusters.get(route.active)
    return schemas.NamespaceRoute(
        active=route.active,
        epoch=route.epoch,
        endpoint=active.endpoints.grpc if active else "",
        control=active.endpoints.control if active else "",
        history=[schemas.OwnershipModel.model_validate(asdict(ownership)) for ownership in route.history],
    )


def readers(found: Acknowledgement) -> schemas.Readers:
    return schemas.Readers(
        routing_version=found.routing_version,
        clusters_behind=list(found.clusters_behind),
        clusters_unknown=list(found.clusters_unknown),
        readers=found.readers,
        readers_behind=found.readers_behind,
        late=[schemas.LateReader(cluster=late.cluster, **asdict(late.reader)) for late in found.late],
    )


# --- failovers ------------------------------------------------------------------------------------------------


def failover(record: Failover, checks: tuple[Check, ...] = (), dossier: Dossier | None = None) -> schemas.FailoverModel:
    """`checks` are fresher ones than those that the plan was made with; `dossier` is what the ticket holds."""
    request, plan, outage = record.request, record.plan, measured_outage(record)
    return schemas.FailoverModel(
        id=record.id,
        mode=request.mode,
        state=record.state.value,
        source=record.source,
        target=request.target,
        namespaces=list(request.namespaces),
        reason=request.reason,
        change_ticket=request.change_ticket,
        run_url=record.run_url,
        requested_by=record.requested_by,
        created_at=record.created_at,
        limits=request.limits,
        expected_epochs=dict(record.expected_epochs),
        plan=schemas.PlanModel(
            hash=plan.hash,
            expires_at=plan.expires_at,
            steps=list(plan.steps),
            routing=list(plan.routing),
            predicted_loss_records=plan.predicted_loss_records,
            predicted_outage_seconds=plan.predicted_outage_seconds,
            loss=list(plan.loss),
        ),
        accept_data_loss=request.accept_data_loss,
        break_glass=request.break_glass,
        reverses=request.reverses,
        approval_source=request.approval_source.value,
        ticket=_ticket(record, dossier),
        cuts={namespace: schemas.CutModel(**asdict(cut)) for namespace, cut in record.cuts.items()},
        manifest=list(record.manifest),
        checks=list(checks or record.checks),
        approvals=list(record.approvals),
        approvals_required=request.limits.approvals_required,
        approved=is_approved(record),
        journal=list(record.journal),
        problem=record.problem,
        routing_version=record.routing_version,
        measured_outage_seconds=outage.seconds if outage else None,
        outage_basis=outage.basis if outage else None,
        next=[command for event, command in COMMANDS.items() if machine(record).allows(record.state, event)],
    )


def _ticket(record: Failover, dossier: Dossier | None) -> schemas.TicketModel | None:
    read = record.ticket
    if read is None and dossier is None:
        return None
    held = dossier or Dossier(record.id, record.request.change_ticket)
    return schemas.TicketModel(
        number=held.ticket,
        system=held.system or (read.system if read else ""),
        url=held.url or (read.url if read else ""),
        state=read.state if read else "",
        approval=read.approval.value if read else "",
        window_starts_at=rfc3339(read.starts_ms) if read and read.starts_ms is not None else None,
        window_ends_at=rfc3339(read.ends_ms) if read and read.ends_ms is not None else None,
        posted=list(held.posted),
        pending=list(due(record, dossier)) if record.id else [],
        problem=held.problem,
        hint=held.hint,
        retry_at=held.retry_at,
        gave_up=held.gave_up,
    )


def evidence(record: Failover, audit: tuple[int, int] | None, noticed: Acknowledgement | None) -> schemas.Report:
    request, outage = record.request, measured_outage(record)
    return schemas.Report(
        failover_id=record.id,
        state=record.state.value,
        problem=record.problem,
        mode=request.mode,
        source=record.source,
        target=request.target,
        namespaces=list(request.namespaces),
        change_ticket=request.change_ticket,
        run_url=record.run_url,
        reason=request.reason,
        requested_by=record.requested_by,
        created_at=record.created_at,
        plan_hash=record.plan.hash,
        approvals=list(record.approvals),
        timings=report.timings(record),
        measured_outage_seconds=outage.seconds if outage else None,
        outage_basis=outage.basis if outage else None,
        measured_loss_records=report.measured_loss_records(record),
        predicted_loss_records=record.plan.predicted_loss_records,
        predicted_outage_seconds=record.plan.predicted_outage_seconds,
        predicted_loss=list(record.plan.loss),
        accept_data_loss=request.accept_data_loss,
        break_glass=request.break_glass,
        manifest=list(record.manifest),
        epochs={
            c.namespace: schemas.EpochChange(before=c.epoch_before, after=c.epoch_after) for c in record.plan.routing
        },
        digests=dict(record.token.digests) if record.token else {},
        checks=list(record.checks),
        journal=list(record.journal),
        audit=schemas.AuditRange(first=audit[0], last=audit[1]) if audit else None,
        readers=readers(noticed) if noticed else None,
    )


# --- audit ----------------------------------------------------------------------------------------------------


def audit_page(entries: list[AuditEntry], seen: int, head: AuditEntry | None) -> schemas.AuditPage:
    """`seen`: the last entry that was looked at."""
    return schemas.AuditPage(
        entries=[schemas.AuditEntryModel.model_validate(asdict(entry)) for entry in entries],
        head=schemas.AuditHead(number=head.number if head else 0, digest=head.digest if head else START_DIGEST),
        next_after=seen if head and seen < head.number else None,
    )


# --- divergence -----------------------------------------------------------------------------------------------


def divergence(found: Divergence) -> schemas.DivergenceModel:
    decision = found.decision
    return schemas.DivergenceModel(
        id=found.id,
        namespace=found.namespace,
        epoch=found.epoch,
        origin=found.origin,
        first_sequence=found.batches[0].first_sequence if found.batches else 0,
        last_sequence=found.last_sequence,
        records=found.records,
        superseded=found.superseded,
        replayed=found.replayed,
        unresolved=found.unresolved,
        resolution=decision.resolution.value if decision else None,
        decided_by=decision.by if decision else "",
        decided_at=decision.at if decision else "",
    )


def divergence_ranges(found: Divergence) -> list[LossRange]:
    return list(exact_ranges(found))
