#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: routing_info
short_description: Read which cluster is active for which namespace
description:
  - Reads the routing document, with the active cluster of each namespace, its epoch, where it answers, and whoever owned it before.
  - The version grows with every change, so two readings with the same version are the same.
attributes:
  check_mode:
    support: full
    details: Reads only.
  diff_mode:
    support: N/A
    details: Reads only.
  idempotent:
    support: full
options:
  namespace:
    description: Only this namespace. One that does not exist gives an empty RV(namespaces).
    type: str
seealso:
  - module: omnirelay.mesh.cluster_info
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Read the routing
  omnirelay.mesh.routing_info:
    endpoint: https://control.us-east.example.net:8443
  register: routing

- name: Name who is active for the orders
  ansible.builtin.debug:
    msg: "{{ routing.namespaces.orders.active }} in epoch {{ routing.namespaces.orders.epoch }}"
"""

RETURN = r"""
namespaces:
  description:
    - By namespace its route, which is RV(ignore:active), the cluster that admits writes, RV(ignore:epoch), the epoch of that ownership,
      RV(ignore:endpoint) and RV(ignore:control), where the active cluster answers to producers and to operators, empty if it
      has no descriptor, and RV(ignore:history).
    - The history is a list with every ownership, the present one last, each with RV(ignore:epoch), RV(ignore:cluster),
      RV(ignore:origin) and, as RV(ignore:cut) with RV(ignore:epoch) and RV(ignore:sequence), where the log before it ended.
  returned: success
  type: dict
  sample:
    default:
      active: us-east
      epoch: 1
      endpoint: us-east.example.net:7443
      control: https://control.us-east.example.net:8443
      history:
        - epoch: 1
          cluster: us-east
          origin: us-east
          cut:
            epoch: 0
            sequence: 0
version:
  description: Version of the routing document, null if O(namespace) names one that does not exist.
  returned: success
  type: int
  sample: 3
coordination:
  description:
    - Whether the coordination store answers, as RV(ignore:reachable). If it does not, what is shown is the last that was known.
    - Null if O(namespace) names one that does not exist.
  returned: success
  type: dict
  sample:
    reachable: true
request_id:
  description: Names the call in the replicator's log.
  returned: success
  type: str
  sample: 01JE9Q0Z4Q6V6W3C6C2E0J7V8M
error:
  description:
    - Why the task failed, for programs. RV(ignore:msg) says the same for people.
    - The codes are those of the control API; RV(error.code) is stable.
  returned: failure
  type: dict
  contains:
    code:
      description: Stable name of the error, for example V(preflight_failed).
      type: str
      returned: always
    message:
      description: What happened and why.
      type: str
      returned: always
    hint:
      description: What to do next.
      type: str
      returned: always
    http_status:
      description: Status of the HTTP answer, null if there was none.
      type: int
      returned: always
    retryable:
      description: Whether the same call may succeed later.
      type: bool
      returned: always
    details:
      description: Values that belong to the error, for example the failed checks.
      type: dict
      returned: always
    request_id:
      description: Names the call in the replicator's log, empty if no replicator answered.
      type: str
      returned: always
"""

from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

SPEC = mesh_spec(dict(namespace=dict(type="str")))


def run(client, params, check_mode):
    try:
        answer = client.get("routing", namespace=params["namespace"])
    except MeshApiError as error:
        if error.code != "unknown_namespace":
            raise
        return dict(changed=False, namespaces={}, version=None, coordination=None, request_id=error.request_id)
    return dict(changed=False, request_id=answer.request_id, **answer.body)


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
