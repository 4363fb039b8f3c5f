"""No token and no key is in anything that a run shows or leaves behind, however much it is asked to tell."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.system.support.playbooks import CORES, FQCN, Playbooks, passive
from tests.system.support.terminals import ENTER, terminal

from omnirelay.demo.mesh import APPROVER, REQUESTER, LocalMesh

pytestmark = pytest.mark.timeout(180)

SCOPES = {REQUESTER: ["mesh.operate"], APPROVER: ["mesh.approve"]}


@dataclass(frozen=True, slots=True)
class Secrets:
    tokens: Mapping[str, str]
    folder: Path
    """Where the token files are; whoever may read this folder has them anyway."""

    def file(self, name: str) -> str:
        return str(self.folder / f"{name}.token")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    made = Secrets({name: secrets.token_urlsafe(32) for name in SCOPES}, tmp_path_factory.mktemp("secrets"))
    for name, token in made.tokens.items():
        Path(made.file(name)).write_text(token)
    return made


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, known: Secrets) -> Iterator[LocalMesh]:
    rules = [
        {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": SCOPES[name]}
        for name, token in known.tokens.items()
    ]
    settings = {"tokens": rules, "log_level": "debug"}
    with LocalMesh(tmp_path_factory.mktemp("mesh") / "m", settings=settings) as started:
        yield started


@pytest.fixture(params=CORES)
def playbooks(request: pytest.FixtureRequest, mesh: LocalMesh, tmp_path: Path) -> Playbooks:
    return Playbooks(tmp_path, mesh, bin=CORES[request.param])


def environment(playbooks: Playbooks, **more: str) -> dict[str, str]:
    """Everything that Ansible can write is written, below the run's directory; who calls is not said yet."""
    callbacks = playbooks.directory / "callbacks"
    callbacks.mkdir()
    (callbacks / "tell_all.py").write_text(TELL_ALL)
    env = {
        "ANSIBLE_ASYNC_DIR": str(playbooks.directory / "async"),
        "ANSIBLE_LOG_PATH": str(playbooks.directory / "ansible.log"),
        "ANSIBLE_CALLBACK_PLUGINS": str(callbacks),
        "ANSIBLE_CALLBACKS_ENABLED": "tell_all",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1",
        "TELL_ALL": str(playbooks.directory / "told.txt"),
        **playbooks.environment(),
        **more,
    }
    return {name: value for name, value in env.items() if name not in ("OMNIRELAY_CERT", "OMNIRELAY_KEY")}


TELL_ALL = """
import os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "notification", "tell_all"
    CALLBACK_NEEDS_ENABLED = True

    def tell(self, result, **kwargs):
        with open(os.environ["TELL_ALL"], "a") as told:
            told.write(repr(result._result) + "\\n")

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_skipped = v2_runner_on_async_ok = v2_runner_item_on_ok = tell
"""


def assert_nothing_is_told(known: Secrets, mesh: LocalMesh, directory: Path, *shown: str) -> None:
    """Neither in what was shown, nor in any file that the run or the mesh has written. How Ansible hands a module its
    options, in a directory that it removes, is its own affair."""
    keys = {name: (mesh.pki / f"{name}.key").read_text().splitlines()[1] for name in SCOPES}
    wanted = [secret.encode() for secret in (*known.tokens.values(), *keys.values())]
    wanted += [base64.b64encode(secret)[:-4] for secret in wanted]
    written = [path for folder in (directory, mesh.directory) for path in folder.rglob("*") if path.is_file()]
    written = [path for path in written if not path.parent.name.startswith("ansible-tmp-")]
    texts = {str(path): path.read_bytes() for path in written if mesh.pki not in path.parents}
    texts |= {f"shown {number}": text.encode() for number, text in enumerate(shown)}
    assert [name for name, text in texts.items() if any(secret in text for secret in wanted)] == []


def test_a_run_at_a_terminal_tells_no_secret(known: Secrets, playbooks: Playbooks) -> None:
    mesh, target = playbooks.mesh, passive(playbooks.mesh)
    reports = {f"mesh_report_{kind}": str(playbooks.directory / f"report.{kind}") for kind in ("json", "markdown")}
    variables = {"mesh_target": target, "mesh_change_ticket": "CHG-7", **reports}
    command = playbooks.command(FQCN, "-vvv", mesh_approver_token_file=known.file(APPROVER), **variables)
    env = environment(playbooks, OMNIRELAY_TOKEN=known.tokens[REQUESTER])
    with terminal(command, playbooks.directory, env) as shown:
        shown.until("to approve: ")
        shown.until_it_reads()
        shown.type(f"promote {target}{ENTER}")
        status, output = shown.finish()
    assert status == 0, output
    assert "token/alice" in output
    assert "failover" in (playbooks.directory / "told.txt").read_text()
    assert_nothing_is_told(known, mesh, playbooks.directory, output)


def test_artifacts_of_ansible_runner_tell_no_secret(known: Secrets, playbooks: Playbooks) -> None:
    mesh, job = playbooks.mesh, playbooks.directory / "job"
    for folder in ("project", "env"):
        (job / folder).mkdir(parents=True)
    variables = {
        "mesh_target": passive(mesh),
        "mesh_change_ticket": "CHG-7",
        "mesh_token_file": known.file(REQUESTER),
        "mesh_approver_token_file": known.file(APPROVER),
        "mesh_approval_timeout": 1,
    }
    (job / "env/extravars").write_text(json.dumps(variables))
    command = [str(playbooks.bin / "ansible-runner"), "run", str(job), "--playbook", FQCN, "--ident", "1", "-vvv"]
    with terminal(command, playbooks.directory, environment(playbooks)) as shown:
        status, output = shown.finish()
    assert status != 0, output
    assert list((job / "artifacts/1/job_events").iterdir())
    assert_nothing_is_told(known, mesh, playbooks.directory, output)


FAILING = """
- hosts: localhost
  gather_facts: false
  vars:
    alice: "{{ lookup('ansible.builtin.file', alice_file) }}"
    bob: "{{ lookup('ansible.builtin.file', bob_file) }}"
  tasks:
    - omnirelay.mesh.failover: {target: nowhere, token: "{{ alice }}"}
      ignore_errors: true
    - omnirelay.mesh.cluster_info: {token: "{{ alice }}", endpoint: "https://127.0.0.1:9", retries: 0}
      ignore_errors: true
    - omnirelay.mesh.cluster_info: {token: "{{ alice }}"}
      async: 30
      poll: 1
    - omnirelay.mesh.failover_info: {token: "{{ alice }}", token_file: "{{ alice_file }}"}
      ignore_errors: true
    - omnirelay.mesh.approval: {failover_id: fo-none, token: "{{ alice }}", approver_token: "{{ bob }}"}
"""


def test_tokens_given_as_options_are_not_told_when_tasks_fail(known: Secrets, playbooks: Playbooks) -> None:
    """In the process of Ansible, in a process of the module (async), and with options that contradict each other."""
    playbook = playbooks.directory / "failing.yml"
    playbook.write_text(FAILING)
    files = {"alice_file": known.file(REQUESTER), "bob_file": known.file(APPROVER)}
    command = playbooks.command(playbook, "-vvv", **files)
    with terminal(command, playbooks.directory, environment(playbooks)) as shown:
        status, output = shown.finish()
    assert status == 2, output
    assert output.count("...ignoring") == 3, output
    assert_nothing_is_told(known, playbooks.mesh, playbooks.directory, output)
