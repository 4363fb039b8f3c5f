"""The planned leg: the shipped playbook moves the namespaces, and a second person approves while its gate waits."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omnirelay.demo.mesh import APPROVER, REQUESTER, LocalMesh
from omnirelay.demo.playbook import running
from omnirelay.demo.workspace import DemoFailed, Workspace

PLAYBOOK = "omnirelay.mesh.planned_failover"
GATE_WAITS = re.compile(r"^(\S+) waits for approval")
"""What the gate says when it has read the plan and found it not approved."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a playbook did, by the clock of whoever started it (monotonic, seconds)."""

    record: dict[str, Any]
    """The failover as the control plane keeps it."""
    begun: float
    ended: float
    approval_wait_seconds: float = 0.0
    """From the moment the gate began to wait until the approval was recorded; what the gate takes to notice is the
    playbook's own time."""

    @property
    def playbook_seconds(self) -> float:
        return self.ended - self.begun - self.approval_wait_seconds

    @property
    def epoch_before(self) -> int:
        return int(max(change["epoch_before"] for change in self.record["plan"]["routing"]))

    @property
    def epoch_after(self) -> int:
        return int(max(change["epoch_after"] for change in self.record["plan"]["routing"]))


def planned_failover(mesh: LocalMesh, workspace: Workspace, target: str, say: Callable[[str], None]) -> Run:
    """Moves everything to `target`. Raises DemoFailed when the playbook fails."""
    return run(mesh, workspace, PLAYBOOK, {"mesh_target": target, "mesh_change_ticket": "CHG-1"}, say)


def run(
    mesh: LocalMesh, workspace: Workspace, name: str, variables: Mapping[str, Any], say: Callable[[str], None]
) -> Run:
    """Runs a playbook that ends with a report; whenever its gate waits, the second person approves. Raises DemoFailed
    when it fails."""
    leg = name.rpartition(".")[2]
    report = workspace.root / f"{leg}-report.json"
    given = {
        "mesh_reason": "demonstration",
        "mesh_approval_mode": "api",
        "mesh_report_json": str(report),
        "mesh_report_markdown": str(workspace.root / f"{leg}-report.md"),
        **variables,
    }
    connection = {
        "OMNIRELAY_ENDPOINT": ",".join(member.control_url for member in mesh.members.values()),
        "OMNIRELAY_CA": str(mesh.pki / "ca.crt"),
        "OMNIRELAY_CERT": str(mesh.pki / f"{REQUESTER}.crt"),
        "OMNIRELAY_KEY": str(mesh.pki / f"{REQUESTER}.key"),
    }
    waited = 0.0
    log_file = workspace.logs / f"{leg}.log"
    with log_file.open("w", encoding="utf-8") as log, running(workspace, name, given, connection) as playbook:
        for line in playbook:
            log.write(line + "\n")
            say(f"  | {line}")
            if not waited and (waiting := GATE_WAITS.match(line)):
                since = time.monotonic()
                say(approve(mesh, waiting[1]))
                waited = time.monotonic() - since
    if playbook.status != 0:
        raise DemoFailed(f"{name} ended with exit status {playbook.status}; its output is in {log_file}")
    failover_id = json.loads(report.read_text(encoding="utf-8"))["failover_id"]
    with mesh.control() as client:
        record = client.failover(failover_id).body
    return Run(record, playbook.begun, playbook.ended, waited)


def approve(mesh: LocalMesh, failover_id: str) -> str:
    """As the second person: reads the plan, and approves exactly that plan if no check speaks against it."""
    with mesh.control(APPROVER) as client:
        failover = client.failover(failover_id).body
        against = [check["id"] for check in failover["checks"] if check["status"] == "fail"]
        plan_hash = failover["plan"]["hash"]
        decision = "deny" if against else "approve"
        client.decide(failover_id, decision, plan_hash=plan_hash, comment=", ".join(against) or "the checks pass")
    return f"{APPROVER} reads the plan {plan_hash[:19]}… of {failover['requested_by']}: {decision}"
