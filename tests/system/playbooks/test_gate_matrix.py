"""The approval gate, row by row of how a run is started and what is answered, with each ansible-core that is supported.

Every row runs the shipped playbook of the planned failover. It ends with the failover completed by the approval of
whoever may give it, or it fails, and the control plane says that nothing was begun.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.system.support.playbooks import CORES, FQCN, Finished, Playbooks, active, deciding, passive
from tests.system.support.terminals import CTRL_C, CTRL_D, ENTER, terminal

from omnirelay import pki
from omnirelay.demo.mesh import APPROVER, REQUESTER, LocalMesh
from omnirelay.demo.planned import GATE_WAITS, approve

pytestmark = pytest.mark.timeout(180)

SECOND_APPROVER, OPERATOR = "carol", "dan"
ACCESS = {
    # Whoever makes the plan may approve plans, so that it is not the scope that keeps them from approving their own.
    REQUESTER: ["mesh.operate", "mesh.admin", "mesh.approve"],
    APPROVER: ["mesh.approve"],
    SECOND_APPROVER: ["mesh.approve"],
    OPERATOR: ["mesh.operate"],
}
ASKED = "to approve: "


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    access = [{"principal": f"operator/{name}", "scopes": scopes} for name, scopes in ACCESS.items()]
    with LocalMesh(tmp_path_factory.mktemp("mesh") / "m", settings={"access": access}) as started:
        authority = pki.load_authority(started.pki)
        for name in (SECOND_APPROVER, OPERATOR):
            pki.issue(authority, started.pki, pki.Kind.OPERATOR, name, now=datetime.now(UTC))
        yield started


@dataclass(frozen=True, slots=True)
class Gate:
    """One row: runs the playbook, and reads back what the control plane holds of it."""

    playbooks: Playbooks
    target: str
    routing: Mapping[str, Any]
    known: frozenset[str]
    """Failovers that are there already."""

    @property
    def mesh(self) -> LocalMesh:
        return self.playbooks.mesh

    @property
    def phrase(self) -> str:
        return f"promote {self.target}"

    def variables(self, **variables: Any) -> dict[str, Any]:
        return {"mesh_target": self.target, "mesh_change_ticket": "CHG-7", "mesh_reason": "gate matrix", **variables}

    def command(self, *arguments: str, playbook: str = FQCN, **variables: Any) -> list[str]:
        return self.playbooks.command(playbook, *arguments, **self.variables(**variables))

    def run(self, command: Sequence[str]) -> Finished:
        with self.playbooks.started(command) as running:
            return running.finish()

    def at_terminal(self, command: Sequence[str], answer: str) -> Finished:
        """Types the answer, and nothing if it is empty, once it is asked."""
        with terminal(command, self.playbooks.directory, self.playbooks.environment()) as shown:
            shown.until(ASKED)
            shown.until_it_reads()
            shown.type(answer)
            return Finished(*shown.finish())

    def identity(self, name: str) -> dict[str, str]:
        """Variables that say who sits at the terminal."""
        credentials = self.mesh.credentials(name)
        return {"mesh_approver_cert": str(credentials.cert), "mesh_approver_key": str(credentials.key)}

    # --- what the control plane says ---------------------------------------------------------------------------

    def made(self) -> list[dict[str, Any]]:
        with self.mesh.control() as client:
            new = [failover["id"] for failover in client.failovers() if failover["id"] not in self.known]
            return [client.failover(failover_id).body for failover_id in new]

    def assert_refused(self, done: Finished, because: str, state: str = "") -> None:
        """`state`: that of the run's plan, or empty if it did not come to make one."""
        assert done.status != 0, done.output
        assert because in " ".join(done.output.split()), done.output
        made = self.made()
        assert [failover["state"] for failover in made] == ([state] if state else [])
        assert not {entry["step"] for failover in made for entry in failover["journal"]} & {"drain", "promote"}
        self.assert_nothing_moved()

    def assert_nothing_moved(self) -> None:
        with self.mesh.control() as client:
            assert client.routing().body == self.routing

    def assert_done(self, done: Finished, approvers: Sequence[str]) -> None:
        assert done.status == 0, done.output
        (failover,) = self.made()
        assert failover["state"] == "completed"
        assert [a["principal"].rpartition("/")[2] for a in failover["approvals"]] == list(approvers)
        assert active(self.mesh) == self.target


@pytest.fixture(params=CORES)
def gate(request: pytest.FixtureRequest, mesh: LocalMesh, tmp_path: Path) -> Gate:
    with mesh.control() as client:
        routing, failovers = client.routing().body, client.failovers()
    playbooks = Playbooks(tmp_path, mesh, bin=CORES[request.param])
    return Gate(playbooks, passive(mesh), routing, frozenset(failover["id"] for failover in failovers))


# --- a person at a terminal ---------------------------------------------------------------------------------------


def test_at_a_terminal_the_right_phrase_of_another_person_approves(gate: Gate) -> None:
    command = gate.command(**gate.identity(APPROVER))
    gate.assert_done(gate.at_terminal(command, gate.phrase + ENTER), [APPROVER])


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        ("promote elsewhere" + ENTER, "the answer was not"),
        (ENTER, "the answer was not"),
        ("yes" + ENTER, "the answer was not"),
        (CTRL_C, "the question was interrupted"),
        (CTRL_D, "nobody answered within 2 s"),
        ("", "nobody answered within 2 s"),
    ],
    ids=["wrong phrase", "enter", "yes", "ctrl-c", "ctrl-d", "nothing"],
)
def test_at_a_terminal_any_other_answer_fails(gate: Gate, answer: str, because: str) -> None:
    seconds = 2 if "within" in because else 60
    command = gate.command(mesh_approval_timeout=seconds, **gate.identity(APPROVER))
    gate.assert_refused(gate.at_terminal(command, answer), because, "aborted")


@pytest.mark.parametrize(
    ("who", "because"),
    [("", "asked for this failover and cannot approve it"), (OPERATOR, "mesh.approve")],
    ids=["whoever made the plan", "whoever may not approve"],
)
def test_the_right_phrase_of_the_wrong_person_fails(gate: Gate, who: str, because: str) -> None:
    command = gate.command(mesh_approval_mode="terminal", **gate.identity(who) if who else {})
    gate.assert_refused(gate.at_terminal(command, gate.phrase + ENTER), because, "aborted")


def test_whoever_made_the_plan_confirms_it_and_waits_for_somebody_else(gate: Gate) -> None:
    with terminal(gate.command(), gate.playbooks.directory, gate.playbooks.environment()) as shown:
        shown.until(ASKED)
        shown.until_it_reads()
        shown.type(gate.phrase + ENTER)
        shown.until("waits for approval (0 of 1)")
        (failover,) = gate.made()
        approve(gate.mesh, failover["id"])
        done = Finished(*shown.finish())
    gate.assert_done(done, [APPROVER])


def test_in_the_background_of_a_terminal_it_fails(gate: Gate) -> None:
    job = ["bash", "-c", 'set -m; "$@" & wait $!', "bash", *gate.command(**gate.identity(APPROVER))]
    with terminal(job, gate.playbooks.directory, gate.playbooks.environment()) as shown:
        done = Finished(*shown.finish())
    gate.assert_refused(done, "nobody can be asked", "aborted")


# --- nobody at a terminal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shell",
    ['yes | "$@"', 'yes "$PHRASE" | "$@"', '"$@" < /dev/null', '"$@" <&-'],
    ids=["yes piped", "right phrase piped", "dev null", "closed"],
)
def test_without_a_terminal_it_fails(gate: Gate, shell: str) -> None:
    command = gate.command(**gate.identity(APPROVER))
    job = ["env", f"PHRASE={gate.phrase}", "bash", "-c", shell, "bash", *command]
    gate.assert_refused(gate.run(job), "nobody can be asked", "aborted")


def runner_job(gate: Gate, **variables: Any) -> list[str]:
    """A job of ansible-runner, which would answer a question with the right phrase, if one came."""
    job = gate.playbooks.directory / "job"
    for folder in ("project", "env"):
        (job / folder).mkdir(parents=True)
    (job / "env/extravars").write_text(json.dumps(gate.variables(**gate.identity(APPROVER), **variables)))
    (job / "env/passwords").write_text(json.dumps({".*to approve: ": gate.phrase}))
    return [str(gate.playbooks.bin / "ansible-runner"), "run", str(job), "--playbook", FQCN, "--ident", "1"]


def test_a_job_of_ansible_runner_passes_when_somebody_approves_elsewhere(gate: Gate) -> None:
    with gate.playbooks.started(runner_job(gate)) as running:
        done = deciding(running, lambda failover_id: approve(gate.mesh, failover_id))
    gate.assert_done(done, [APPROVER])


def test_a_job_of_ansible_runner_that_nobody_approves_fails(gate: Gate) -> None:
    done = gate.run(runner_job(gate, mesh_approval_timeout=1))
    gate.assert_refused(done, "nobody decided within 1 s", "aborted")


# --- decisions made elsewhere -------------------------------------------------------------------------------------


def decide(gate: Gate, name: str, failover_id: str, decision: str = "approve") -> None:
    with gate.mesh.control(name) as client:
        plan = client.failover(failover_id).body["plan"]
        client.decide(failover_id, decision, plan_hash=plan["hash"], comment="not today")


def waiting(gate: Gate, name: str, decision: str = "approve", **variables: Any) -> Finished:
    """One decision while the gate waits."""
    with gate.playbooks.started(gate.command(mesh_approval_mode="api", **variables)) as running:
        return deciding(running, lambda failover_id: decide(gate, name, failover_id, decision))


def test_a_denial_fails(gate: Gate) -> None:
    gate.assert_refused(waiting(gate, APPROVER, "deny"), "not today", "denied")


def test_one_approval_of_two_is_not_enough(gate: Gate) -> None:
    done = waiting(gate, APPROVER, mesh_limits={"approvals_required": 2}, mesh_approval_timeout=2)
    gate.assert_refused(done, "nobody decided within 2 s", "aborted")


def test_two_approvals_of_two_people_pass(gate: Gate) -> None:
    limits = {"approvals_required": 2}
    with gate.playbooks.started(gate.command(mesh_approval_mode="api", mesh_limits=limits)) as running:
        line = running.until("(0 of 2)")
        failover_id = GATE_WAITS.match(line)[1]
        for name in (APPROVER, APPROVER, SECOND_APPROVER):
            decide(gate, name, failover_id)
        done = running.finish()
    gate.assert_done(done, [APPROVER, SECOND_APPROVER])


def test_a_plan_that_is_valid_no_longer_fails(gate: Gate) -> None:
    done = gate.run(gate.command(mesh_approval_mode="api", mesh_limits={"plan_valid_seconds": 1}))
    gate.assert_refused(done, "was valid until", "expired")


# --- runs that leave the gate out ---------------------------------------------------------------------------------


def test_check_mode_asks_nobody_and_stores_nothing(gate: Gate) -> None:
    command = gate.command("--check", "--diff", **gate.identity(APPROVER))
    with terminal(command, gate.playbooks.directory, gate.playbooks.environment()) as shown:
        status, output = shown.finish()
    assert status == 0, output
    assert ASKED not in output
    assert gate.made() == []
    gate.assert_nothing_moved()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--start-at-task", "(3/6) Drain"],
        ["--start-at-task", "Stop writes and wait until the target holds everything"],
        ["--start-at-task", "no such task"],
        ["--skip-tags", "always"],
        ["--limit", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_part_of_the_playbook_fails_before_it_begins(gate: Gate, arguments: list[str]) -> None:
    gate.assert_refused(gate.run(gate.command(*arguments)), "runs as a whole")


def test_tags_leave_the_gate_in_place(gate: Gate) -> None:
    done = gate.run(gate.command("--tags", "promote", mesh_approval_mode="api", mesh_approval_timeout=1))
    gate.assert_refused(done, "nobody decided within 1 s", "aborted")


UNGATED = """
- hosts: localhost
  gather_facts: false
  tasks:
    - omnirelay.mesh.failover: {target: "{{ mesh_target }}", change_ticket: CHG-7, reason: no gate}
      register: planned
    - omnirelay.mesh.failover_step: {failover_id: "{{ planned.failover.id }}", step: "{{ item }}"}
      loop: [drain, promote]
      register: steps
      ignore_errors: true
    - omnirelay.mesh.failover: {state: absent, failover_id: "{{ planned.failover.id }}"}
    - ansible.builtin.fail:
        msg: "{{ steps.results | map(attribute='error.code') | join(', ') }}"
"""


def test_a_playbook_without_the_gate_is_refused_by_the_control_plane(gate: Gate) -> None:
    ungated = gate.playbooks.directory / "ungated.yml"
    ungated.write_text(UNGATED)
    done = gate.playbooks.run(ungated, mesh_target=gate.target)
    gate.assert_refused(done, "not_approved, not_approved", "aborted")


# --- breaking the glass: nobody has to approve, whoever does it answers for it --------------------------------------


def break_glass(gate: Gate, who: str = REQUESTER, **variables: Any) -> Finished:
    credentials = gate.mesh.credentials(who)
    identity = {"mesh_cert": str(credentials.cert), "mesh_key": str(credentials.key)}
    given = {"mesh_break_glass": True, **identity, **variables}
    return gate.run(gate.command(playbook="omnirelay.mesh.emergency_failover", **given))


@pytest.mark.parametrize(
    ("who", "variables", "because"),
    [
        (OPERATOR, {}, "mesh.admin"),
        (REQUESTER, {"mesh_reason": ""}, "for a reason"),
        (REQUESTER, {"mesh_break_glass": False}, "Say how many records may be lost"),
        (REQUESTER, {"mesh_break_glass": False, "mesh_accept_data_loss": 0}, "source_gone"),
    ],
    ids=["without mesh.admin", "without a reason", "not broken", "the source lives"],
)
def test_without_breaking_the_glass_rightly_an_emergency_fails(
    gate: Gate, who: str, variables: dict[str, Any], because: str
) -> None:
    gate.assert_refused(break_glass(gate, who, **variables), because)


def test_a_broken_glass_still_waits_for_the_review_that_it_asks_for(gate: Gate) -> None:
    review = {"approvals_required": 1}
    done = break_glass(gate, mesh_limits=review, mesh_approval_mode="api", mesh_approval_timeout=1)
    gate.assert_refused(done, "nobody decided within 1 s", "aborted")


def test_a_broken_glass_is_in_the_record_and_in_the_audit_chain(gate: Gate) -> None:
    report = gate.playbooks.directory / "report.md"
    done = break_glass(gate, mesh_reason="us-east lies", mesh_report_markdown=str(report))
    gate.assert_done(done, [])
    (failover,) = gate.made()
    assert (failover["break_glass"], failover["reason"]) == (True, "us-east lies")
    assert "us-east lies" in report.read_text()
    with gate.mesh.control() as client:
        deeds = {entry["action"]: entry for entry in client.audit_entries() if failover["id"] in entry["subject"]}
    assert "failover.promote" in deeds
    assert (deeds["failover.plan"]["actor"], deeds["failover.plan"]["why"]) == (
        failover["requested_by"],
        "us-east lies",
    )
