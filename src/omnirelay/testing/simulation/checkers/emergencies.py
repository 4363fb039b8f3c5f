"""I7, I11, I13: emergencies wait for nobody, begin only where somebody accepted what is known, and account exactly for
what they cut off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from omnirelay.failover.approvals import is_approved
from omnirelay.failover.divergence import Resolution
from omnirelay.failover.modes import SOURCE_CLOSED
from omnirelay.failover.record import Failover, Grade, LossRange, Mode, State
from omnirelay.model.batch import Batch
from omnirelay.ports.coordination import Change
from omnirelay.runtime.documents import AUDIT_HEAD, DIVERGENCES, FAILOVERS
from omnirelay.testing.simulation.checkers.base import Checker, Fail
from omnirelay.testing.simulation.checkers.facts import Facts, payload
from omnirelay.testing.simulation.cluster import TIMING, Cluster

BOUND_SECONDS = 5.0
"""What a target that can act may take beyond a step's own time, for looks and the store's answers."""
KNOWN_SECONDS = 10.0
"""A cluster whose report is older than this, at a time when ownership is to move to it, was not known to anybody."""
UNSURE = frozenset({Grade.PRESUMED_LOST, Grade.FENCED})
GONE = frozenset({Grade.FENCED, Grade.DISCARDED, Grade.EXPORTED})


class EmergencyChecker(Checker):
    def __init__(self, facts: Facts, fail: Fail) -> None:
        super().__init__(facts, fail)
        self._since: dict[tuple[str, State], float] = {}
        self._next_look = 0.0

    # --- I13 ---------------------------------------------------------------------------------------------------

    def stored(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.entry is None:
                continue
            if change.key.startswith(FAILOVERS.prefix):
                self._began(FAILOVERS.decode(change.entry.value))
            elif change.key.startswith(DIVERGENCES.prefix) and not any(c.key == AUDIT_HEAD for c in changes):
                self.fail("I7", f"{DIVERGENCES.name(change.key)} was decided without an audit entry")

    def _began(self, failover: Failover) -> None:
        before = self.facts.failovers.get(failover.id)
        if failover.state not in SOURCE_CLOSED or (before is not None and before.state in SOURCE_CLOSED):
            return
        request, what = failover.request, f"{failover.id} begins"
        if not is_approved(failover) or any(a.principal == failover.requested_by for a in failover.approvals):
            self.fail("I13", f"{what}, approved by {[a.principal for a in failover.approvals]}")
        for other in self.facts.failovers.values():
            shared = set(other.request.namespaces) & set(request.namespaces)
            if other.id != failover.id and other.state in SOURCE_CLOSED and shared:
                self.fail("I13", f"{what} while {other.id} moves {sorted(shared)}")
        for namespace, epoch in failover.expected_epochs.items():
            route = self.facts.route(namespace)
            if route is None or (route.epoch, route.active) != (epoch, failover.source):
                self.fail("I13", f"{what}; {namespace} is not in epoch {epoch} of {failover.source}")
        reported_at = self.facts.reported_at.get(request.target)
        if reported_at is None or self.facts.store.now - reported_at > KNOWN_SECONDS:
            self.fail("I13", f"{what}; nobody knows what {request.target} holds")
        if request.mode is Mode.EMERGENCY and not request.break_glass:
            predicted = sum(prediction.records for prediction in failover.plan.loss)
            unbounded = [prediction.origin for prediction in failover.plan.loss if not prediction.bounded]
            if unbounded or request.accept_data_loss is None or request.accept_data_loss < predicted:
                self.fail("I13", f"{what}; {predicted} records may be lost, accepted: {request.accept_data_loss}")

    # --- I11 ---------------------------------------------------------------------------------------------------

    def after_step(self, touched: Iterable[Cluster]) -> None:
        now = self.facts.store.now
        if now < self._next_look:
            return
        self._next_look = now + 0.25
        for failover in self.facts.failovers.values():
            limit = _limit_seconds(failover)
            if limit is None:
                continue
            since = self._since.setdefault((failover.id, failover.state), now)
            target = self.facts.clusters[failover.request.target]
            able = target.able_since
            if able is not None and now > max(since, able, target.disk.due) + limit + BOUND_SECONDS:
                self.fail(
                    "I11", f"{failover.id} is {failover.state} for {now - since:.1f} s, and {target.name} could act"
                )

    # --- I7: the manifest --------------------------------------------------------------------------------------

    def at_end(self) -> None:
        for failover in self.facts.emergencies:
            if why := inexact(self.facts, failover):
                self.fail("I7", why)
        self._accounted_for()

    def _accounted_for(self) -> None:
        """What no reader is given is said to be gone, and nothing else is. Where retention has dropped the valid copy,
        nobody could see any more that what was decided about had one."""
        valid = {payload(b) for name in self.facts.routing.routes for b in self.facts.valid_order(name)}
        gone: set[bytes] = set()
        cut_off: dict[bytes, Batch] = {}
        for failover in self.facts.emergencies:
            for namespace, batches in self.facts.cut_off(failover).items():
                for batch in batches:
                    grade = _grade(failover, namespace, batch)
                    cut_off[payload(batch)] = batch
                    if grade in GONE:
                        gone.add(payload(batch))
                    self._decided(failover, batch, grade)
        unseen = {payload(batch) for batch in self.facts.dropped()}
        for one, batch in sorted(cut_off.items()):
            if one in valid & gone & unseen:
                continue
            if (one in valid) == (one in gone):
                where = f"{batch.header.origin}:{batch.header.first_sequence}"
                self.fail(
                    "I7",
                    f"{one!r} ({where}) is {'' if one in valid else 'not '}valid, and the manifests "
                    f"{'' if one in gone else 'do not '}have it as gone",
                )

    def _decided(self, failover: Failover, batch: Batch, grade: Grade) -> None:
        """Only a decision on record discards or exports."""
        header = batch.header
        if grade not in (Grade.DISCARDED, Grade.EXPORTED):
            return
        decision = self.facts.decisions.get(f"{header.namespace}.{header.epoch}")
        wanted = Resolution.DISCARDED if grade is Grade.DISCARDED else Resolution.EXPORTED
        spans = (
            [(decision.resolution, decision.upto), *((s.resolution, s.upto) for s in decision.earlier)]
            if decision
            else []
        )
        if not any(resolution is wanted and header.last_sequence <= upto for resolution, upto in spans):
            self.fail("I7", f"{failover.id} grades {header.origin}:{header.first_sequence} {grade}; nobody decided so")


def inexact(facts: Facts, failover: Failover) -> str:
    """How the manifest of an emergency differs from what it did cut off; empty when it is exact."""
    for namespace, batches in facts.cut_off(failover).items():
        fenced = {
            (b.header.origin, n) for b in batches for n in range(b.header.first_sequence, b.header.last_sequence + 1)
        }
        ranges = [range_ for range_ in failover.manifest if range_.namespace == namespace]
        vague = [range_ for range_ in ranges if not range_.exact]
        told = [(r.origin, n) for r in ranges if r.exact for n in range(r.first, r.last + 1)]
        if vague or len(told) != len(set(told)) or set(told) != fenced:
            return (
                f"{failover.id} cut off {len(fenced)} records of {namespace}, its manifest has {len(told)}; "
                f"missing: {sorted(fenced - set(told))[:3]}, too many: {sorted(set(told) - fenced)[:3]}, "
                f"vague: {[(r.origin, r.first, r.last) for r in vague]}"
            )
    return ""


def undecided(failover: Failover) -> int:
    """Records of an emergency that still wait for somebody's decision."""
    return sum(range_.records for range_ in failover.manifest if range_.grade in UNSURE)


def _grade(failover: Failover, namespace: str, batch: Batch) -> Grade:
    def covers(range_: LossRange) -> bool:
        return range_.origin == batch.header.origin and range_.first <= batch.header.first_sequence <= range_.last

    return next((r.grade for r in failover.manifest if r.namespace == namespace and covers(r)), Grade.PRESUMED_LOST)


def _limit_seconds(failover: Failover) -> float | None:
    """How long an emergency may be in its state; None where it waits for people."""
    if failover.state is State.GATHERING:
        return failover.request.limits.gather_timeout_seconds
    if failover.state is State.FENCING:
        return 2 * TIMING.lease_ttl + 0.5 + failover.request.limits.gather_timeout_seconds
    return 0.0 if failover.state is State.FENCED else None
