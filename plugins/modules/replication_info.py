#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: replication_info
short_description: Read how far replication is
description:
  - Reads, for one cluster, several or all, the version vector, the heads of the logs that it holds, and the lag of and to
    every peer.
  - An unknown lag is null, never zero.
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
    description: The clusters to read. Without it all of them.
    type: list
    elements: str
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
- name: Read replication as two clusters see it
  omnirelay.mesh.replication_info:
    endpoint: https://control.us-east.example.net:8443
    cluster_id: [us-east, eu-west]
  register: reading

- name: List the peers of us-east that are not streaming
  ansible.builtin.debug:
    msg: "{{ reading.replication[0].peers | rejectattr('mesh_replication_status', 'eq', 'streaming') | map(attribute='peer') }}"
"""

RETURN = r"""
replication:
  description: One entry for each cluster.
  returned: success
  type: list
  elements: dict
  contains:
    cluster_id:
      description: Name of the cluster.
      type: str
      returned: always
    vector:
      description: Highest contiguous sequence that it holds durably, by origin.
      type: dict
      returned: always
      sample:
        us-east: 48213
    heads:
      description: By origin, RV(ignore:sequence) and chain RV(ignore:digest) of the newest batch that it holds.
      type: dict
      returned: always
    peers:
      description: The other clusters as this one sees them.
      type: list
      elements: dict
      returned: always
      contains:
        peer:
          description: Name of the other cluster.
          type: str
          returned: always
        mesh_replication_status:
          description: The worse of both directions.
          type: str
          returned: always
          sample: streaming
        outbound:
          description:
            - How far the peer is behind this cluster's log, as RV(ignore:lag_records), RV(ignore:lag_bytes),
              RV(ignore:lag_seconds) and RV(ignore:status).
          type: dict
          returned: always
        inbound:
          description: How far this cluster is behind the peer's log, in the same shape.
          type: dict
          returned: always
          sample:
            status: streaming
            lag_records: 0
            lag_bytes: 0
            lag_seconds: 0.0
        last_contact:
          description: When they last heard of each other.
          type: str
          returned: always
        clock_skew_seconds:
          description: Difference of the two clocks.
          type: float
          returned: always
        digest_agrees:
          description: Whether both hold the same history as far as both hold it.
          type: bool
          returned: always
        retention_used_ratio:
          description: How much of what this cluster may hold back for the peer is used, of 1. Null if that is not known.
          type: float
          returned: always
        transport:
          description: Protocol of the connection.
          type: str
          returned: always
    observed_at:
      description: When this was so.
      type: str
      returned: always
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

SPEC = mesh_spec(dict(cluster_id=dict(type="list", elements="str")))


def run(client, params, check_mode):
    wanted = params["cluster_id"]
    request_id = ""
    if wanted is None:
        clusters, answer = client.pages("clusters", "clusters")
        wanted = [cluster["cluster_id"] for cluster in clusters]
        request_id = answer.request_id
    replication = []
    for cluster_id in wanted:
        answer = client.get("clusters", cluster_id, "replication")
        replication.append(answer.body)
        request_id = answer.request_id
    return dict(changed=False, replication=replication, request_id=request_id)


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
