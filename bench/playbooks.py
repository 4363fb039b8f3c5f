"""What Ansible adds: a planned failover by playbook, beside the wait for approval, and one call of a module."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnirelay.demo.mesh import REQUESTER, LocalMesh
from omnirelay.demo.planned import planned_failover
from omnirelay.demo.playbook import running
from omnirelay.demo.workspace import Workspace

CHECKOUT = Path(__file__).resolve().parent.parent
CALLS = 20
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - omnirelay.mesh.cluster_info:
      with_sequence: count={{ calls }}
"""


@dataclass(frozen=True, slots=True)
class Run:
    failovers: list[float]
    """Seconds."""
    call: float


def measure(directory: Path, failovers: int) -> Run:
    workspace = Workspace(directory)
    for part in ("meta", "playbooks", "plugins", "roles"):
        (directory / part).symlink_to(CHECKOUT / part)
    for folder in (workspace.root, workspace.logs, workspace.ansible):
        folder.mkdir(parents=True)
    with LocalMesh(workspace.mesh) as mesh:
        targets = [mesh.clusters[(turn + 1) % 2] for turn in range(failovers)]
        runs = [planned_failover(mesh, workspace, target, lambda line: None) for target in targets]
        return Run([run.playbook_seconds for run in runs], call_seconds(workspace, mesh))


def call_seconds(workspace: Workspace, mesh: LocalMesh) -> float:
    """Of one task of a play: what a loop of calls takes more than a single one."""
    playbook = workspace.root / "calls.yml"
    playbook.write_text(PLAYBOOK)
    connection = {
        "OMNIRELAY_ENDPOINT": ",".join(member.control_url for member in mesh.members.values()),
        "OMNIRELAY_CA": str(mesh.pki / "ca.crt"),
        "OMNIRELAY_CERT": str(mesh.pki / f"{REQUESTER}.crt"),
        "OMNIRELAY_KEY": str(mesh.pki / f"{REQUESTER}.key"),
    }

    def seconds(calls: int) -> float:
        return timed(workspace, playbook, {"calls": calls}, connection)

    seconds(1)  # leaves compiled code behind
    return (seconds(1 + CALLS) - seconds(1)) / CALLS


def timed(workspace: Workspace, playbook: Path, given: Mapping[str, int], connection: Mapping[str, str]) -> float:
    with running(workspace, str(playbook), given, connection) as run:
        lines = list(run)
    if run.status != 0:
        raise RuntimeError("\n".join(lines))
    return run.seconds


def rows(run: Run) -> list[tuple[str, str, str]]:
    ordered = sorted(run.failovers)
    return [
        (
            "planned failover by playbook",
            f"{statistics.median(ordered):.1f} s",
            f"{ordered[0]:.1f} to {ordered[-1]:.1f} s in {len(ordered)} runs, beside the wait for approval",
        ),
        ("one call of a module", f"{run.call:.2f} s", f"cluster_info, mean of {CALLS} in a loop"),
    ]
