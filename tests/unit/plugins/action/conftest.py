# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from unittest import mock

import pytest
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar


def action_class(name):
    module = __import__("ansible_collections.omnirelay.mesh.plugins.action." + name, fromlist=["ActionModule"])
    return module.ActionModule


@pytest.fixture(autouse=True)
def local_tmp(monkeypatch, tmp_path):
    """Of one run of ansible-playbook."""
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path


@pytest.fixture
def make_action(api):
    """An action as a play with a local connection makes it. Alice calls unless an identity is given."""

    def make(name, check=False, diff=False, environment=None, transport="local", become=None, async_val=0, **options):
        options = dict(dict(endpoint=[api.endpoint], token="alice-token"), **options)
        args = {name: value for name, value in options.items() if value is not None}
        task = mock.Mock(args=args, check_mode=check, diff=diff, environment=environment, async_val=async_val, action=name)
        connection = mock.Mock(transport=transport, become=become)
        loader = DataLoader()
        action = action_class(name)(task, connection, mock.Mock(), loader, Templar(loader), mock.Mock())
        action._load_name = name  # as the plugin loader does
        return action

    return make


@pytest.fixture
def run_action(make_action):
    def run(name, task_vars=None, **keywords):
        try:
            return make_action(name, **keywords).run(task_vars=task_vars)
        except AnsibleActionFail as error:
            return dict(failed=True, msg=str(error))

    return run
