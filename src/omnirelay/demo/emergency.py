"""The emergency leg: the active dies with some of its producers, in the middle of the load and with a tail that nobody
else has. The shipped playbook makes another cluster active; then the books say what that cost."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from omnirelay.demo.ledger import Ledger, Mark, mark
from omnirelay.demo.load import DOOMED, Load
from omnirelay.demo.mesh import LocalMesh
from omnirelay.demo.planned import Run, run
from omnirelay.demo.workspace import DemoFailed, Workspace
from omnirelay.errors import OmniRelayError, PreflightFailed
from omnirelay.model.record import Record

PLAYBOOK = "omnirelay.mesh.emergency_failover"
ACCEPTED_LOSS = 100_000
"""Records that whoever starts the playbook accepts to lose, in writing."""
TAIL_RECORDS = 100
"""Acknowledged to the producers that are about to die, and not replicated: so many at the least."""
STALL_SECONDS = 10.0
BACK_SECONDS = 30.0
"""Longest wait for an old active to have shipped its tail, and for the manifest to be exact."""


@dataclass(frozen=True, slots=True)
class EmergencyRun:
    run: Run
    killed_at: float


def emergency_failover(
    mesh: LocalMesh, load: Load, workspace: Workspace, source: str, target: str, say: Callable[[str], None]
) -> EmergencyRun:
    """Kills the active `source` and makes `target` active. Raises DemoFailed when the playbook fails."""
    killed_at = strike(mesh, load, source)
    say(f"kill -9: {source}, and with it {', '.join(DOOMED)}; the playbook for emergencies starts")
    variables = {
        "mesh_target": target,
        "mesh_accept_data_loss": ACCEPTED_LOSS,
        "mesh_change_ticket": "CHG-2",
        "mesh_reason": f"{source} is gone",
    }
    return EmergencyRun(run(mesh, workspace, PLAYBOOK, variables, say), killed_at)


def strike(mesh: LocalMesh, load: Load, source: str) -> float:
    """The others stand still until the active has acknowledged what only it has; then it dies. Returns when."""
    others = [cluster for cluster in mesh.clusters if cluster != source]
    for cluster in others:
        mesh.pause(cluster)
    try:
        before = len(load.ledger.promised(DOOMED))
        if not load.wait_until(lambda: len(load.ledger.promised(DOOMED)) >= before + TAIL_RECORDS, STALL_SECONDS):
            raise DemoFailed(f"{source} acknowledges too little to lose")
        killed_at = time.monotonic()
        mesh.kill(source)
        load.kill(DOOMED)
    finally:
        for cluster in others:
            mesh.resume(cluster)
    return killed_at


# --- what was lost ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loss:
    """The manifest of an emergency beside the books."""

    lost: int
    """Records acknowledged to producers that live, which the new active did not have when the old one came back."""
    cut_off: int
    """The same of producers that died with the old active."""
    in_doubt: int
    """Records of the manifest that were never acknowledged to anybody."""
    manifest_records: int
    """Those that producers sent again are not among them."""
    manifest_exact: bool
    """The manifest names every record that was cut off and no other that was acknowledged, place by place."""


def wait_returned(mesh: LocalMesh, failover_id: str, at: str) -> None:
    """Until the old active is back and nothing but open records speaks against going home. Raises DemoFailed."""
    end = time.monotonic() + BACK_SECONDS
    asked = {"mode": "failback", "reverses": failover_id, "change_ticket": "CHG-3", "reason": "?", "dry_run": True}
    with mesh.control(clusters=[at]) as client:
        while True:
            try:
                client.plan_failover(asked)
                return
            except PreflightFailed as error:
                against = [check["id"] for check in error.details["checks"] if check["status"] == "fail"]
                if against == ["divergence_resolved"]:
                    return
                why = ", ".join(against)
            except OmniRelayError as error:
                why = error.message
            if time.monotonic() > end:
                raise DemoFailed(f"the old active is not back after {BACK_SECONDS:g} s: {why}")
            time.sleep(0.1)


def compare_loss(mesh: LocalMesh, load: Load, failover_id: str, active: str) -> Loss:
    """What the manifest says, now that the old active is back, against what the books say."""
    ledger = load.ledger
    acknowledged, newest = ledger.promised(), _newest(ledger)
    load.wait_until(lambda: newest <= ledger.held[active], BACK_SECONDS)
    missing = acknowledged - ledger.held[active]
    cut_off = {each for each in missing if each.producer in ledger.killed}
    named: dict[tuple[str, int], Mark] = {}
    ranges: Sequence[dict[str, Any]] = ()

    def exact() -> bool:
        nonlocal named, ranges
        with mesh.control(clusters=[active]) as client:
            named = {
                place: each
                for divergence in client.divergences()
                for place, each in _fenced(divergence["origin"], client.export(divergence["id"], dry_run=True))
            }
            ranges = [each for each in client.failover(failover_id).body["manifest"] if each["grade"] == "fenced"]
        return all(each["exact"] for each in ranges) and _places(ranges) == named.keys()

    agrees = load.wait_until(exact, BACK_SECONDS)
    marks = set(named.values())
    return Loss(
        lost=len(missing - cut_off),
        cut_off=len(cut_off),
        in_doubt=len(marks - acknowledged),
        manifest_records=sum(each["records"] for each in ranges),
        manifest_exact=agrees and marks & acknowledged == missing,
    )


def _newest(ledger: Ledger) -> set[Mark]:
    """The last record that was acknowledged to each producer that lives."""
    living = [told for producer, told in ledger.acknowledgements.items() if producer not in ledger.killed]
    return {told[-1].marks[-1] for told in living if told}


def _fenced(origin: str, lines: Any) -> list[tuple[tuple[str, int], Mark]]:
    """Place and mark of the exported records that nobody has sent again."""
    found = []
    for line in lines:
        fields = json.loads(line)
        if fields["fate"] == "open":
            headers = tuple((name, base64.b64decode(value)) for name, value in fields["headers"])
            record = Record(base64.b64decode(fields["key"]), base64.b64decode(fields["value"]), headers)
            found.append(((origin, fields["sequence"]), mark(record)))
    return found


def _places(ranges: Sequence[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(each["origin"], sequence) for each in ranges for sequence in range(each["first"], each["last"] + 1)}
