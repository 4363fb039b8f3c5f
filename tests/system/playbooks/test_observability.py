"""The alert rules and the dashboard that the role puts in place, judged by Prometheus's own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.system.support.playbooks import CHECKOUT, Finished, Playbooks

from omnirelay.demo.mesh import LocalMesh
from omnirelay.telemetry import metrics

pytestmark = pytest.mark.timeout(240)  # Ansible starts several times, on a machine that may be busy

HERE = Path(__file__).parent
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  roles: [omnirelay.mesh.observability]
"""


class Role:
    def __init__(self, directory: Path) -> None:
        self.playbooks = Playbooks(directory, LocalMesh(directory, clusters=()))
        self.root = directory / "root"
        self.rules = self.root / "rules/omnirelay.yml"
        self.dashboard = self.root / "dashboards/omnirelay.json"
        self.reloaded = directory / "reloaded"
        (directory / "role.yml").write_text(PLAYBOOK)

    def run(self, *arguments: str, **variables: object) -> Finished:
        given = {
            "observability_rules": str(self.root / "rules"),
            "observability_dashboards": str(self.root / "dashboards"),
            "observability_providers": str(self.root / "providers"),
            "observability_prometheus_reload": ["touch", str(self.reloaded)],
            **variables,
        }
        return self.playbooks.run(self.playbooks.directory / "role.yml", *arguments, **given)


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Role:
    role = Role(tmp_path_factory.mktemp("observability"))
    assert role.run("--check").status == 0
    assert not role.root.exists()
    done = role.run()
    assert done.status == 0, done.output
    return role


def alerts(role: Role) -> list[dict[str, object]]:
    return [rule for group in yaml.safe_load(role.rules.read_text())["groups"] for rule in group["rules"]]


def test_prometheus_is_told_once(placed: Role) -> None:
    assert placed.reloaded.exists()
    placed.reloaded.unlink()
    again = placed.run()
    assert again.status == 0
    assert re.search(r"changed=0 .*failed=0", again.output), again.output
    assert not placed.reloaded.exists()


def test_rules_that_promtool_refuses_do_not_take_the_place_of_those_that_are_there(placed: Role) -> None:
    before = placed.rules.read_text()
    done = placed.run(observability_job='"')
    assert done.status != 0
    assert placed.rules.read_text() == before


def test_each_alert_fires_on_what_it_is_for_and_on_nothing_else(placed: Role) -> None:
    shutil.copy(HERE / "alerts.yml", placed.rules.parent)
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts.yml"], cwd=placed.rules.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire() -> None:
    tests = yaml.safe_load((HERE / "alerts.yml").read_text())["tests"]
    fired = {case["alertname"] for each in tests for case in each["alert_rule_test"] if case["exp_alerts"]}
    template = (CHECKOUT / "roles/observability/templates/alerts.yml.j2").read_text()
    assert fired == set(re.findall(r"- alert: (\w+)", template))


def test_each_alert_leads_to_a_runbook_that_names_it(placed: Role) -> None:
    for rule in alerts(placed):
        runbook = CHECKOUT / "runbooks" / str(rule["annotations"]["runbook"]).rpartition("/")[2]  # type: ignore[index]
        assert runbook.exists(), rule["alert"]
        assert f"`{rule['alert']}`" in runbook.read_text(), f"{runbook.name} does not name {rule['alert']}"


@pytest.mark.parametrize("of", ["rules", "dashboard"])
def test_only_metrics_that_a_replicator_has_are_asked_for(placed: Role, of: str) -> None:
    source = Path(metrics.__file__).read_text()
    made = set(re.findall(r'"(mesh_\w+)"', source))
    asked = set(re.findall(r"\bmesh_\w+", getattr(placed, of).read_text()))
    assert {re.sub(r"_bucket$", "", name) for name in asked} <= made


def test_the_dashboard_is_one(placed: Role) -> None:
    dashboard = json.loads(placed.dashboard.read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) > 10
    for panel in dashboard["panels"]:
        assert panel["targets"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", placed.dashboard.read_text())) <= variables | {"__all"}
    provider = yaml.safe_load((placed.root / "providers/omnirelay.yml").read_text())
    assert provider["providers"][0]["options"]["path"] == str(placed.dashboard.parent)
