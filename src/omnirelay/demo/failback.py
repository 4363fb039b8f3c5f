"""The failback leg: the old active is back; the shipped playbook replays what it alone had, and goes home."""

from __future__ import annotations

from collections.abc import Callable

from omnirelay.demo.mesh import LocalMesh
from omnirelay.demo.planned import Run, run
from omnirelay.demo.workspace import Workspace

PLAYBOOK = "omnirelay.mesh.failback"


def fail_back(mesh: LocalMesh, workspace: Workspace, reverses: str, say: Callable[[str], None]) -> Run:
    """Reverses the failover with this id. Raises DemoFailed when the playbook fails."""
    variables = {
        "mesh_reverses": reverses,
        "mesh_divergence_resolution": "replay",
        "mesh_change_ticket": "CHG-3",
    }
    return run(mesh, workspace, PLAYBOOK, variables, say)
