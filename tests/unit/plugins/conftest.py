# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json

import pytest
from ansible.module_utils import basic
from ansible_collections.omnirelay.mesh.plugins.module_utils._client import MeshClient
from ansible_collections.omnirelay.mesh.tests.unit.plugins.fake_control_api import FakeControlApi, divergence

VARIABLES = ("ENDPOINT", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv("OMNIRELAY_" + name, raising=False)


@pytest.fixture
def api():
    with FakeControlApi() as api:
        yield api


@pytest.fixture
def mesh(api):
    return api.mesh


@pytest.fixture
def client(api):
    return MeshClient([api.endpoint], token="alice-token", retries=0)


@pytest.fixture
def plan(api, run_module):
    """A failover that alice has asked for."""
    return run_module("failover", target="eu-west")["failover"]


@pytest.fixture
def approved(plan, run_module):
    run_module("failover_approval", token="bob-token", failover_id=plan["id"], state="approved")
    return plan


@pytest.fixture
def diverged(mesh):
    """What an emergency cut off."""
    mesh.divergences = {"default.1": divergence(), "orders.2": divergence("orders", 2, unresolved=0)}
    return mesh.divergences["default.1"]


@contextlib.contextmanager
def module_arguments(arguments):
    """What stands in for a module's standard input; older releases of ansible-core have no helper for it."""
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:
        before, basic._ANSIBLE_ARGS = basic._ANSIBLE_ARGS, json.dumps(dict(ANSIBLE_MODULE_ARGS=arguments)).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before
    else:
        with patch_module_args(arguments):
            yield


@pytest.fixture
def run_module(api, capsys):
    """Runs a module's main as its process would, and returns what it prints. Alice calls unless an identity is given."""

    def run(name, check=False, diff=False, **options):
        module = __import__("ansible_collections.omnirelay.mesh.plugins.modules." + name, fromlist=["main"])
        options = dict(dict(endpoint=[api.endpoint], token="alice-token"), **options)
        options = {name: value for name, value in options.items() if value is not None}
        capsys.readouterr()
        with module_arguments(dict(options, _ansible_check_mode=check, _ansible_diff=diff)):
            with pytest.raises(SystemExit):
                module.main()
        result = json.loads(capsys.readouterr().out)
        result.pop("invocation", None)
        return result

    return run
