#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_approval
short_description: Approve or deny a failover
description:
  - Records a decision about the plan of a failover, as the person whose identity the task has.
  - Nobody can approve a plan that they made, and a decision that contradicts the one that stands is an error.
  - To wait in a playbook for somebody else's decision use M(omnirelay.mesh.approval).
attributes:
  check_mode:
    support: full
    details: The control plane takes the same checks and refuses the same; only the decision is not stored.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  failover_id:
    description: The failover.
    type: str
    required: true
  state:
    description: The decision.
    type: str
    required: true
    choices: [approved, denied]
  plan_hash:
    description:
      - The hash of the plan that was read before deciding, from RV(omnirelay.mesh.failover_info#module:failovers[].plan.hash).
        If the plan is another one the decision is refused.
      - Without it the decision is about the plan as it is now.
    type: str
  comment:
    description: Words to go with the decision.
    type: str
    default: ""
  via:
    description: How the decision came.
    type: str
    choices: [api, terminal, awx, ticket]
    default: api
seealso:
  - module: omnirelay.mesh.approval
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Approve, as the owner of this token
  omnirelay.mesh.failover_approval:
    endpoint: https://control.us-east.example.net:8443
    token_file: /run/secrets/approver
    failover_id: fo-20261123-120813-7f3a
    plan_hash: sha256:3c1f3c64b1fb0f9b1d9ffb6e2a4a6e4a3e9e5e1d3c0f4f7c5b2b8b6f0a7d9e12
    state: approved
    comment: Seen in CHG0042
"""

RETURN = r"""
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
      approvals: ["spiffe://mesh.example.net/operator/alice: approve"]
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

from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import of_failover
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

DECISION = dict(approved="approve", denied="deny")

SPEC = mesh_spec(
    dict(
        failover_id=dict(type="str", required=True),
        state=dict(type="str", required=True, choices=list(DECISION)),
        plan_hash=dict(type="str"),
        comment=dict(type="str", default=""),
        via=dict(type="str", choices=["api", "terminal", "awx", "ticket"], default="api"),
    )
)


def run(client, params, check_mode):
    answer = client.get("failovers", params["failover_id"])
    before = after = answer.body
    decision = DECISION[params["state"]]
    if not _stands(before, decision):
        _refuse_contradiction(before, decision, answer.request_id)
        body = dict(
            decision=decision,
            plan_hash=params["plan_hash"] or before["plan"]["hash"],
            comment=params["comment"],
            via=params["via"],
        )
        answer = client.post("failovers", before["id"], "approvals", body=body, dry_run=check_mode)
        after = answer.body
        _refuse_contradiction(after, decision, answer.request_id)
    difference = of_failover(before, after)
    return dict(
        changed=difference.changed,
        failover=after,
        diff=difference.diff,
        request_id=answer.request_id,
    )


def _stands(failover, decision):
    if decision == "deny":
        return failover["state"] == "denied"
    return failover["approved"] and failover["state"] not in ("denied", "aborted", "expired")


def _refuse_contradiction(failover, decision, request_id):
    if decision == "approve" and failover["state"] == "denied":
        denial = next((approval for approval in failover["approvals"] if approval["decision"] == "deny"), {})
        raise MeshApiError(
            "approval_denied",
            "Failover %s was denied by %s." % (failover["id"], denial.get("principal", "somebody")),
            hint="Make a new plan if that has changed.",
            details=dict(failover_id=failover["id"], principal=denial.get("principal", "")),
            request_id=request_id,
        )


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
