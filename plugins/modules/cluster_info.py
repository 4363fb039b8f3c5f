#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: Read the clusters of the mesh
description:
  - Reads the clusters with their state, readiness, what they own and how far their peers are behind, and the version of
    the routing document.
  - One call reads the whole mesh.
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
  cluster_id:
    description: Only this cluster. One that does not exist gives an empty list.
    type: str
  state:
    description: Only clusters in this state.
    type: str
    choices: [active, passive, draining, maintenance]
  region:
    description: Only clusters of this region.
    type: str
  owner:
    description: Only clusters with this owner.
    type: str
seealso:
  - module: omnirelay.mesh.replication_info
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Read the mesh
  omnirelay.mesh.cluster_info:
    endpoint: https://control.us-east.example.net:8443
  register: mesh

- name: Name the clusters that could not take over
  ansible.builtin.debug:
    msg: "{{ mesh.clusters | rejectattr('ready') | map(attribute='cluster_id') }}"
"""

RETURN = r"""
clusters:
  description: The clusters, ordered as the control API gives them.
  returned: success
  type: list
  elements: dict
  contains:
    cluster_id:
      description: Name of the cluster.
      type: str
      returned: always
    region:
      description: Where it is.
      type: str
      returned: always
    state:
      description: V(active) if it admits writes for a namespace, V(passive) if it only applies them, V(draining) in between.
      type: str
      returned: always
    priority:
      description: Rank among candidates for an emergency failover.
      type: int
      returned: always
    failover_policy:
      description: Who may start a failover of this cluster.
      type: str
      returned: always
    endpoints:
      description: Its addresses, RV(ignore:grpc) for events and RV(ignore:control) for this API.
      type: dict
      returned: always
    owners:
      description: Who answers for it.
      type: list
      elements: str
      returned: always
    change_ticket:
      description: Ticket under which it was changed last.
      type: str
      returned: always
    annotations:
      description: Free text by name.
      type: dict
      returned: always
    maintenance:
      description: Whether an operator has barred it from becoming active.
      type: bool
      returned: always
    namespaces:
      description: What it owns, each with RV(ignore:namespace) and RV(ignore:epoch).
      type: list
      elements: dict
      returned: always
    ready:
      description: Whether it could take part in a failover now.
      type: bool
      returned: always
    problems:
      description: Why it is not ready.
      type: list
      elements: str
      returned: always
    last_seen:
      description: When it reported last, null if never.
      type: str
      returned: always
    version:
      description: Version of its replicator, null if unknown.
      type: str
      returned: always
    protocol:
      description: Version of the protocol that it speaks, null if unknown.
      type: str
      returned: always
    origin:
      description: Name under which it writes its log, null if unknown.
      type: str
      returned: always
    vector:
      description: Highest contiguous sequence that it holds, by origin, null if unknown.
      type: dict
      returned: always
    peers:
      description: Its peers as RV(omnirelay.mesh.replication_info#module:replication) documents them.
      type: list
      elements: dict
      returned: always
routing_version:
  description: Version of the routing document.
  returned: success
  type: int
  sample: 3
coordination:
  description: Whether the coordination store answers.
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

from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

FILTERS = ("state", "region", "owner")

SPEC = mesh_spec(
    dict(
        cluster_id=dict(type="str"),
        state=dict(type="str", choices=["active", "passive", "draining", "maintenance"]),
        region=dict(type="str"),
        owner=dict(type="str"),
    )
)


def run(client, params, check_mode):
    clusters, last = client.pages("clusters", "clusters", **{name: params[name] for name in FILTERS})
    wanted = params["cluster_id"]
    return dict(
        changed=False,
        clusters=[cluster for cluster in clusters if wanted in (None, cluster["cluster_id"])],
        routing_version=last.body["routing_version"],
        coordination=last.body["coordination"],
        request_id=last.request_id,
    )


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
