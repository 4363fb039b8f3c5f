"""The planned leg: the shipped playbook moves the namespaces, and a second person approves while its gate waits."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omnirelay.demo.mesh import APPROVER, REQUESTER, LocalMesh
from omnirelay.demo.playbook import running
from omnirelay.demo.workspace import DemoFailed, Workspace

PLAYBOOK = "omnirelay.mesh.planned_failover"
GATE_WAITS = re.compile(r"^(\S+) waits for approval")
"""What the gate says when it has read the plan and found it not approved."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """What the playbook did, by the clock of whoever started it (monotonic, seconds)."""

    record: dict[str, Any]
    """The failover as the control plane keeps it."""
    begun: float
    ended: float
    approval_wait_seconds: float
    """From the moment the gate began to wait until the approval was recorded; what the gate takes to notice is the
    playbook's own time."""

    @property
    def playbook_seconds(self) -> float:
        return self.ended - self.begun - self.approval_wait_seconds


def planned_failover(mesh: LocalMesh, workspace: Workspace, target: str, say: Callable[[str], None]) -> PlannedRun:
    """Moves everything to `target`. Raises DemoFailed when the playbook fails."""
    variables = {
        "mesh_target": target,
        "mesh_reason": "demonstration",
        "mesh_change_ticket": "CHG-1",
        "mesh_approval_mode": "api",
        "mesh_report_json": str(workspace.root / "planned-report.json"),
        "mesh_report_markdown": str(workspace.root / "planned-report.md"),
    }
    connection = {
        "OMNIRELAY_ENDPOINT": ",".join(member.control_url for member in mesh.members.values()),
        "OMNIRELAY_CA": str(mesh.pki / "ca.crt"),
        "OMNIRELAY_CERT": str(mesh.pki / f"{REQUESTER}.crt"),
        "OMNIRELAY_KEY": str(mesh.pki / f"{REQUESTER}.key"),
    }
    failover_id, waited = "", 0.0
    log_file = workspace.logs / "planned_failover.log"
    with log_file.open("w", encoding="utf-8") as log, running(workspace, PLAYBOOK, variables, connection) as playbook:
        for line in playbook:
            log.write(line + "\n")
            say(f"  | {line}")
            if not failover_id and (waiting := GATE_WAITS.match(line)):
                failover_id = waiting[1]
                since = time.monotonic()
                say(approve(mesh, failover_id))
                waited = time.monotonic() - since
    if playbook.status != 0 or not failover_id:
        raise DemoFailed(f"{PLAYBOOK} ended with exit status {playbook.status}; its output is in {log_file}")
    with mesh.control() as client:
        record = client.failover(failover_id).body
    return PlannedRun(record, playbook.begun, playbook.ended, waited)


def approve(mesh: LocalMesh, failover_id: str) -> str:
    """As the second person: reads the plan, and approves exactly that plan if no check speaks against it."""
    with mesh.control(APPROVER) as client:
        failover = client.failover(failover_id).body
        against = [check["id"] for check in failover["checks"] if check["status"] == "fail"]
        plan_hash = failover["plan"]["hash"]
        decision = "deny" if against else "approve"
        client.decide(failover_id, decision, plan_hash=plan_hash, comment=", ".join(against) or "the checks pass")
    return f"{APPROVER} reads the plan {plan_hash[:19]}… of {failover['requested_by']}: {decision}"
