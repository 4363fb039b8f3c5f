"""What goes over the wire as JSON. Requests refuse fields that they do not know; answers never carry null for a list.

Where the record of a failover is fit to be shown as it is, the answer holds it as it is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from omnirelay.failover.dossier import Posting
from omnirelay.failover.outage import Basis
from omnirelay.failover.record import (
    Approval,
    Check,
    JournalEntry,
    Limits,
    LossPrediction,
    LossRange,
    PlanStep,
    RoutingChange,
)

Text = Annotated[str, StringConstraints(max_length=2000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
NameIfAny = Annotated[str, StringConstraints(max_length=253)]
PlanHash = Annotated[str, StringConstraints(max_length=128)]
Required = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Answer):
    """RFC 9457."""

    type: str = Field(examples=["urn:omnirelay:error:preflight_failed"])
    title: str
    status: int
    detail: str = Field(description="What happened, and why.")
    code: str = Field(description="Stable; what programs match on.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    hint: str = Field(description="The operator's next step.")
    details: dict[str, Any]
    request_id: str


# --- clusters -------------------------------------------------------------------------------------------------


class EndpointsModel(Asked):
    grpc: Name = Field(description="host:port", examples=["us-east.example:7443"])
    control: Name = Field(description="https URL", examples=["https://us-east.example:7444"])


class ClusterFields(Asked):
    region: Required
    endpoints: EndpointsModel
    owners: list[Required] = Field(min_length=1, max_length=50)
    change_ticket: Required
    priority: int = Field(default=100, ge=0, le=1_000_000, description="Lower is preferred among candidates.")
    failover_policy: Name = "manual"
    annotations: dict[Name, Text] = Field(default_factory=dict, max_length=100)
    maintenance: bool = Field(default=False, description="Bars the cluster from being a target.")


class ClusterCreate(ClusterFields):
    cluster_id: Name = Field(description="A DNS label; immutable.", examples=["us-east"])
    namespaces: list[Name] = Field(
        default_factory=list, max_length=50, description="Namespaces that it shall own if nobody owns them yet."
    )


class ClusterReplace(ClusterFields):
    """The whole descriptor; what is left out gets its default. The id may be repeated, not changed."""

    cluster_id: Name | None = None


class ClusterPatch(Asked):
    """What is left out stays as it is; every change names its ticket."""

    change_ticket: Required
    region: Required | None = None
    endpoints: EndpointsModel | None = None
    owners: list[Required] | None = Field(default=None, min_length=1, max_length=50)
    priority: int | None = Field(default=None, ge=0, le=1_000_000)
    failover_policy: Name | None = None
    annotations: dict[Name, Text] | None = Field(default=None, max_length=100)
    maintenance: bool | None = None


class ReseedModel(Answer):
    cluster: str
    origins: list[str] = Field(description="The logs of which it accepts a seed.")
    by: str
    at: str
    change_ticket: str
    reason: str


class RecoveryBody(Asked):
    change_ticket: Required
    reason: Required


class RebuildModel(Answer):
    cluster: str
    origin: str = Field(description="The log that was lost.")
    incarnation: int = Field(description="The one that the cluster begins.")
    by: str
    at: str
    change_ticket: str
    reason: str


Status = Literal["streaming", "catching_up", "stalled", "disconnected", "fenced", "unknown"]


class Link(Answer):
    """One direction of replication. A figure that is not known is null, never 0."""

    status: Status
    lag_records: int | None
    lag_bytes: int | None
    lag_seconds: float | None


class Peer(Answer):
    peer: str
    outbound: Link = Field(description="How far the peer is behind this cluster's log.")
    inbound: Link = Field(description="How far this cluster is behind the peer's log.")
    mesh_replication_status: Status = Field(description="The worse of both directions.")
    last_contact: str | None
    clock_skew_seconds: float | None
    digest_agrees: bool | None
    transport: str | None
    retention_used_ratio: float | None = Field(
        description="Of this cluster's retention cap, what is held back for the peer; from 1 on it is not waited for."
    )


class OwnedNamespace(Answer):
    namespace: str
    epoch: int


class Cluster(Answer):
    cluster_id: str
    region: str
    state: Literal["active", "passive", "draining", "maintenance"]
    priority: int
    failover_policy: str
    endpoints: EndpointsModel
    owners: list[str]
    change_ticket: str
    annotations: dict[str, str]
    maintenance: bool
    namespaces: list[OwnedNamespace] = Field(description="The ones it owns.")
    ready: bool = Field(description="Fit for a failover: alive, level, disk free.")
    problems: list[str] = Field(description="Why it is not ready.")
    last_seen: str | None
    version: str | None
    protocol: str | None
    origin: str | None
    vector: dict[str, int] | None
    peers: list[Peer]


class Coordination(Answer):
    reachable: bool = Field(description="False when the store is silent: what is shown is the last that was known.")


class ClusterList(Answer):
    clusters: list[Cluster]
    routing_version: int
    next_page_token: str = Field(description="Empty on the last page.")
    coordination: Coordination


class OriginHead(Answer):
    sequence: int
    digest: str | None


class Replication(Answer):
    cluster_id: str
    vector: dict[str, int] | None
    heads: dict[str, OriginHead]
    peers: list[Peer]
    observed_at: str | None


# --- routing --------------------------------------------------------------------------------------------------


class CutModel(Answer):
    epoch: int
    sequence: int


class OwnershipModel(Answer):
    epoch: int
    cluster: str
    origin: str
    cut: CutModel


class NamespaceRoute(Answer):
    active: str
    epoch: int
    endpoint: str = Field(description="host:port of the active cluster's event service; empty if it has no descriptor.")
    control: str
    history: list[OwnershipModel]


class Routing(Answer):
    version: int
    namespaces: dict[str, NamespaceRoute]
    coordination: Coordination


class LateReader(Answer):
    """A reader that has not acknowledged the current epoch of its namespace."""

    cluster: str = Field(description="Where it reads.")
    namespace: str
    consumer: str = Field(description="As it names itself; may be empty.")
    principal: str
    epoch: int = Field(description="The highest that it has acknowledged; 0 if none.")


class Readers(Answer):
    """Who has taken notice of the routing as it is now."""

    routing_version: int
    clusters_behind: list[str] = Field(description="They show an older document.")
    clusters_unknown: list[str] = Field(description="They do not report, so who reads there is not known.")
    readers: int
    readers_behind: int = Field(description="How many have not acknowledged the current epoch.")
    late: list[LateReader] = Field(description="Who they are; of very many a part.")


# --- failovers ------------------------------------------------------------------------------------------------


class LimitsModel(Asked):
    """What the operator accepts; part of what is approved. Durations are seconds."""

    max_lag_seconds: float = Field(default=5.0, ge=0, le=3600, allow_inf_nan=False)
    drain_timeout_seconds: float = Field(default=10.0, gt=0, le=600, allow_inf_nan=False)
    verify_timeout_seconds: float = Field(default=15.0, gt=0, le=600, allow_inf_nan=False)
    gather_timeout_seconds: float = Field(default=5.0, gt=0, le=600, allow_inf_nan=False)
    cooldown_seconds: float = Field(default=0.0, ge=0, le=604_800, allow_inf_nan=False)
    plan_valid_seconds: float = Field(default=3600.0, gt=0, le=604_800, allow_inf_nan=False)
    approvals_required: int | None = Field(
        default=None, ge=0, le=20, description="Not fewer than the configuration says, which is also the default."
    )


class FailoverCreate(Asked):
    mode: Literal["planned", "emergency", "failback"]
    target: NameIfAny = Field(default="", description="A failback goes to the source of the failover that it reverses.")
    namespaces: list[Name] = Field(
        default_factory=list, max_length=50, description="Empty: all that the current active owns."
    )
    reason: Text = ""
    change_ticket: Text = ""
    run_url: Text = ""
    limits: LimitsModel = Field(default_factory=LimitsModel)
    accept_data_loss: int | None = Field(default=None, ge=0, description="Of an emergency: records, in writing.")
    break_glass: bool = Field(default=False, description="Needs mesh.admin and a reason.")
    reverses: NameIfAny = Field(default="", description="Of a failback: the failover to reverse.")
    approval_source: Literal["api", "ticket"] = Field(
        default="api",
        description="`ticket`: the control plane reads approvals in the change ticket, and takes no others.",
    )
    dry_run: bool = False


class StepBody(Asked):
    reason: Text = ""


class TicketAsked(Asked):
    change_ticket: Text = Field(default="", description="Of a failover that has no ticket yet: the one it gets.")


class Decision(Asked):
    decision: Literal["approve", "deny"]
    plan_hash: PlanHash
    comment: Text = ""
    via: Literal["api", "terminal", "awx", "ticket"] = "api"


class PlanModel(Answer):
    hash: str
    expires_at: str
    steps: list[PlanStep]
    routing: list[RoutingChange]
    predicted_loss_records: int
    predicted_outage_seconds: float
    loss: list[LossPrediction] = Field(description="Of an emergency: one entry for each log that ends early.")


class TicketModel(Answer):
    """What the change ticket holds of a failover."""

    number: str
    system: str
    url: str
    state: str = Field(description="As it was read last, in the ticket system's words; empty if it never was.")
    approval: Literal["pending", "approved", "rejected", ""]
    window_starts_at: str | None
    window_ends_at: str | None
    posted: list[Posting] = Field(description="What it holds, with digests of documents.")
    pending: list[str] = Field(description="What it does not hold yet; tried again by itself.")
    problem: str = Field(description="Why something is pending, or why no approval came from it.")
    hint: str
    retry_at: str
    gave_up: bool = Field(description="Nothing more is tried until it is asked for.")


State = Literal[
    "awaiting_approval",
    "approved",
    "draining",
    "drained",
    "gathering",
    "fencing",
    "fenced",
    "promoted",
    "verify_failed",
    "verified",
    "completed",
    "aborted",
    "denied",
    "expired",
]


class FailoverModel(Answer):
    id: str = Field(description="Empty for a dry run.")
    mode: str
    state: State
    source: str
    target: str
    namespaces: list[str]
    reason: str
    change_ticket: str
    run_url: str
    requested_by: str
    created_at: str
    limits: Limits
    expected_epochs: dict[str, int]
    plan: PlanModel
    accept_data_loss: int | None
    break_glass: bool
    reverses: str
    approval_source: Literal["api", "ticket"]
    ticket: TicketModel | None = Field(description="Null where there is no ticket source, or no ticket.")
    cuts: dict[str, CutModel] = Field(description="Of an emergency: where the new active's prefix ended.")
    manifest: list[LossRange] = Field(description="What an emergency cut off, as far as it is known.")
    checks: list[Check]
    approvals: list[Approval]
    approvals_required: int
    approved: bool
    journal: list[JournalEntry]
    problem: str
    routing_version: int = Field(description="Of the document that promoted the target; 0 before.")
    measured_outage_seconds: float | None
    outage_basis: Basis | None = Field(description="From when on; since `source_last_heard` it is a bound.")
    next: list[str] = Field(description="Commands that are legal now.")


class FailoverList(Answer):
    failovers: list[FailoverModel]


class Approvals(Answer):
    required: int
    approvals: list[Approval]


class EpochChange(Answer):
    before: int
    after: int


class AuditRange(Answer):
    first: int
    last: int


class Report(Answer):
    failover_id: str
    state: State
    problem: str
    mode: str
    source: str
    target: str
    namespaces: list[str]
    change_ticket: str
    run_url: str
    reason: str
    requested_by: str
    created_at: str
    plan_hash: str
    approvals: list[Approval]
    timings: dict[str, str | None]
    measured_outage_seconds: float | None
    outage_basis: Basis | None = Field(description="From when on; since `source_last_heard` it is a bound.")
    measured_loss_records: int | None
    predicted_loss_records: int
    predicted_outage_seconds: float
    predicted_loss: list[LossPrediction] = Field(description="Of an emergency, when it was promoted.")
    accept_data_loss: int | None
    break_glass: bool
    manifest: list[LossRange] = Field(description="What an emergency cut off, as far as it is known.")
    epochs: dict[str, EpochChange]
    digests: dict[str, str] = Field(description="Origin → chain digest at the barrier.")
    checks: list[Check]
    journal: list[JournalEntry]
    audit: AuditRange | None
    readers: Readers | None = Field(description="As it is now, or was when the failover was completed.")


# --- divergence -----------------------------------------------------------------------------------------------


class DivergenceModel(Answer):
    """Fenced data of one epoch of a namespace, as far as this cluster holds it."""

    id: str
    namespace: str
    epoch: int
    origin: str
    first_sequence: int
    last_sequence: int
    records: int
    superseded: int = Field(description="Their producers have sent them again.")
    replayed: int
    unresolved: int = Field(description="Neither superseded, replayed nor decided about.")
    resolution: Literal["discarded", "exported", "replaying", "replayed"] | None
    decided_by: str
    decided_at: str


class DivergenceList(Answer):
    divergences: list[DivergenceModel]


class KeyDiffModel(Answer):
    key: str = Field(description="As text, or `base64:…` where it is none.")
    fenced_records: int
    written_since: int


class DivergenceDetail(Answer):
    divergence: DivergenceModel
    ranges: list[LossRange]
    keys: list[KeyDiffModel]


# --- audit and meta -------------------------------------------------------------------------------------------


class AuditEntryModel(Answer):
    """One link of the chain, as it is sealed."""

    number: int
    at: str
    actor: str
    identity_proof: Literal["mtls", "token", "system"]
    action: str
    subject: str
    why: str
    change_ticket: str
    run_url: str
    before: Any
    after: Any
    outcome: Literal["done", "refused"]
    previous: str
    digest: str


class AuditHead(Answer):
    number: int
    digest: str


class AuditPage(Answer):
    entries: list[AuditEntryModel]
    head: AuditHead
    next_after: int | None = Field(
        description="`after` to read on with if there are more, null if everything up to `head` was looked at."
    )


class Health(Answer):
    status: Literal["ok"]


class Readiness(Answer):
    ready: bool
    problems: list[str]


class Version(Answer):
    version: str
    protocol: str
    cluster: str
