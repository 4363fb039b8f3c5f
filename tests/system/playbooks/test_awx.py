"""What awx_setup gives a controller, and what its jobs do: for real, through ansible-runner, without a terminal."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.system.support.controller import TOKEN, Controller, awx_collection, serving
from tests.system.support.playbooks import BIN, CHECKOUT, Finished, Playbooks, active, passive

from omnirelay.demo.mesh import APPROVER, LocalMesh
from omnirelay.demo.planned import GATE_WAITS, approve

pytestmark = pytest.mark.timeout(900)  # a process for each of some twenty resources, twice

KEY = "-----BEGIN PRIVATE KEY-----\nsecret of the operator\n-----END PRIVATE KEY-----\n"
GIVEN = {
    "awx_endpoints": ["https://one.example:7401", "https://two.example:7401"],
    "awx_ca": "the authority",
    "awx_operator": {"client_cert": "a certificate", "client_key": KEY},
    "awx_approver": {"token": "secret of the approver"},
    "awx_controller_credential": "This controller",
    "awx_approval_timeout": 900,
    "awx_notification": {"type": "webhook", "configuration": {"url": "https://chat.example/hook", "headers": {}}},
}
WORKFLOW = "OmniRelay Planned failover with approval"


def playbooks_without_mesh(directory: Path) -> Playbooks:
    return Playbooks(directory, LocalMesh(directory, clusters=()))


class SetUp:
    """awx_setup against a controller that is empty but for its organization and the credential for itself."""

    def __init__(self, directory: Path) -> None:
        self.controller = Controller()
        self.controller.add("credentials", {"name": "This controller", "organization": 1})
        self.playbooks = playbooks_without_mesh(directory)

    def run(self, url: str, *arguments: str) -> Finished:
        return self._run(url, "ansible-playbook", "omnirelay.mesh.awx_setup", "-e", json.dumps(GIVEN), *arguments)

    def run_as_job(self, url: str) -> Finished:
        """The wrapper, through ansible-runner."""
        job = self.playbooks.directory / "job"
        for folder in ("project", "env"):
            (job / folder).mkdir(parents=True)
        (job / "env/extravars").write_text(json.dumps(GIVEN))
        (job / "project/awx_setup.yml").symlink_to(CHECKOUT / "runbooks/awx_setup.yml")
        return self._run(url, "ansible-runner", "run", str(job), "--playbook", "awx_setup.yml")

    def _run(self, url: str, program: str, *arguments: str) -> Finished:
        environment = self.playbooks.environment()
        environment["ANSIBLE_COLLECTIONS_PATH"] += os.pathsep + str(awx_collection())
        environment |= {"CONTROLLER_HOST": url, "CONTROLLER_OAUTH_TOKEN": TOKEN}
        with self.playbooks.started([str(BIN / program), *arguments], environment) as running:
            return running.finish()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SetUp:
    setup = SetUp(tmp_path_factory.mktemp("awx"))
    with serving(setup.controller) as url:
        done = setup.run(url)
        assert done.status == 0, done.output
        assert "secret of" not in done.output
        again = setup.run_as_job(url)
        assert again.status == 0, again.output
        assert "TASK [omnirelay.mesh.awx : Make the workflow]" in again.output, again.output
        assert changed(again.output) <= {"Make the workflow", "Make the credentials"}, again.output
    return setup


def changed(output: str) -> set[str]:
    """Tasks of the role that say so."""
    task, found = "", set()
    for line in output.splitlines():
        if started := re.match(r"TASK \[(?:omnirelay\.mesh\.awx : )?(.*?)\]", line):
            task = started[1]
        elif line.startswith("changed:"):
            found.add(task)
    return found


def surveys(controller: Controller, kind: str) -> dict[str, list[dict[str, Any]]]:
    return {
        name: controller.links.get((kind, each["id"], "survey_spec"), {}).get("spec", [])
        for name, each in controller.named(kind).items()
    }


def test_check_mode_on_an_empty_controller_makes_nothing(tmp_path: Path) -> None:
    setup = SetUp(tmp_path)
    before = copy.deepcopy((setup.controller.kinds, setup.controller.links))
    with serving(setup.controller) as url:
        done = setup.run(url, "--check")
    assert done.status == 0, done.output
    assert "Make the workflow" in done.output
    assert (setup.controller.kinds, setup.controller.links) == before


def test_without_awx_awx_it_says_what_to_install(tmp_path: Path) -> None:
    done = playbooks_without_mesh(tmp_path).run("omnirelay.mesh.awx_setup", **GIVEN)
    assert done.status != 0
    assert "ansible-galaxy collection install awx.awx" in done.output, done.output


NODES = {
    "planned_failover_prepare",
    "awx_approval",
    "planned_failover_execute",
    "planned_failover_finish",
    "abort_failover",
}


def by_hand(setup: SetUp) -> dict[str, dict[str, Any]]:
    """The job templates that people start; the others are nodes of the workflow and ask nothing."""
    templates = setup.controller.named("job_templates")
    nodes = {name: each for name, each in templates.items() if each["description"].startswith("Node")}
    assert {Path(each["playbook"]).stem for each in nodes.values()} == NODES
    return {name: each for name, each in templates.items() if name not in nodes}


def test_each_job_template_runs_a_wrapper_that_exists(made: SetUp) -> None:
    templates = by_hand(made)
    assert len(templates) == 7
    for name, template in templates.items():
        wrapper = CHECKOUT / template["playbook"]
        assert wrapper.exists(), f"{name}: {wrapper}"
        (play,) = yaml.safe_load(wrapper.read_text())
        assert play["ansible.builtin.import_playbook"] == f"omnirelay.mesh.{wrapper.stem}"
        assert (CHECKOUT / f"playbooks/{wrapper.name}").exists()


def test_nobody_sets_variables_of_a_job_they_start(made: SetUp) -> None:
    """Surveys are answered, and a workflow hands on to its nodes: neither needs this, and it lets in all others."""
    assert not any(each["ask_variables_on_launch"] for each in made.controller.named("job_templates").values())


def test_each_survey_asks_for_variables_that_the_playbook_reads(made: SetUp) -> None:
    asked = surveys(made.controller, "job_templates")
    assert sum(map(bool, asked.values())) == 6
    for name, template in by_hand(made).items():
        text = (CHECKOUT / "playbooks" / Path(template["playbook"]).name).read_text().partition("\n- name")[2]
        for question in asked[name]:
            assert re.search(rf"\b{question['variable']}\b", text), question


def test_each_question_has_the_form_that_a_controller_takes(made: SetUp) -> None:
    """The rules of its survey validation: types, bounds for figures and texts, choices for a choice."""
    for kind in ("job_templates", "workflow_job_templates"):
        for questions in surveys(made.controller, kind).values():
            variables = [question["variable"] for question in questions]
            assert len(variables) == len(set(variables))
            for question in questions:
                assert question["type"] in ("text", "textarea", "integer", "float", "multiplechoice")
                assert isinstance(question["required"], bool)
                assert question["question_name"]
                if question["type"] == "multiplechoice":
                    assert question["default"] in question["choices"]
                else:
                    assert isinstance(question["max"], int)


def test_no_way_of_the_workflow_leads_past_an_approval(made: SetUp) -> None:
    nodes = made.controller.named("workflow_job_template_nodes")
    ways = {
        (name, way): [
            each["identifier"] for each in made.controller.linked("workflow_job_template_nodes", node["id"], way)
        ]
        for name, node in nodes.items()
        for way in ("success_nodes", "failure_nodes", "always_nodes")
    }
    into = {name: {(of, way) for (of, way), to in ways.items() if name in to} for name in nodes}
    assert into["execute"] == {("record", "success_nodes")}
    assert into["record"] == {("approve", "success_nodes")}
    assert into["approve"] == {("prepare", "success_nodes")}
    assert into["prepare"] == set()
    assert ways["approve", "failure_nodes"] == ["undo"]
    assert into["finish"] == {("confirm", "success_nodes")}
    approvals = made.controller.named("workflow_approval_templates")
    assert {each["timeout"] for each in approvals.values()} == {900}, (
        "a node that waits for ever approves nothing in time"
    )
    templates = {each["id"]: each for each in made.controller.kinds["job_templates"].values()}
    assert templates[nodes["execute"]["unified_job_template"]]["playbook"] == "runbooks/planned_failover_execute.yml"


def test_the_approver_and_the_operator_never_meet_in_a_job(made: SetUp) -> None:
    for template in made.controller.kinds["job_templates"].values():
        credentials = {each["name"] for each in made.controller.linked("job_templates", template["id"], "credentials")}
        approving = template["playbook"] == "runbooks/awx_approval.yml"
        assert credentials == ({"OmniRelay approver", "This controller"} if approving else {"OmniRelay operator"})


def test_a_credential_gives_a_job_what_the_modules_read(made: SetUp) -> None:
    types = made.controller.named("credential_types")
    injected = {name: each["injectors"] for name, each in types.items()}
    assert injected["OmniRelay certificate"]["env"]["OMNIRELAY_KEY"] == "{{ tower.filename.key }}"
    assert injected["OmniRelay token"]["env"]["OMNIRELAY_TOKEN_FILE"] == "{{ tower.filename.token }}"
    secret = {
        field["id"] for each in types.values() for field in each["inputs"]["fields"] if field.get("secret", False)
    }
    assert secret == {"client_key", "token"}
    operator = made.controller.named("credentials")["OmniRelay operator"]["inputs"]
    assert operator["endpoint"] == "https://one.example:7401,https://two.example:7401"


# --- its jobs -------------------------------------------------------------------------------------------------------


class Jobs:
    """ansible-runner as a controller starts it: a directory of its own, the project, extra variables, no terminal."""

    def __init__(self, playbooks: Playbooks, setup: SetUp) -> None:
        self.playbooks = playbooks
        self.setup = setup
        self.count = 0

    def run(
        self,
        template: str,
        answers: dict[str, Any],
        handed_on: dict[str, Any] | None = None,
        left_empty: str | None = "",
        **environment: str,
    ) -> Job:
        """`answers`: to the survey, whose defaults are added; `handed_on`: what the nodes before have set;
        `left_empty`: what becomes of an optional text without an answer, null with a newer controller."""
        found = self.setup.controller.named("job_templates")[f"OmniRelay {template}"]
        questions = surveys(self.setup.controller, "job_templates")[found["name"]]
        assert set(answers) <= {question["variable"] for question in questions}, "a survey takes no other answers"
        missing = {q["variable"] for q in questions if q["required"]} - set(answers)
        defaults = {q["variable"]: q["default"] for q in questions if "default" in q}
        unanswered = {q["variable"]: left_empty for q in questions if q["type"] == "text" and not q["required"]}
        assert missing <= set(defaults), f"a controller does not start this without {missing}"
        self.count += 1
        folder = self.playbooks.directory / f"job{self.count}"
        (folder / "env").mkdir(parents=True)
        (folder / "inventory").mkdir()
        hosts = {"localhost": {"ansible_connection": "local"}}
        (folder / "inventory/hosts").write_text(json.dumps({"all": {"hosts": hosts}}))
        (folder / "project").symlink_to(CHECKOUT)
        given = {
            **json.loads(found["extra_vars"]),
            **unanswered,
            **defaults,
            **answers,
            **(handed_on or {}),
            "awx_job_id": self.count,
        }
        (folder / "env/extravars").write_text(json.dumps(given))
        command = [str(BIN / "ansible-runner"), "run", str(folder), "--playbook", found["playbook"], "--ident", "1"]
        with self.playbooks.started(command, {**self.playbooks.environment(), **environment}) as running:
            for line in running:
                if waiting := GATE_WAITS.match(line):
                    approve(self.playbooks.mesh, waiting[1])
            return Job(folder / "artifacts/1", running.finish())


class Job:
    def __init__(self, artifacts: Path, finished: Finished) -> None:
        self.status = (artifacts / "status").read_text()
        self.output = finished.output
        events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
        stats = [each["event_data"] for each in events if each["event"] == "playbook_on_stats"]
        self.handed_on: dict[str, Any] = stats[0].get("artifact_data", {}) if stats else {}
        self.everything = "".join(path.read_text() for path in artifacts.rglob("*") if path.is_file())


@pytest.fixture
def jobs(playbooks: Playbooks, made: SetUp) -> Jobs:
    return Jobs(playbooks, made)


def test_jobs_that_read_change_nothing_and_end_well(jobs: Jobs) -> None:
    mesh = jobs.playbooks.mesh
    before = active(mesh)
    status = jobs.run("Status", {})
    assert status.status == "successful", status.output
    answers = {"mesh_target": passive(mesh), "mesh_change_ticket": "CHG-1", "mesh_reason": "look"}
    preflight = jobs.run("Preflight", answers)
    assert preflight.status == "successful", preflight.output
    assert active(mesh) == before


@pytest.mark.parametrize("left_empty", ["", None])
@pytest.mark.parametrize("answer", [{}, {"mesh_namespaces": " default, "}], ids=["everything", "one"])
def test_namespaces_are_those_that_the_survey_was_told(
    jobs: Jobs, answer: dict[str, str], left_empty: str | None
) -> None:
    answers = {"mesh_target": passive(jobs.playbooks.mesh), "mesh_change_ticket": "CHG-1", "mesh_reason": "look"}
    job = jobs.run("Preflight", {**answers, **answer}, left_empty=left_empty)
    assert job.status == "successful", job.output
    assert "namespace      default: epoch" in job.output


def test_a_survey_may_be_left_empty_where_nothing_is_required(jobs: Jobs) -> None:
    """As a newer controller says it: null. With broken glass, for the active cluster is well."""
    given = {"mesh_target": passive(jobs.playbooks.mesh), "mesh_break_glass": True, "mesh_reason": "look"}
    empty = {"mesh_change_ticket": None, "mesh_namespaces": None}
    done = jobs.playbooks.run("omnirelay.mesh.emergency_failover", "--check", **given, **empty)
    assert done.status == 0, done.output


def test_a_drill_from_a_survey_hands_on_its_verdict(jobs: Jobs) -> None:
    answers = {"mesh_target": passive(jobs.playbooks.mesh), "mesh_change_ticket": "CHG-1", "mesh_reason": "drill"}
    job = jobs.run("Drill", answers)
    assert job.status == "successful", job.output
    assert job.handed_on["mesh_drill_passed"] is True
    assert job.handed_on["mesh_drill_id"].startswith("fo-")


def test_a_failover_and_its_way_home_from_surveys(jobs: Jobs) -> None:
    mesh, home = jobs.playbooks.mesh, active(jobs.playbooks.mesh)
    ticket = {"mesh_change_ticket": "CHG-1", "mesh_reason": "survey"}
    over = jobs.run("Planned failover", {"mesh_target": passive(mesh), "mesh_namespaces": "default", **ticket})
    assert over.status == "successful", over.output
    assert over.handed_on["mesh_failover_state"] == "completed"
    assert active(mesh) != home
    back = jobs.run("Failback", {"mesh_reverses": over.handed_on["mesh_failover_id"], **ticket})
    assert back.status == "successful", back.output
    assert active(mesh) == home


# --- the approval node ----------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(playbooks: Playbooks) -> Iterator[dict[str, Any]]:
    """What the first node hands on."""
    request = {"mode": "planned", "target": passive(playbooks.mesh), "change_ticket": "CHG-2", "reason": "workflow"}
    with playbooks.mesh.control() as client:
        planned = client.plan_failover(request)
        yield {"mesh_failover_id": planned["id"], "mesh_plan_hash": planned["plan"]["hash"]}
        if client.failover(planned["id"]).body["state"] in ("awaiting_approval", "approved"):
            client.step(planned["id"], "abort", reason="the test is over")


def decided(
    jobs: Jobs,
    prepared: dict[str, Any],
    status: str = "successful",
    by: str = "carol",
    starter: str = "alice",
    made: dict[str, Any] | None = None,
    by_itself: bool = False,
    **forged: Any,
) -> Job:
    """The node that records the approval. `made`: what the first node of its workflow has handed on; `by_itself`: it
    was started alone, and names a workflow; `forged`: variables that whoever started it has set."""
    controller = jobs.setup.controller

    def person(role: str, name: str) -> dict[str, Any]:
        return {role: {"username": name}} if name else {}

    workflow = controller.add("workflow_jobs", {"summary_fields": person("created_by", starter)})
    within = {"source_workflow_job": {"id": workflow["id"]}}
    first = controller.add("jobs", {"status": "successful", "artifacts": prepared if made is None else made})
    approval = controller.add(
        "workflow_approvals", {"status": status, "summary_fields": person("approved_or_denied_by", by)}
    )
    own = controller.add("jobs", {"status": "running", "summary_fields": {} if by_itself else within})
    then: list[int] = []
    for identifier, job in (("record", own), ("approve", approval), ("prepare", first)):
        node = {"workflow_job": workflow["id"], "identifier": identifier, "job": job["id"], "success_nodes": then}
        then = [controller.add("workflow_job_nodes", node)["id"]]
    pki = jobs.playbooks.mesh.pki
    with serving(controller) as url:
        job = jobs.run(
            "Planned failover 2 record approval",
            {},
            {**prepared, "awx_workflow_job_id": workflow["id"], **forged},
            JOB_ID=str(own["id"]),
            CONTROLLER_HOST=url,
            CONTROLLER_OAUTH_TOKEN=TOKEN,
            OMNIRELAY_CERT=str(pki / f"{APPROVER}.crt"),
            OMNIRELAY_KEY=str(pki / f"{APPROVER}.key"),
        )
    assert TOKEN not in job.output
    return job


def state(jobs: Jobs, prepared: dict[str, Any]) -> dict[str, Any]:
    with jobs.playbooks.mesh.control() as client:
        return client.failover(prepared["mesh_failover_id"]).body


def test_who_approved_in_the_controller_stands_in_the_plan(jobs: Jobs, prepared: dict[str, Any]) -> None:
    job = decided(jobs, prepared)
    assert job.status == "successful", job.output
    assert job.handed_on["mesh_approved_by"] == "carol"
    seen = state(jobs, prepared)
    assert seen["state"] == "approved"
    (approval,) = seen["approvals"]
    assert "carol" in approval["comment"]
    assert approval["via"] == "awx"


FORGED = {
    "mesh_decision": {"json": {"status": "successful"}},
    "mesh_by": "bob",
    "mesh_starter": "alice",
    "mesh_recorded": {"failover": {"state": "approved"}, "approved_by": "bob"},
}


OTHER_PLAN = {"mesh_failover_id": "fo-another", "mesh_plan_hash": "sha256:another"}
NOT_APPROVED: dict[str, tuple[dict[str, Any], str]] = {
    "own": ({"by": "alice"}, "Somebody else has to"),
    "nobody": ({"by": ""}, "does not say who approved"),
    "unknown starter": ({"starter": ""}, "does not say who started"),
    "denied": ({"status": "failed"}, "not successful"),
    "forged": ({"status": "pending", "by": "", **FORGED}, "not successful"),
    "foreign workflow": ({"made": {}}, "prepared no plan"),
    "another plan": ({"made": OTHER_PLAN}, "prepared failover fo-another"),
    "by itself": ({"by_itself": True}, "not approved: this run is no node"),
    "no hash": ({"mesh_plan_hash": ""}, "plan_hash"),
}
"""How the job was run, and why it says that nothing is approved."""


@pytest.mark.parametrize(("run", "why"), NOT_APPROVED.values(), ids=NOT_APPROVED)
def test_what_no_second_person_approved_is_not_approved(
    jobs: Jobs, prepared: dict[str, Any], run: dict[str, Any], why: str
) -> None:
    job = decided(jobs, prepared, **run)
    assert state(jobs, prepared)["state"] == "awaiting_approval"
    assert job.status == "failed"
    assert why in " ".join(job.output.split()), job.output
