#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster
short_description: Describe a cluster of the mesh, or remove it
description:
  - Makes the descriptor of a cluster, changes it, or removes it. The descriptor is what people decide about a cluster; what it does
    is observed, see M(omnirelay.mesh.cluster_info).
  - A change is made to the descriptor that was read, never to one that somebody else has changed meanwhile.
  - It does not move activity from one cluster to another, see M(omnirelay.mesh.failover).
attributes:
  check_mode:
    support: full
    details: The control plane takes the same checks and refuses the same; only nothing is stored.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: Another O(change_ticket) alone is no change, because there is nothing that would be done under it.
options:
  cluster_id:
    description: Name of the cluster, a DNS label. It never changes.
    type: str
    required: true
  state:
    description:
      - V(present) makes the descriptor or changes it. What is not given stays as it is, or for a new one is as the control plane has it.
      - V(absent) removes it. Refused while the cluster owns a namespace or takes part in a failover.
    type: str
    choices: [present, absent]
    default: present
  change_ticket:
    description: Ticket under which this happens.
    type: str
    required: true
  owners:
    description: Who answers for the cluster. Required with O(state=present).
    type: list
    elements: str
  region:
    description: Where it is. Required for a new cluster.
    type: str
  endpoints:
    description: Its addresses. Required for a new cluster.
    type: dict
    suboptions:
      grpc:
        description: Where it answers to peers, producers and consumers, C(HOST:PORT).
        type: str
        required: true
      control:
        description: Where its control API answers, an C(https) URL.
        type: str
        required: true
  priority:
    description: Rank among candidates for an emergency failover. Lower is preferred.
    type: int
  failover_policy:
    description: Who may start a failover of this cluster.
    type: str
  maintenance:
    description: Whether it is barred from becoming active.
    type: bool
  annotations:
    description: Free text by name. Replaces all that was there.
    type: dict
  namespaces:
    description:
      - Namespaces that it shall own if nobody owns them yet. Needs the scope C(mesh.admin).
      - Refused if another cluster owns one of them. One that it owns already and is not named here stays with it.
    type: list
    elements: str
    default: []
  etag:
    description:
      - RV(etag) of an earlier task. If the descriptor has changed since, the task fails with V(etag_mismatch).
      - Without it the task reads the descriptor itself.
    type: str
seealso:
  - module: omnirelay.mesh.cluster_info
  - module: omnirelay.mesh.failover
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Add a cluster to the mesh
  omnirelay.mesh.cluster:
    endpoint: https://control.us-east.example.net:8443
    cluster_id: ap-south
    region: ap-south-1
    endpoints:
      grpc: ap-south.example.net:7443
      control: https://control.ap-south.example.net:8443
    owners: [sre@example.net]
    change_ticket: CHG0040

- name: Bar it from becoming active while its disks are replaced
  omnirelay.mesh.cluster:
    endpoint: https://control.us-east.example.net:8443
    cluster_id: ap-south
    owners: [sre@example.net]
    maintenance: true
    change_ticket: CHG0041

- name: Take it out of the mesh
  omnirelay.mesh.cluster:
    endpoint: https://control.us-east.example.net:8443
    cluster_id: ap-south
    state: absent
    change_ticket: CHG0049
"""

RETURN = r"""
cluster:
  description:
    - The cluster afterwards, with the keys that RV(omnirelay.mesh.cluster_info#module:clusters) documents. Null if it is gone.
    - In check mode as it would be.
  returned: success
  type: dict
  sample:
    cluster_id: ap-south
    region: ap-south-1
    state: passive
    maintenance: false
etag:
  description:
    - Names this state of the descriptor, for O(etag) of a later task. Null if the cluster is gone.
    - In check mode it is that of the present descriptor.
  returned: success
  type: str
  sample: '"17"'
diff:
  description: The descriptor and what the cluster owns, before and after. Empty where there is no cluster.
  returned: when diff mode is on
  type: dict
  sample:
    before:
      maintenance: false
    after:
      maintenance: true
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

from ansible_collections.omnirelay.mesh.plugins.module_utils._client import Answer
from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import DESCRIPTOR, of_cluster
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

ATTEMPTS = 5
"""How often a change is decided again because somebody else changed the descriptor meanwhile."""

NEVER_STORED = '"0"'
"""ETag of what a dry run would create."""

SPEC = mesh_spec(
    dict(
        cluster_id=dict(type="str", required=True),
        state=dict(type="str", choices=["present", "absent"], default="present"),
        change_ticket=dict(type="str", required=True),
        owners=dict(type="list", elements="str"),
        region=dict(type="str"),
        endpoints=dict(
            type="dict",
            options=dict(grpc=dict(type="str", required=True), control=dict(type="str", required=True)),
        ),
        priority=dict(type="int"),
        failover_policy=dict(type="str"),
        maintenance=dict(type="bool"),
        annotations=dict(type="dict"),
        namespaces=dict(type="list", elements="str", default=[]),
        etag=dict(type="str"),
    ),
    required_if=[("state", "present", ("owners",))],
)


def run(client, params, check_mode):
    reach = present if params["state"] == "present" else absent
    first = _read(client, params)
    read = first
    for attempt in range(ATTEMPTS):
        try:
            after, etag, request_id = reach(client, params, check_mode, read)
            break
        except MeshApiError as error:
            if error.code != "etag_mismatch" or params["etag"] or attempt == ATTEMPTS - 1:
                raise
        read = _read(client, params)
    difference = of_cluster(params["cluster_id"], first.body, after)
    return dict(changed=difference.changed, cluster=after, etag=etag, diff=difference.diff, request_id=request_id)


def _read(client, params):
    """The descriptor with its ETag; one without a body if there is none."""
    try:
        answer = client.get("clusters", params["cluster_id"])
    except MeshApiError as error:
        if error.code != "not_found" or (params["etag"] and params["state"] == "present"):
            raise
        answer = Answer(error.http_status, None, error.request_id, "")
    if params["etag"] and answer.body and params["etag"] != answer.etag:
        raise MeshApiError(
            "etag_mismatch",
            "Cluster %s was changed after it was read as %s." % (params["cluster_id"], params["etag"]),
            hint="Read it again; its ETag is now %s." % answer.etag,
            details=dict(cluster=params["cluster_id"], etag=answer.etag),
            request_id=answer.request_id,
        )
    return answer


def present(client, params, check_mode, read):
    given = {name: params[name] for name in DESCRIPTOR if params[name] is not None}
    if read.body is None:
        return _create(client, params, check_mode, given)
    after, etag, request_id = read.body, read.etag, read.request_id
    if any(value != after[name] for name, value in given.items() if name != "change_ticket"):
        answer = client.patch("clusters", params["cluster_id"], body=given, etag=etag, dry_run=check_mode)
        after, etag, request_id = answer.body, answer.etag, answer.request_id
    if set(params["namespaces"]) - {owned["namespace"] for owned in after["namespaces"]}:
        # Ownership is given with the descriptor as it stands, which in check mode is the one that was read.
        stored = {name: (read.body if check_mode else after)[name] for name in DESCRIPTOR}
        owning, etag, request_id = _create(client, params, check_mode, stored)
        after = dict(after, namespaces=owning["namespaces"], state="active" if after["state"] == "passive" else after["state"])
    return after, etag, request_id


def _create(client, params, check_mode, descriptor):
    body = dict(descriptor, cluster_id=params["cluster_id"], namespaces=params["namespaces"])
    answer = client.post("clusters", body=body, dry_run=check_mode)
    return answer.body, None if answer.etag == NEVER_STORED else answer.etag, answer.request_id


def absent(client, params, check_mode, read):
    if read.body is None:
        return None, None, read.request_id
    ticket = params["change_ticket"]
    try:
        answer = client.delete("clusters", params["cluster_id"], etag=read.etag, change_ticket=ticket, dry_run=check_mode)
    except MeshApiError as error:
        if error.code != "not_found":
            raise
        return None, None, error.request_id  # an answer was lost, and the call that came after found nothing
    return None, None, answer.request_id


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
