"""A failover driven by hand, one call after the other, as a playbook or a person would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.system.support import rpc
from tests.system.support.waiting import until

from omnirelay.client.control import ControlClient
from omnirelay.demo.mesh import APPROVER, CLIENT, LocalMesh
from omnirelay.errors import OmniRelayError, PreflightFailed, Unavailable

STEPS = ("preflight", "approve", "drain", "promote", "verify", "complete")
"""In order. `preflight` is the call that checks and stores the plan."""
NEXT = {
    "awaiting_approval": "approve",
    "approved": "drain",
    "draining": "drain",
    "drained": "promote",
    "promoted": "verify",
    "verify_failed": "verify",
    "verified": "complete",
}
FINAL = frozenset({"completed", "aborted", "denied", "expired"})


class Driver:
    """Calls the control API of one cluster, as the requester and as the approver."""

    def __init__(self, mesh: LocalMesh, at: str) -> None:
        self._mesh = mesh
        self._at = [at]

    def client(self) -> ControlClient:
        return self._mesh.control(clusters=self._at)

    def plan(self, request: dict[str, Any]) -> dict[str, Any]:
        """Retried while the preflight refuses: the mesh may still be coming back from what was done to it before."""

        def try_it() -> dict[str, Any] | None:
            try:
                with self.client() as client:
                    return client.plan_failover(request)
            except (PreflightFailed, Unavailable) as error:
                refusals.append(error.message)
                return None

        refusals: list[str] = []
        planned = until(try_it, f"a plan towards {request['target']}")
        assert planned is not None
        return planned

    def show(self, failover_id: str) -> dict[str, Any]:
        with self.client() as client:
            return client.failover(failover_id).body

    def events(self, failover_id: str, step: str) -> list[str]:
        """What the journal tells of a step."""
        return [entry["event"] for entry in self.show(failover_id)["journal"] if entry["step"] == step]

    def take(self, step: str, failover: dict[str, Any], wait_seconds: float = 0.0) -> None:
        """The intent of one step. Raises what the mesh refuses it with."""
        if step == "approve":
            with self._mesh.control(APPROVER, clusters=self._at) as client:
                client.decide(failover["id"], "approve", plan_hash=failover["plan"]["hash"])
        else:
            with self.client() as client:
                client.step(failover["id"], step, wait_seconds=wait_seconds)

    def carry_on(self, failover_id: str, until_state: str = "") -> dict[str, Any]:
        """Takes whatever step is due, again while it is refused or unanswered, until the failover is over."""

        def onwards() -> dict[str, Any] | None:
            try:
                failover = self.show(failover_id)
                if failover["state"] in FINAL or failover["state"] == until_state:
                    return failover
                self.take(NEXT[failover["state"]], failover, wait_seconds=5.0)
            except OmniRelayError as error:
                refusals.append(error.message)
            return None

        refusals: list[str] = []
        try:
            done = until(onwards, f"failover {failover_id} comes to its end", seconds=60.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; refused lately: {refusals[-3:]}") from error
        assert done is not None
        return done


def request(target: str, namespaces: Sequence[str] = ("default",), **limits: float) -> dict[str, Any]:
    return {
        "mode": "planned",
        "target": target,
        "namespaces": list(namespaces),
        "reason": "system test",
        "change_ticket": "CHG-1",
        "limits": limits,
    }


def fail_over(
    mesh: LocalMesh, target: str, at: str, namespaces: Sequence[str] = ("default",), **limits: float
) -> dict[str, Any]:
    """A whole failover. Answers its record."""
    driver = Driver(mesh, at)
    return driver.carry_on(driver.plan(request(target, namespaces, **limits))["id"])


def admitting(mesh: LocalMesh, namespace: str = "default") -> list[str]:
    """The clusters that open a producer's stream, each asked itself. Writes nothing."""
    credentials = mesh.credentials(CLIENT)
    found = []
    for cluster, member in mesh.members.items():
        if not member.running:
            continue
        answer = rpc.publish(member.grpc, credentials, [rpc.open_message(namespace)])
        if answer.messages:
            found.append(cluster)
    return found
