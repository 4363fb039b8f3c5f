"""The role that installs a replicator, into a folder: real files and environment, a unit that systemd judges."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.system.support.playbooks import BIN, CHECKOUT, Finished, Playbooks
from tests.system.support.waiting import until

from omnirelay import __version__, pki
from omnirelay.demo.mesh import LocalMesh

pytestmark = pytest.mark.timeout(600)  # pip installs what a replicator needs

EXPOSURE_LIMIT = 2.0
"""Of systemd's ten; 9.6 is a service that may do everything."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is released."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(CHECKOUT)], check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, now = tmp_path_factory.mktemp("pki"), datetime.now(UTC)
    pki.create_authority(folder, "omnirelay", now=now)
    pki.issue(pki.load_authority(folder), folder, pki.Kind.CLUSTER, "us-east", now=now)
    return folder


class Role:
    """The role with its variables, as often as wanted; `mesh` is nobody: the role asks nothing of a mesh."""

    def __init__(self, directory: Path, prefix: Path, variables: dict[str, Any]) -> None:
        self.playbooks = Playbooks(directory, LocalMesh(directory, clusters=()))
        self.prefix = prefix
        self.variables = variables
        self.playbook = directory / "role.yml"
        self.playbook.write_text(PLAYBOOK)

    def run(self, *arguments: str, **variables: Any) -> Finished:
        command = [str(BIN / "ansible-playbook"), str(self.playbook), *arguments]
        given = {**self.variables, "replicator_prefix": str(self.prefix), **variables}
        (self.playbooks.directory / "pki").mkdir(exist_ok=True)
        environment = {**self.playbooks.environment(), "OMNIRELAY_ENDPOINT": ""}
        done = subprocess.run(
            [*command, "-e", json.dumps(given)], cwd=self.playbooks.directory, env=environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout + done.stderr)

    @property
    def unit(self) -> Path:
        return self.prefix / "etc/systemd/system/omnirelay-us-east.service"

    @property
    def configuration(self) -> Path:
        return self.prefix / "etc/omnirelay/us-east/replicator.yaml"


PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  roles: [omnirelay.mesh.replicator]
"""


def variables(wheel: Path, certificates: Path, prefix: Path, port: int) -> dict[str, Any]:
    return {
        "replicator_cluster": "us-east",
        "replicator_version": __version__,
        "replicator_package": f"{wheel}[server]",
        "replicator_python": sys.executable,
        "replicator_listen_grpc": f"127.0.0.1:{port}",
        "replicator_listen_control": f"127.0.0.1:{port + 1}",
        "replicator_ca": str(certificates / "ca.crt"),
        "replicator_certificate": str(certificates / "us-east.crt"),
        "replicator_key": str(certificates / "us-east.key"),
        "replicator_settings": {
            "coordination": {"kind": "sqlite", "path": f"{prefix}/var/lib/omnirelay/store/coordination.db"}
        },
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path, certificates: Path) -> Role:
    directory, prefix = tmp_path_factory.mktemp("role"), tmp_path_factory.mktemp("root")
    role = Role(directory, prefix, variables(wheel, certificates, prefix, 17420))
    foreseen = role.run("--check", "--diff")
    assert foreseen.status == 0, foreseen.output
    assert list(prefix.iterdir()) == [], "check mode writes nothing"
    done = role.run()
    assert done.status == 0, done.output
    return role


def test_a_second_run_changes_nothing(installed: Role) -> None:
    again = installed.run()
    assert again.status == 0, again.output
    assert re.search(r"changed=0 .*failed=0", again.output), again.output


def test_the_key_is_the_replicators_own(installed: Role) -> None:
    folder = installed.prefix / "etc/omnirelay/us-east"
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        "ca.crt": "0o644", "cluster.crt": "0o644", "cluster.key": "0o640", "replicator.yaml": "0o640",
    }  # fmt: skip
    assert "PRIVATE" not in installed.run("--diff", replicator_key=str(installed.prefix / "gone")).output


def test_systemd_takes_the_unit_and_finds_little_exposed(installed: Role) -> None:
    verified = subprocess.run(["systemd-analyze", "verify", str(installed.unit)], capture_output=True, text=True)
    about_it = [line for line in verified.stderr.splitlines() if installed.unit.name in line]
    assert (verified.returncode, about_it) == (0, []), verified.stderr
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(installed.unit)],
        capture_output=True, text=True, env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"},
    )  # fmt: skip
    overall = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert overall, judged.stdout + judged.stderr
    assert float(overall[1]) <= EXPOSURE_LIMIT, judged.stdout


def test_a_configuration_that_the_release_refuses_does_not_take_the_place_of_the_good_one(installed: Role) -> None:
    before = installed.configuration.read_text()
    settings = {**installed.variables["replicator_settings"], "log": {"retain_fro": "7d"}}
    done = installed.run(replicator_settings=settings)
    assert done.status != 0
    assert "log.retain_fro: there is no such setting" in done.output
    assert installed.configuration.read_text() == before
    assert yaml.safe_load(before)["cluster"] == "us-east"


def test_a_package_of_another_version_is_refused(installed: Role) -> None:
    link = installed.prefix / "opt/omnirelay/clusters/us-east"
    before = link.readlink()
    done = installed.run(replicator_version="9.9.9", replicator_pip_arguments="--no-deps")
    assert done.status != 0
    assert f"is version {__version__}, not 9.9.9" in done.output
    assert link.readlink() == before


@contextmanager
def started(installed: Role) -> Iterator[subprocess.Popen[bytes]]:
    """What the unit's ExecStart says, as systemd would start it."""
    (line,) = re.findall(r"^ExecStart=(.*)$", installed.unit.read_text(), re.MULTILINE)
    with (installed.prefix / "log").open("wb") as log:
        process = subprocess.Popen(shlex.split(line), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_what_the_unit_starts_serves(installed: Role) -> None:
    trust = ssl.create_default_context(cafile=str(installed.prefix / "etc/omnirelay/us-east/ca.crt"))

    def version(process: subprocess.Popen[bytes]) -> str:
        assert process.poll() is None, (installed.prefix / "log").read_text()
        try:
            with urllib.request.urlopen("https://127.0.0.1:17421/version", context=trust, timeout=5) as answer:
                return str(json.load(answer)["cluster"])
        except OSError:
            return ""

    with started(installed) as process:
        until(lambda: version(process) == "us-east", "the control API answers")


def test_what_was_changed_is_restarted_until_it_is_healthy(installed: Role, tmp_path: Path) -> None:
    """A run that fails after its changes leaves nothing that differs; the same command again has a restart to make."""
    restarted = tmp_path / "restarted"
    settings = {**installed.variables["replicator_settings"], "log_level": "debug"}
    command = {"replicator_settings": settings, "replicator_restart": ["touch", str(restarted)]}
    died = installed.run(**{**command, "replicator_restart": ["false"]})
    assert died.status != 0
    assert "log_level: debug" in installed.configuration.read_text(), died.output

    foreseen = installed.run("--check", **command)
    assert foreseen.status == 0, foreseen.output
    assert re.search(r"changed=1 .*failed=0", foreseen.output), foreseen.output
    assert not restarted.exists()

    silent = installed.run(**command, replicator_health_timeout=1)
    assert silent.status != 0
    assert restarted.exists(), silent.output
    restarted.unlink()

    with started(installed):
        healthy = installed.run(**command)
        assert healthy.status == 0, healthy.output
        assert restarted.exists(), healthy.output
        restarted.unlink()

        settled = installed.run(**command)
        assert re.search(r"changed=0 .*failed=0", settled.output), settled.output
        assert not restarted.exists()
