"""A failover as a durable object: plan, approvals, evidence and journal in one value.

It is stored under one key of the coordination store and replaced by compare-and-set, so whoever drives it (a
playbook, the command line, another operator) can stop at any point and another can go on. Times are RFC 3339 in
UTC; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omnirelay.model.position import Cursor
from omnirelay.model.readers import Acknowledgement
from omnirelay.model.ticket import Ticket

Epochs = Mapping[str, int]
"""namespace → epoch"""


class Mode(StrEnum):
    PLANNED = "planned"
    EMERGENCY = "emergency"
    FAILBACK = "failback"
    """A planned failover home, after an emergency or a planned one."""


class ApprovalSource(StrEnum):
    """Where a plan's approvals come from."""

    API = "api"
    """People tell the control plane, through whatever calls its API."""
    TICKET = "ticket"
    """The control plane reads them in the change ticket; nobody can tell it."""


class State(StrEnum):
    """What each state means stands with the tables, in omnirelay.failover.planned and omnirelay.failover.emergency."""

    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    DRAINING = "draining"
    DRAINED = "drained"
    GATHERING = "gathering"
    FENCING = "fencing"
    FENCED = "fenced"
    PROMOTED = "promoted"
    VERIFY_FAILED = "verify_failed"
    VERIFIED = "verified"
    COMPLETED = "completed"
    ABORTED = "aborted"
    DENIED = "denied"
    EXPIRED = "expired"


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  (a verdict, no password)
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One preflight check: what was observed, what the limit is, and what to do about it."""

    id: str
    status: Verdict
    observed: str
    limit: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator accepts. Part of what is approved."""

    max_lag_seconds: float = 5.0
    drain_timeout_seconds: float = 10.0
    verify_timeout_seconds: float = 15.0
    gather_timeout_seconds: float = 5.0
    """Of an emergency failover: how long the target may take to catch up from a more advanced peer."""
    cooldown_seconds: float = 0.0
    """Least time since these namespaces moved last."""
    plan_valid_seconds: float = 3600.0
    approvals_required: int = 1


@dataclass(frozen=True, slots=True)
class RoutingChange:
    namespace: str
    source: str
    target: str
    epoch_before: int
    epoch_after: int


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A step as a person reads it before approving."""

    name: str
    effect: str
    undo: str


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; with the expected epochs it determines the plan hash."""

    mode: Mode
    target: str
    namespaces: tuple[str, ...]
    reason: str
    change_ticket: str
    limits: Limits = Limits()
    accept_data_loss: int | None = None
    """Of an emergency failover: how many records the requester accepts to lose, in writing."""
    break_glass: bool = False
    """Overrides the acceptance and the check that the source is gone; needs mesh.admin and a reason."""
    reverses: str = ""
    """Of a failback: the failover whose source is to be active again."""
    approval_source: ApprovalSource = ApprovalSource.API


@dataclass(frozen=True, slots=True)
class LossPrediction:
    """What the new active may lack of one origin. A log is shared by all namespaces that its cluster owns, so for
    some of them it is an upper bound."""

    origin: str
    held: int
    """Where the longest prefix in reach ends in this log."""
    heard: int
    """The highest sequence that anyone heard of."""
    known_records: int
    known_bytes: int | None
    """None where nobody can say."""
    unheard_seconds: float
    """For how long the source may have admitted writes that nobody heard of; its lease bounds it."""
    unheard_records: int
    """An estimate for that time, at the rate last seen."""
    bounded: bool = True
    """False: nobody in reach has ever heard of this log, so the figures say nothing."""

    @property
    def records(self) -> int:
        return self.known_records + self.unheard_records


class Grade(StrEnum):
    """What became of records that an emergency cut off."""

    PRESUMED_LOST = "presumed_lost"
    """Heard of, never received; the old active may still have them."""
    FENCED = "fenced"
    """Received since, kept, not delivered: to be discarded, exported or replayed."""
    SUPERSEDED = "superseded"
    """Their producers have sent them again to the new active."""
    RECOVERED = "recovered"
    """Replayed as new records."""
    DISCARDED = "discarded"
    EXPORTED = "exported"


@dataclass(frozen=True, slots=True)
class LossRange:
    """Sequences of one origin that a new active went on without: all records of the namespace between `first` and
    `last`. Where its records lie among other namespaces', a range ends with each of them, or goes on over them in a
    manifest that would grow too long."""

    namespace: str
    origin: str
    epoch: int
    first: int
    last: int
    records: int
    """Of this namespace, where it is exact."""
    exact: bool
    """False: `last` is what had been heard of, and other namespaces' records are among them."""
    grade: Grade

    @property
    def place(self) -> tuple[str, str, int]:
        """The part of a log that it is about."""
        return self.namespace, self.origin, self.epoch


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[PlanStep, ...]
    routing: tuple[RoutingChange, ...]
    predicted_loss_records: int
    predicted_outage_seconds: float
    loss: tuple[LossPrediction, ...]
    """Of an emergency failover, one for each log that ends early; what `predicted_loss_records` sums up."""
    hash: str
    """`sha256:` over request, source and expected epochs: what an approval is bound to."""
    expires_at: str


@dataclass(frozen=True, slots=True)
class Approval:
    principal: str
    decision: str
    """`approve` or `deny`."""
    plan_hash: str
    at: str
    comment: str = ""
    via: str = "api"
    """How it came: `api`, `terminal`, `awx`, `ticket`."""
    ticket: str = ""
    """Of what the control plane itself has read in the ticket system: the ticket's number."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """The last batch of a drained namespace."""

    origin: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class DemotionToken:
    """The source's signed statement that it admits nothing more in these epochs."""

    failover_id: str
    plan_hash: str
    barriers: Mapping[str, Barrier]
    """namespace → barrier"""
    digests: Mapping[str, str]
    """origin → chain digest (hex) at the highest barrier of that origin"""
    issued_at: str
    certificate: str = ""
    """The source's certificate, PEM."""
    signature: str = ""
    """Base64, over the canonical JSON of the fields above without certificate."""


@dataclass(frozen=True, slots=True)
class Canary:
    """The write that proves the new active and reverse replication."""

    origin: str
    sequence: int
    digest: str
    written_at: str


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What happened, by whom: `actor` is a principal or a cluster."""

    at: str
    step: str
    event: str
    actor: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failover:
    id: str
    state: State
    request: Request
    source: str
    requested_by: str
    created_at: str
    expected_epochs: Epochs
    plan: Plan
    checks: tuple[Check, ...]
    approvals: tuple[Approval, ...] = ()
    run_url: str = ""
    ticket: Ticket | None = None
    """The change ticket as it was read last, without its decisions; None where there is no ticket source."""
    target_origin: str = ""
    """The log that the target appends to, as it named it when it proved the barrier."""
    drain_started_at: str = ""
    gather_started_at: str = ""
    fencing_started_at: str = ""
    revoked: bool = False
    """The source's claim did not end by itself and was taken away."""
    demoted: bool = False
    """The source has confirmed that it admits nothing more."""
    cuts: Mapping[str, Cursor] = field(default_factory=dict)
    """Of an emergency: namespace → end of the target's unbroken prefix, taken after the gather."""
    heard: Mapping[str, int] = field(default_factory=dict)
    """Of an emergency: origin → highest sequence that had been heard of when the cut was taken."""
    manifest: tuple[LossRange, ...] = ()
    """What an emergency cut off, as far as it is known; graded again when the old active returns."""
    token: DemotionToken | None = None
    reached: Mapping[str, int] = field(default_factory=dict)
    """namespace → the barrier sequence that the target has proven to hold"""
    routing_version: int = 0
    """Version of the routing document that promoted it."""
    opened: Mapping[str, str] = field(default_factory=dict)
    """namespace → when the target admitted writes"""
    canaries: Mapping[str, Canary] = field(default_factory=dict)
    """namespace → canary, once the target has written it"""
    seen: Mapping[str, str] = field(default_factory=dict)
    """namespace → when the source held the canary with the same digest"""
    verify_requested_at: str = ""
    noticed: Acknowledgement | None = None
    """Who had taken notice of the routing when it was completed."""
    problem: str = ""
    """Why it is aborted or its verification failed."""
    journal: tuple[JournalEntry, ...] = ()
