#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: failover
short_description: Make or withdraw the plan of a failover
description:
  - Makes a failover. The control plane runs all preflight checks, and the answer is the plan that people approve, with its
    steps, what the routing will be, and the predicted loss and outage.
  - Nothing moves until the plan is approved and its steps are taken, see M(omnirelay.mesh.failover_approval) and
    M(omnirelay.mesh.failover_step).
attributes:
  check_mode:
    support: full
    details: The control plane takes the same checks and refuses the same; only the plan is not stored.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) makes the plan, or returns the open one that was made with the same inputs.
      - V(absent) aborts the failover if it is still open. After promotion this is refused, also once it is completed; the only way is
        forward.
    type: str
    choices: [present, absent]
    default: present
  failover_id:
    description: The failover that must be O(state=absent).
    type: str
  mode:
    description:
      - V(planned) needs a healthy source and loses nothing.
      - V(emergency) goes on without a source that is gone. What only the source has is cut off, so somebody must answer for
        it, see O(accept_data_loss) and O(break_glass). It needs no approval unless O(limits.approvals_required) says so.
      - V(failback) is a planned failover home, to the source of O(reverses), once nothing that diverged is left open.
    type: str
    choices: [planned, emergency, failback]
    default: planned
  target:
    description: The cluster that becomes active. Not needed with O(mode=failback).
    type: str
  accept_data_loss:
    description:
      - With O(mode=emergency), how many records may be lost, in writing. A plan that predicts more is refused, also later,
        when it is promoted.
    type: int
  break_glass:
    description:
      - With O(mode=emergency), go ahead whatever may be lost, and fence a source that lives. Needs the scope C(mesh.admin)
        and a O(reason).
    type: bool
    default: false
  reverses:
    description: With O(mode=failback), the completed failover whose source is to be active again.
    type: str
  namespaces:
    description: What moves. An empty list is everything that the current active owns.
    type: list
    elements: str
    default: []
  reason:
    description: Why. It is part of the plan, or of the record of its abort.
    type: str
    default: ""
  change_ticket:
    description: Ticket under which this happens.
    type: str
    default: ""
  run_url:
    description: Where the run that makes the plan can be read.
    type: str
    default: ""
  approval_source:
    description:
      - With V(ticket) the control plane reads the approval in the change ticket itself and takes no other. It counts only if
        it was given after the plan was posted there, and never if the requester gave it.
      - V(ticket) needs a O(change_ticket) and a control plane with a ticket source.
    type: str
    choices: [api, ticket]
    default: api
  limits:
    description: What is accepted. It is part of what is approved. What is not given here is as the control plane has it.
    type: dict
    suboptions:
      max_lag_seconds:
        description: Largest lag of the target with which a drain may begin.
        type: float
      drain_timeout_seconds:
        description: Time without writes after which the drain undoes itself.
        type: float
      verify_timeout_seconds:
        description: Time in which the proof of reverse replication must come.
        type: float
      gather_timeout_seconds:
        description: Time in which the target of an emergency must catch up with the most advanced cluster in reach.
        type: float
      cooldown_seconds:
        description: Least time since these namespaces moved last.
        type: float
      plan_valid_seconds:
        description: Time in which the plan can be approved and begun.
        type: float
      approvals_required:
        description: How many people must approve. If not set 1, and 0 with O(mode=emergency).
        type: int
seealso:
  - module: omnirelay.mesh.failover_approval
  - module: omnirelay.mesh.failover_step
  - module: omnirelay.mesh.failover_info
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Plan to make eu-west active
  omnirelay.mesh.failover:
    endpoint: https://control.us-east.example.net:8443
    target: eu-west
    reason: Rack maintenance in us-east
    change_ticket: CHG0042
  register: plan

- name: See what such a plan would be, storing nothing
  omnirelay.mesh.failover:
    endpoint: https://control.us-east.example.net:8443
    target: eu-west
    reason: Rack maintenance in us-east
    change_ticket: CHG0042
  check_mode: true
  diff: true

- name: Go on without a cluster that is gone, losing 500 records at the most
  omnirelay.mesh.failover:
    endpoint: https://control.eu-west.example.net:8443
    mode: emergency
    target: eu-west
    accept_data_loss: 500
    reason: us-east does not answer
    change_ticket: INC0815

- name: Go home after it
  omnirelay.mesh.failover:
    endpoint: https://control.eu-west.example.net:8443
    mode: failback
    reverses: fo-20261123-120813-7f3a
    reason: us-east is back
    change_ticket: CHG0043

- name: Withdraw it
  omnirelay.mesh.failover:
    endpoint: https://control.us-east.example.net:8443
    failover_id: "{{ plan.failover.id }}"
    state: absent
    reason: Maintenance was postponed
"""

RETURN = r"""
failover:
  description:
    - The failover afterwards, with the keys that RV(omnirelay.mesh.failover_info#module:failovers) documents.
    - In check mode its RV(ignore:id) is empty, for a plan that would be made.
    - Null if O(state=absent) and there is no such failover.
  returned: success
  type: dict
  sample:
    id: fo-20261123-120813-7f3a
    state: awaiting_approval
    source: us-east
    target: eu-west
    namespaces: [default]
diff:
  description: The plan with what the routing will be, or the state before and after an abort.
  returned: when diff mode is on
  type: dict
  sample:
    before: {}
    after:
      state: awaiting_approval
      routing_when_promoted: ["default: us-east (epoch 1) -> eu-west (epoch 2)"]
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

from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import UNDONE, of_failover, of_plan
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

REQUEST = ("mode", "namespaces", "reason", "change_ticket", "run_url", "accept_data_loss", "break_glass", "approval_source")

SPEC = mesh_spec(
    dict(
        state=dict(type="str", choices=["present", "absent"], default="present"),
        failover_id=dict(type="str"),
        mode=dict(type="str", choices=["planned", "emergency", "failback"], default="planned"),
        target=dict(type="str"),
        accept_data_loss=dict(type="int"),
        break_glass=dict(type="bool", default=False),
        reverses=dict(type="str"),
        namespaces=dict(type="list", elements="str", default=[]),
        reason=dict(type="str", default=""),
        change_ticket=dict(type="str", default=""),
        run_url=dict(type="str", default=""),
        approval_source=dict(type="str", choices=["api", "ticket"], default="api"),
        limits=dict(
            type="dict",
            options=dict(
                max_lag_seconds=dict(type="float"),
                drain_timeout_seconds=dict(type="float"),
                verify_timeout_seconds=dict(type="float"),
                gather_timeout_seconds=dict(type="float"),
                cooldown_seconds=dict(type="float"),
                plan_valid_seconds=dict(type="float"),
                approvals_required=dict(type="int"),
            ),
        ),
    ),
    required_if=[
        ("state", "present", ("target", "reverses"), True),
        ("state", "absent", ("failover_id",)),
        ("mode", "emergency", ("target",)),
        ("mode", "failback", ("reverses",)),
    ],
)


def run(client, params, check_mode):
    return (present if params["state"] == "present" else absent)(client, params, check_mode)


def present(client, params, check_mode):
    request = {name: params[name] for name in REQUEST}
    request.update({name: params[name] or "" for name in ("target", "reverses")})
    request["limits"] = {name: value for name, value in (params["limits"] or {}).items() if value is not None}
    answer = client.post("failovers", body=dict(request, dry_run=check_mode))
    failover = answer.body
    # A dry run answers with the caller's own open plan too, where there is one; what it would make has no id yet.
    created = not failover["id"] if check_mode else answer.status == 201
    return dict(
        changed=created,
        failover=failover,
        diff=of_plan(failover).diff if created else {},
        request_id=answer.request_id,
    )


def absent(client, params, check_mode):
    failover_id = params["failover_id"]
    try:
        answer = client.get("failovers", failover_id)
    except MeshApiError as error:
        if error.code != "not_found":
            raise
        return dict(changed=False, failover=None, diff={}, request_id=error.request_id)
    before = answer.body
    if before["state"] not in UNDONE:
        answer = client.post("failovers", failover_id, "abort", body=dict(reason=params["reason"]), dry_run=check_mode)
    difference = of_failover(before, answer.body)
    return dict(
        changed=difference.changed,
        failover=answer.body,
        diff=difference.diff,
        request_id=answer.request_id,
    )


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
