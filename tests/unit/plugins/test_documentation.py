# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is documented is what is: options, and every key that a module returns."""

from __future__ import annotations

import os

import pytest
import yaml

MODULES = (
    "audit_info",
    "cluster",
    "cluster_info",
    "divergence",
    "divergence_info",
    "failover",
    "failover_approval",
    "failover_info",
    "failover_report",
    "failover_step",
    "failover_ticket",
    "replication_info",
    "routing_info",
)


def load(kind, name):
    return __import__("ansible_collections.omnirelay.mesh.plugins.%s.%s" % (kind, name), fromlist=["DOCUMENTATION"])


def documented_options(name):
    options = dict(yaml.safe_load(load("modules", name).DOCUMENTATION)["options"])
    options.update(yaml.safe_load(load("doc_fragments", "auth").ModuleDocFragment.DOCUMENTATION)["options"])
    return options


def compare(documented, spec):
    assert set(documented) == set(spec)
    for name, described in documented.items():
        option = spec[name]
        for field, usual in (("type", "str"), ("elements", None), ("choices", None), ("default", None), ("required", False)):
            assert described.get(field, usual) == option.get(field, usual), (name, field)
        if "options" in option:
            compare(described["suboptions"], option["options"])


@pytest.mark.parametrize("name", MODULES)
def test_options(name):
    compare(documented_options(name), load("modules", name).SPEC["argument_spec"])


@pytest.mark.parametrize("name", ["approval", "awx_approval", "failover_wait"])
def test_options_of_what_is_an_action_plugin_only(name):
    compare(documented_options(name), load("action", name).SPEC["argument_spec"])


@pytest.mark.parametrize("name", [*MODULES, "approval", "awx_approval", "failover_wait"])
def test_what_can_change_anything_shows_a_diff(name):
    module = load("modules", name)
    attributes = yaml.safe_load(module.DOCUMENTATION)["attributes"]
    assert attributes["diff_mode"]["support"] == ("N/A" if name.endswith("_info") else "full")
    assert ("diff" in yaml.safe_load(module.RETURN)) == (attributes["diff_mode"]["support"] == "full")


ROOT = os.path.join(os.path.dirname(__file__), "../../..")
ROLES = sorted(name for name in os.listdir(os.path.join(ROOT, "roles")) if not name.startswith("."))


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as source:
        return source.read()


@pytest.mark.parametrize("role", ROLES)
def test_role_is_documented_as_it_is(role):
    options = yaml.safe_load(read("roles", role, "meta/argument_specs.yml"))["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load(read("roles", role, "defaults/main.yml"))
    assert defaults == {name: option["default"] for name, option in options.items() if "default" in option}
    described = read("roles", role, "README.md")
    for name in options:
        assert name.startswith(role + "_") and "`%s`" % name in described


def test_every_module_is_in_the_action_group():
    group = yaml.safe_load(read("meta/runtime.yml"))["action_groups"]["mesh"]
    names = sorted(name[:-3] for name in os.listdir(os.path.join(ROOT, "plugins/modules")) if name.endswith(".py"))
    assert group == names
    assert set(names) == {*MODULES, "approval", "awx_approval", "failover_wait"}, "each module is in the tests of this file"
    for name in names:
        assert "omnirelay.mesh.attributes" in yaml.safe_load(load("modules", name).DOCUMENTATION)["extends_documentation_fragment"]


def check_keys(documented, value, where, unknown):
    """Collects what is returned and not documented, or the other way round, down to where documentation ends."""
    if isinstance(value, list):
        for item in value:
            check_keys(documented, item, where, unknown)
    elif isinstance(value, dict) and documented:
        unknown.extend("%s.%s" % (where, name) for name in set(value) ^ set(documented))
        for name in set(value) & set(documented):
            check_keys(documented[name].get("contains"), value[name], "%s.%s" % (where, name), unknown)


CALLS = dict(
    audit_info={},
    cluster=dict(cluster_id="eu-west", owners=["sre@example.net"], change_ticket="CHG-9", maintenance=True),
    cluster_info={},
    divergence=dict(divergence_id="default.1", resolution="discard"),
    divergence_info=dict(details=True),
    replication_info={},
    failover=dict(target="eu-west", reason="another"),
    failover_approval=dict(failover_id="fo-1", state="approved", token="bob-token"),
    failover_step=dict(failover_id="fo-1", step="abort"),
    failover_info={},
    failover_report=dict(failover_id="fo-1"),
    routing_info={},
    failover_ticket=dict(failover_id="fo-1"),
)


@pytest.mark.parametrize("in_check_mode", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_returned_keys(run_module, plan, diverged, name, in_check_mode):
    documented = yaml.safe_load(load("modules", name).RETURN)
    error = documented.pop("error")
    result = run_module(name, check=in_check_mode, diff=True, **CALLS[name])
    result.pop("changed")
    unknown = []
    check_keys(documented, result, name, unknown)
    assert not unknown
    failed = run_module(name, endpoint=["http://127.0.0.1:9"], retries=0, **CALLS[name])
    check_keys(error["contains"], failed["error"], name + ".error", unknown)
    assert not unknown
    assert set(failed) >= {"failed", "changed", "msg", "error"}
