#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: divergence_info
short_description: Read what was fenced
description:
  - Reads the records that an emergency cut off and that have come since. They are kept, delivered to nobody, and wait for a
    decision, see M(omnirelay.mesh.divergence).
  - The cluster that answers tells what it holds. While an old active is still sending its tail, that grows.
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
  divergence_id:
    description: Only this divergence. One that does not exist gives an empty list.
    type: str
  namespaces:
    description: Only divergences of these namespaces. An empty list is all. Of no effect with O(divergence_id).
    type: list
    elements: str
    default: []
  details:
    description: Read RV(details) too. The control plane reads everything for it that was written since.
    type: bool
    default: false
seealso:
  - module: omnirelay.mesh.divergence
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Read what diverged, with the diff per key
  omnirelay.mesh.divergence_info:
    endpoint: https://control.eu-west.example.net:8443
    details: true
  register: reading

- name: Show the keys that were written on both sides
  ansible.builtin.debug:
    msg: "{{ item.value['keys'] | selectattr('written_since', 'gt', 0) | map(attribute='key') }}"
  loop: "{{ reading.details | dict2items }}"
"""

RETURN = r"""
divergences:
  description: What was fenced, one entry for each namespace and epoch.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its name, of namespace and epoch.
      type: str
      returned: always
      sample: default.1
    namespace:
      description: The namespace.
      type: str
      returned: always
    epoch:
      description: The epoch that ended early.
      type: int
      returned: always
    origin:
      description: The log that the records are in.
      type: str
      returned: always
    first_sequence:
      description: The first fenced record.
      type: int
      returned: always
    last_sequence:
      description: The last fenced record that the cluster holds.
      type: int
      returned: always
    records:
      description: How many there are. Other namespaces' records in between do not count.
      type: int
      returned: always
    superseded:
      description: How many their producers have sent again themselves.
      type: int
      returned: always
    replayed:
      description: How many were published again.
      type: int
      returned: always
    unresolved:
      description: How many wait for a decision. A failback is refused while there are any.
      type: int
      returned: always
    resolution:
      description: What was decided, V(discarded), V(exported), V(replaying) or V(replayed). Null before.
      type: str
      returned: always
    decided_by:
      description: Who decided.
      type: str
      returned: always
    decided_at:
      description: When.
      type: str
      returned: always
details:
  description:
    - By RV(divergences[].id), the RV(ignore:ranges) of fenced records with their RV(ignore:grade), and the
      RV(ignore:keys) with RV(ignore:fenced_records) that are open and how often the key was RV(ignore:written_since).
    - Empty without O(details).
  returned: success
  type: dict
  sample:
    default.1:
      ranges:
        - namespace: default
          origin: us-east
          epoch: 1
          first: 48214
          last: 48230
          records: 17
          exact: true
          grade: fenced
      keys:
        - key: order-1017
          fenced_records: 2
          written_since: 1
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

from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

SPEC = mesh_spec(
    dict(
        divergence_id=dict(type="str"),
        namespaces=dict(type="list", elements="str", default=[]),
        details=dict(type="bool", default=False),
    )
)


def run(client, params, check_mode):
    answer = client.get("divergence")
    found = [divergence for divergence in answer.body["divergences"] if _wanted(params, divergence)]
    details = {}
    if params["details"]:
        for divergence in found:
            answer = client.get("divergence", divergence["id"])
            details[divergence["id"]] = dict(ranges=answer.body["ranges"], keys=answer.body["keys"])
    return dict(changed=False, divergences=found, details=details, request_id=answer.request_id)


def _wanted(params, divergence):
    if params["divergence_id"]:
        return divergence["id"] == params["divergence_id"]
    return not params["namespaces"] or divergence["namespace"] in params["namespaces"]


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
