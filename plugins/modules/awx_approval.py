#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# Documentation only: what reads and judges is the action plugin of this name.

DOCUMENTATION = r"""
module: awx_approval
short_description: Record an approval that was given in AWX
description:
  - Tells the control plane who has approved a plan in the controller, as a node of a workflow behind an approval node.
  - It reads the workflow job, its nodes C(prepare) and C(approve) and their jobs from the controller's API, and nothing is recorded unless
    C(approve) was approved, by a named user, who is not the known user that started the workflow; and it stands behind C(prepare), whose
    artifacts C(mesh_failover_id) and C(mesh_plan_hash) are exactly O(failover_id) and O(plan_hash).
  - No option says which workflow job that is. The controller sets E(JOB_ID) for each job, and knows of which workflow that job is a node. A job
    that was started by itself is refused.
  - Where the controller is, and a token of somebody who may read all this, come from E(CONTROLLER_HOST), E(CONTROLLER_OAUTH_TOKEN) and
    E(CONTROLLER_VERIFY_SSL), which its own type of credential sets. O(timeout), O(retries) and O(deadline) hold there too; the deadline for
    all readings together.
  - The identity of the task must be one that may approve and did not make the plan.
attributes:
  check_mode:
    support: full
    details: Reads and judges the same. The control plane takes the same checks and refuses the same; only the decision is not stored.
  diff_mode:
    support: full
  idempotent:
    support: full
  in_process:
    details: Always runs in the process of ansible-core.
options:
  failover_id:
    description: The failover.
    type: str
    required: true
  plan_hash:
    description: The hash of its plan, which the node that prepared it has handed on.
    type: str
    required: true
seealso:
  - module: omnirelay.mesh.failover_approval
  - module: omnirelay.mesh.approval
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Approve the plan in the name of whoever approved it in the controller
  omnirelay.mesh.awx_approval:
    failover_id: "{{ mesh_failover_id }}"
    plan_hash: "{{ mesh_plan_hash }}"
"""

RETURN = r"""
approved_by:
  description: Who approved it in the controller.
  returned: success
  type: str
  sample: carol
workflow_job:
  description: The workflow job in which that was.
  returned: success
  type: int
  sample: 42
failover:
  description:
    - The failover afterwards, with the keys that RV(omnirelay.mesh.failover_info#module:failovers) documents.
    - In check mode as it would be.
  returned: success
  type: dict
  sample:
    id: fo-20261123-120813-7f3a
    state: approved
    source: us-east
    target: eu-west
    namespaces: [default]
diff:
  description: State and approvals before and after.
  returned: when diff mode is on
  type: dict
  sample:
    before:
      state: awaiting_approval
      approvals: []
    after:
      state: approved
      approvals: ["spiffe://mesh.example.net/operator/awx-approver: approve"]
request_id:
  description: Names the call in the replicator's log.
  returned: success
  type: str
  sample: 01JE9Q0Z4Q6V6W3C6C2E0J7V8M
error:
  description:
    - Why the task failed, for programs. RV(ignore:msg) says the same for people.
    - The codes are those of the control API, also for what the controller did not answer; RV(error.code) is stable.
  returned: failure
  type: dict
  contains:
    code:
      description: Stable name of the error, for example V(not_approved).
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
      description: Values that belong to the error, for example the plan that was prepared.
      type: dict
      returned: always
    request_id:
      description: Names the call in the replicator's log, empty if no replicator answered.
      type: str
      returned: always
"""
