"""The report of a demonstration, its bars, and the check of the audit chain from the clusters' own copies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from omnirelay.demo.ledger import Verdict
from omnirelay.demo.mesh import LocalMesh
from omnirelay.demo.planned import PlannedRun
from omnirelay.failover import audit_chain

OUTAGE_BAR_SECONDS = 1.0
PLAYBOOK_BAR_SECONDS = 15.0
COPY_SECONDS = 10.0
"""Longest wait for the clusters' copies of the audit chain to reach its head."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One failover, by the ledgers; ids, epochs and the prediction are the control plane's."""

    failover_id: str
    epoch_before: int
    epoch_after: int
    measured_outage_seconds: float
    playbook_seconds: float
    approval_wait_seconds: float
    acknowledged: int
    lost: int
    duplicated: int
    reordered: int
    fenced: int
    predicted_loss: int
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
        if self.measured_outage_seconds >= OUTAGE_BAR_SECONDS:
            yield f"{self.measured_outage_seconds:.3f} s without writes, {OUTAGE_BAR_SECONDS} s is the limit"
        if self.playbook_seconds >= PLAYBOOK_BAR_SECONDS:
            yield f"the playbook took {self.playbook_seconds:.1f} s, {PLAYBOOK_BAR_SECONDS} s is the limit"


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
    planned: Leg
    audit: Audit

    def shortfalls(self) -> list[str]:
        return [*self.planned.shortfalls(), *self.audit.shortfalls()]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def planned_leg(run: PlannedRun, verdict: Verdict, outage_seconds: float) -> Leg:
    plan = run.record["plan"]
    return Leg(
        failover_id=run.record["id"],
        epoch_before=max(change["epoch_before"] for change in plan["routing"]),
        epoch_after=max(change["epoch_after"] for change in plan["routing"]),
        measured_outage_seconds=round(outage_seconds, 3),
        playbook_seconds=round(run.playbook_seconds, 3),
        approval_wait_seconds=round(run.approval_wait_seconds, 3),
        acknowledged=verdict.acknowledged,
        lost=verdict.lost,
        duplicated=verdict.duplicated,
        reordered=verdict.reordered,
        fenced=verdict.fenced,
        predicted_loss=plan["predicted_loss_records"],
        consistent=verdict.consistent,
    )


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
