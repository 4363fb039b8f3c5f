"""`kill -9` of any replicator, or of whoever drives, at any step of a planned failover (I5, I9; fm02, fm03, fm04).

One mesh goes through all of it, the ownership going to and fro between two clusters, while producers work. After each
kill the victim is started again and another driver, on another cluster, takes whatever step is due. Then the mesh
admits writes, exactly one cluster does, and the ledgers find nothing lost, doubled or reordered.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.system.support.driving import NEXT, STEPS, Driver, admitting, request
from tests.system.support.load import Load
from tests.system.support.waiting import until

from omnirelay.demo.mesh import REQUESTER, LocalMesh
from omnirelay.errors import OmniRelayError

pytestmark = pytest.mark.timeout(180)

PAIR = ("us-east", "eu-west")
BYSTANDER = "ap-south"
LIMITS = {"drain_timeout_seconds": 60.0, "verify_timeout_seconds": 60.0}
"""Longer than a restart takes on any machine: every failover ends completed, and undoing is a test of its own."""
PHASES = {"drain": "closed", "promote": "promoted", "verify": "canary_written"}
"""Step → the event of the journal at which the step is half done."""


@pytest.fixture(scope="module")
def load(mesh: LocalMesh) -> Iterator[Load]:
    with Load(mesh) as working:
        yield working


def roles(mesh: LocalMesh) -> dict[str, str]:
    """Who would be what in the next failover."""
    (active,) = admitting(mesh)
    source, target = PAIR if active == PAIR[0] else tuple(reversed(PAIR))
    return {"source": source, "target": target, "bystander": BYSTANDER}


@dataclass
class Intent:
    """The call of one step, in a thread, as it races with a kill."""

    driver: Driver
    step: str
    failover: dict[str, Any]
    refusals: list[OmniRelayError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sent = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"intent-{self.step}")
        self._thread.start()

    def _run(self) -> None:
        self.sent.set()
        try:
            if self.step == "preflight":
                with self.driver.client() as client:
                    client.plan_failover(self.failover)
            else:
                self.driver.take(self.step, self.failover)
        except OmniRelayError as error:
            self.refusals.append(error)

    def over(self) -> None:
        self._thread.join()


def before(driver: Driver, step: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Everything that comes before `step`, done. Answers the failover; for `preflight` what will be asked for."""
    if step == "preflight":
        driver.plan({**asked, "dry_run": True})
        return asked
    failover = driver.plan(asked)
    state = next(state for state, due in NEXT.items() if due == step and state not in ("draining", "verify_failed"))
    return driver.carry_on(failover["id"], until_state=state)


CASES = [
    *((step, victim, "as_asked") for step in STEPS for victim in ("source", "target", "bystander")),
    *((step, victim, "before") for step in STEPS[2:] for victim in ("source", "target")),
    *((step, victim, "half_done") for step in PHASES for victim in ("source", "target")),
]


@pytest.mark.parametrize(("step", "victim", "moment"), CASES)
def test_a_replicator_killed_at_a_step_costs_nothing(
    mesh: LocalMesh, load: Load, step: str, victim: str, moment: str
) -> None:
    """`before`: it is dead when the step is asked for. `as_asked`: it dies while the call is on its way; the bystander
    is itself the one that was called. `half_done`: it dies once the journal tells that the step has begun to act."""
    role = roles(mesh)
    killed = role[victim]
    first = BYSTANDER if victim == "bystander" else next(c for c in mesh.clusters if c != killed)
    second = next(c for c in reversed(mesh.clusters) if c not in (killed, first))
    asked = request(role["target"], **LIMITS)
    with load.producing() as leg:
        leg.flowing()
        failover = before(Driver(mesh, first), step, asked)
        if moment == "before":
            mesh.kill(killed)
        intent = Intent(Driver(mesh, first), step, failover)
        intent.sent.wait()
        if moment == "half_done":
            watcher = Driver(mesh, second)
            until(lambda: PHASES[step] in watcher.events(failover["id"], step), f"{step} is {PHASES[step]}")
        if moment != "before":
            mesh.kill(killed)
        mesh.start(killed, wait=False)
        done = Driver(mesh, second).carry_on(
            Driver(mesh, second).plan(asked)["id"] if step == "preflight" else failover["id"]
        )
        intent.over()
        leg.flowing()
    assert done["state"] == "completed", done["problem"]
    assert admitting(mesh) == [role["target"]]
    seen = leg.comparison()
    assert seen.faultless, seen


@pytest.mark.parametrize("victim", ["source", "target"])
def test_a_drain_whose_target_or_source_stays_away_undoes_itself(mesh: LocalMesh, load: Load, victim: str) -> None:
    """I9, I10: the deadline passes while the target is dead, or while the source itself is; nobody was promoted."""
    role = roles(mesh)
    with load.producing() as leg:
        leg.flowing()
        asked = request(role["target"], drain_timeout_seconds=0.5, verify_timeout_seconds=60.0)
        failover = before(Driver(mesh, BYSTANDER), "drain", asked)
        # Killed any earlier it would be noticed, and the drain refused. Drained or not by then, the deadline undoes it.
        Driver(mesh, BYSTANDER).take("drain", failover)
        mesh.kill(role["target"])
        if victim == "source":
            mesh.kill(role["source"])
            killed_at = leg.ledger.now()
            until(lambda: leg.ledger.now() - killed_at > 0.5, "the deadline has passed")
            mesh.start(role["source"], wait=False)
        until(lambda: Driver(mesh, BYSTANDER).show(failover["id"])["state"] == "aborted", "the drain undoes itself")
        leg.flowing()
        assert admitting(mesh) == [role["source"]]
        mesh.start(role["target"])
    seen = leg.comparison()
    assert seen.faultless, seen


DRIVEN = ("awaiting_approval", "approved", "draining", "drained", "promoted", "verified")


@pytest.mark.parametrize("state", DRIVEN)
def test_whoever_drives_may_die_in_any_state_and_another_resumes_elsewhere(
    mesh: LocalMesh, load: Load, state: str
) -> None:
    """The command line is killed when the failover is first seen in `state` or beyond; the same command on another
    cluster, with the failover's id, finishes it."""
    role = roles(mesh)
    with load.producing() as leg:
        leg.flowing()
        Driver(mesh, BYSTANDER).plan({**request(role["target"]), "dry_run": True})
        ticket = f"CHG-{state}"
        arguments = [role["target"], "--namespace", "default", "--change-ticket", ticket, "--reason", "driver's death"]
        first = command_line(mesh, role["target"], "mesh", "clusters", "promote", *arguments, "--yes")
        try:
            failover_id = until(lambda: _planned(mesh, ticket), "the plan is stored")
            watcher = Driver(mesh, BYSTANDER)
            if state != "awaiting_approval":
                watcher.take("approve", watcher.show(failover_id))
            until(lambda: _reached(watcher.show(failover_id)["state"], state), f"the failover is {state}")
        finally:
            first.kill()
            first.communicate()
        if state == "awaiting_approval":
            watcher.take("approve", watcher.show(failover_id))
        second = command_line(mesh, role["source"], "mesh", "failovers", "resume", failover_id)
        output, _ = second.communicate(timeout=60)
        assert second.returncode == 0, output
        leg.flowing()
    assert watcher.show(failover_id)["state"] == "completed"
    assert admitting(mesh) == [role["target"]]
    seen = leg.comparison()
    assert seen.faultless, seen


def _planned(mesh: LocalMesh, ticket: str) -> str:
    with mesh.control(clusters=[BYSTANDER]) as client:
        return next((f["id"] for f in client.failovers() if f["change_ticket"] == ticket), "")


def _reached(state: str, wanted: str) -> bool:
    order = (*DRIVEN, "completed")
    return order.index(state) >= order.index(wanted)


def command_line(mesh: LocalMesh, at: str, *arguments: str) -> subprocess.Popen[str]:
    """`omnirelay …` as the requester, speaking to one cluster."""
    who = mesh.credentials(REQUESTER)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OMNIRELAY_")},
        "OMNIRELAY_ENDPOINT": mesh.members[at].control_url,
        "OMNIRELAY_CA": str(who.ca),
        "OMNIRELAY_CERT": str(who.cert),
        "OMNIRELAY_KEY": str(who.key),
    }
    command = [sys.executable, "-m", "omnirelay.cli", *arguments]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
