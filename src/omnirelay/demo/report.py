"""The report of a demonstration, its bars, and the check of the audit chain from the clusters' own copies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omnirelay.config.settings import TimingSettings
from omnirelay.demo.emergency import EmergencyRun, Loss
from omnirelay.demo.ledger import Verdict
from omnirelay.demo.mesh import LocalMesh
from omnirelay.demo.planned import Run
from omnirelay.failover import audit_chain

OUTAGE_BAR_SECONDS = 1.0
PLAYBOOK_BAR_SECONDS = 15.0
ACCEPTED_BAR_SECONDS = TimingSettings().lease_ttl + 2.0
"""From the death of the active until another one has taken a write."""
COPY_SECONDS = 10.0
"""Longest wait for the clusters' copies of the audit chain to reach its head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the ledgers say of the records that were handed over during one stretch."""

    acknowledged: int
    lost: int
    duplicated: int
    reordered: int
    fenced: int
    """Delivered by some cluster and taken back."""
    consistent: bool

    def shortfalls(self) -> Iterator[str]:
        """What is not as good as it has to be."""
        for name in ("lost", "duplicated", "reordered"):
            if count := getattr(self, name):
                yield f"{count} records {name}"
        if not self.acknowledged:
            yield "nothing was acknowledged"
        if not self.consistent:
            yield "the clusters delivered different records or another order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg(Tally):
    """One failover, by the ledgers; ids, epochs and the prediction are the control plane's."""

    failover_id: str
    epoch_before: int
    epoch_after: int
    measured_outage_seconds: float
    playbook_seconds: float
    approval_wait_seconds: float
    predicted_loss: int

    def _slow_playbook(self) -> Iterator[str]:
        if self.playbook_seconds >= PLAYBOOK_BAR_SECONDS:
            yield f"the playbook took {self.playbook_seconds:.1f} s, {PLAYBOOK_BAR_SECONDS} s is the limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailbackLeg(Leg):
    """In the end a planned failover. Its playbook also waits for the old active and replays, however much that is, and
    writes go on meanwhile: it has no limit."""

    def shortfalls(self) -> Iterator[str]:
        yield from Tally.shortfalls(self)
        if self.measured_outage_seconds >= OUTAGE_BAR_SECONDS:
            yield f"{self.measured_outage_seconds:.3f} s without writes, {OUTAGE_BAR_SECONDS} s is the limit"
        if self.fenced:
            yield f"{self.fenced} records were delivered and taken back, where nothing is to be fenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLeg(FailbackLeg):
    def shortfalls(self) -> Iterator[str]:
        yield from FailbackLeg.shortfalls(self)
        yield from self._slow_playbook()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyLeg(Leg):
    """`lost` counts what had been acknowledged to producers that lived on. What was acknowledged to those that died is
    cut off, and the manifest has to name it."""

    accepted_after_seconds: float | None
    """From the death of the active until a producer learnt that another one has a write on disk."""
    cut_off: int
    in_doubt: int
    manifest_records: int
    manifest_exact: bool

    def shortfalls(self) -> Iterator[str]:
        yield from Tally.shortfalls(self)
        yield from self._slow_playbook()
        if self.accepted_after_seconds is None:
            yield "the new active took no writes"
        elif self.accepted_after_seconds >= ACCEPTED_BAR_SECONDS:
            took = f"{self.accepted_after_seconds:.3f} s"
            yield f"writes were taken again after {took}, {ACCEPTED_BAR_SECONDS} s is the limit"
        if not self.cut_off:
            yield "nothing was cut off, so the manifest proves nothing"
        if not self.manifest_exact:
            yield f"the manifest names {self.manifest_records} records, the ledgers miss {self.cut_off}"


@dataclass(frozen=True, slots=True)
class Audit:
    entries: int
    verified: bool
    """Every cluster's copy is the whole chain, checked without the mesh."""

    def shortfalls(self) -> Iterator[str]:
        if not self.verified:
            yield "the audit chain does not verify"


@dataclass(frozen=True, slots=True)
class Report:
    planned: PlannedLeg
    emergency: EmergencyLeg
    failback: FailbackLeg
    run: Tally
    """Everything from the first record to the last, the replayed ones included."""
    audit: Audit

    def shortfalls(self) -> list[str]:
        parts = {name: getattr(self, name) for name in ("planned", "emergency", "failback", "run", "audit")}
        return [f"{name}: {shortfall}" for name, part in parts.items() for shortfall in part.shortfalls()]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def planned_leg(run: Run, verdict: Verdict, outage_seconds: float) -> PlannedLeg:
    return PlannedLeg(**_leg(run, verdict, outage_seconds))


def failback_leg(run: Run, verdict: Verdict, outage_seconds: float) -> FailbackLeg:
    return FailbackLeg(**_leg(run, verdict, outage_seconds))


def emergency_leg(
    emergency: EmergencyRun, verdict: Verdict, outage_seconds: float, accepted_at: float | None, loss: Loss
) -> EmergencyLeg:
    """What was lost is what was missing before anything was replayed."""
    after = None if accepted_at is None else round(accepted_at - emergency.killed_at, 3)
    known = {**_leg(emergency.run, verdict, outage_seconds), **asdict(loss)}
    return EmergencyLeg(**known, accepted_after_seconds=after)


def tally(verdict: Verdict) -> Tally:
    return Tally(**asdict(verdict))


def _leg(run: Run, verdict: Verdict, outage_seconds: float) -> dict[str, Any]:
    return {
        "failover_id": run.record["id"],
        "epoch_before": run.epoch_before,
        "epoch_after": run.epoch_after,
        "measured_outage_seconds": round(outage_seconds, 3),
        "playbook_seconds": round(run.playbook_seconds, 3),
        "approval_wait_seconds": round(run.approval_wait_seconds, 3),
        "predicted_loss": run.record["plan"]["predicted_loss_records"],
        **asdict(verdict),
    }


def check_audit(mesh: LocalMesh) -> Audit:
    """Checks each cluster's own copy, as a file, against the head that the control plane names."""
    with mesh.control() as client:
        head = client.audit(limit=1)["head"]
    copies = [mesh.directory / cluster / "audit.jsonl" for cluster in mesh.clusters]
    end = time.monotonic() + COPY_SECONDS
    while (broken := [verify_copy(copy, head["digest"]) for copy in copies]) != [None] * len(copies):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return Audit(entries=head["number"], verified=not any(broken))


def verify_copy(copy: Path, head: str) -> audit_chain.BrokenLink | None:
    """The first flaw of a copy; one that does not exist is flawed from the start."""
    if not copy.exists():
        return audit_chain.BrokenLink(1, f"{copy} does not exist")
    with copy.open("rb") as lines:
        return audit_chain.verify_copy(lines, head)
