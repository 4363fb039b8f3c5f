# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: a task, as a module process and as an action plugin both run it.

A module of this collection is a C(SPEC) and a C(run(client, params, check_mode)) that returns the result or raises
MeshApiError. Neither knows which process it is in.
"""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import client_from


def perform(run, params, check_mode, diff_mode, answered=None):
    """The task's result, whatever happens to it, with no secret in it. C(answered) is told which endpoint was the one."""
    secrets = set()
    try:
        client = client_from(params)
        secrets = client.secrets
        result = run(client, params, check_mode)
        if answered:
            answered(client.endpoint)
    except MeshApiError as error:
        result = failure(error)
    if not diff_mode:
        result.pop("diff", None)
    return remove_values(result, secrets)


def failure(error):
    return dict(failed=True, changed=False, msg=str(error), error=error.as_dict())


def run_module(spec, run):
    module = AnsibleModule(supports_check_mode=True, **spec)
    result = perform(run, module.params, module.check_mode, module._diff)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)
