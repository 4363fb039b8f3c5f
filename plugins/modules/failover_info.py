#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_info
short_description: Read failovers
description:
  - Reads one failover or many, with plan, checks, approvals and journal.
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
  failover_id:
    description: Only this failover. One that does not exist gives an empty list.
    type: str
  state:
    description: Only failovers in this state.
    type: str
    choices:
      - awaiting_approval
      - approved
      - draining
      - drained
      - gathering
      - fencing
      - fenced
      - promoted
      - verify_failed
      - verified
      - completed
      - aborted
      - denied
      - expired
  open:
    description: Only failovers that have not ended.
    type: bool
    default: false
seealso:
  - module: omnirelay.mesh.failover
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Read what is going on
  omnirelay.mesh.failover_info:
    endpoint: https://control.us-east.example.net:8443
    open: true
  register: reading

- name: Show what can be done about it
  ansible.builtin.debug:
    msg: "{{ item.id }} is {{ item.state }}, now possible: {{ item.next | join(', ') }}"
  loop: "{{ reading.failovers }}"
"""

RETURN = r"""
failovers:
  description: The failovers that match.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Name of the failover.
      type: str
      returned: always
    mode:
      description: V(planned), V(emergency) or V(failback).
      type: str
      returned: always
    state:
      description: Where it stands, see O(state).
      type: str
      returned: always
    source:
      description: The cluster that was active.
      type: str
      returned: always
    target:
      description: The cluster that becomes active.
      type: str
      returned: always
    namespaces:
      description: What moves.
      type: list
      elements: str
      returned: always
    reason:
      description: Why.
      type: str
      returned: always
    change_ticket:
      description: Ticket under which it happens.
      type: str
      returned: always
    run_url:
      description: Where the run that made the plan can be read.
      type: str
      returned: always
    requested_by:
      description: Who made the plan.
      type: str
      returned: always
    created_at:
      description: When the plan was made.
      type: str
      returned: always
    limits:
      description: What is accepted, see O(omnirelay.mesh.failover#module:limits).
      type: dict
      returned: always
    expected_epochs:
      description: Epoch of each namespace when the plan was made.
      type: dict
      returned: always
    plan:
      description: What is approved.
      type: dict
      returned: always
      contains:
        hash:
          description: What an approval is bound to.
          type: str
          returned: always
        expires_at:
          description: Until when it can be approved and begun.
          type: str
          returned: always
        steps:
          description: The steps, each with RV(ignore:name), RV(ignore:effect) and RV(ignore:undo).
          type: list
          elements: dict
          returned: always
        routing:
          description: What will move, by namespace with source, target and both epochs.
          type: list
          elements: dict
          returned: always
          sample:
            - namespace: default
              source: us-east
              target: eu-west
              epoch_before: 1
              epoch_after: 2
        predicted_loss_records:
          description: Records that may be lost, 0 unless it is an emergency.
          type: int
          returned: always
        loss:
          description:
            - Of an emergency, one entry for each log that ends early, what RV(ignore:predicted_loss_records) sums up.
            - RV(ignore:held) is what the best cluster in reach holds, RV(ignore:heard) the newest that anyone heard of.
              RV(ignore:unheard_records) is an estimate for the RV(ignore:unheard_seconds) of which nobody can know.
            - Unless it is RV(ignore:bounded), nobody in reach has ever heard of that log, and the figures say nothing.
          type: list
          elements: dict
          returned: always
          sample:
            - origin: us-east
              held: 48213
              heard: 48230
              known_records: 17
              known_bytes: 5214
              unheard_seconds: 2.1
              unheard_records: 20
              bounded: true
        predicted_outage_seconds:
          description: Time without writes.
          type: float
          returned: always
    accept_data_loss:
      description: How many records may be lost, in writing. Null if nobody said.
      type: int
      returned: always
    break_glass:
      description: Whether it goes ahead whatever may be lost.
      type: bool
      returned: always
    reverses:
      description: Of a failback, the failover that it reverses.
      type: str
      returned: always
    approval_source:
      description: Where approvals come from, see O(omnirelay.mesh.failover#module:approval_source).
      type: str
      returned: always
    ticket:
      description:
        - What the change ticket holds of it, with the keys that RV(omnirelay.mesh.failover_ticket#module:ticket) documents.
          Null if it has no ticket, or the control plane has no ticket source.
      type: dict
      returned: always
    cuts:
      description: Of an emergency, by namespace, RV(ignore:epoch) and RV(ignore:sequence) where the new active went on.
      type: dict
      returned: always
    manifest:
      description:
        - What an emergency cut off, as far as it is known, in ranges of one origin, epoch and grade.
        - The grade is V(presumed_lost) until the old active is back, then V(fenced), and at last V(superseded),
          V(recovered), V(discarded) or V(exported).
      type: list
      elements: dict
      returned: always
      sample:
        - namespace: default
          origin: us-east
          epoch: 1
          first: 48214
          last: 48230
          records: 17
          exact: false
          grade: presumed_lost
    checks:
      description: The preflight checks, each with RV(ignore:id), RV(ignore:status), RV(ignore:observed), RV(ignore:limit), RV(ignore:hint).
      type: list
      elements: dict
      returned: always
    approvals:
      description: The decisions so far, each with who, what, when, for which plan hash, which way it came, and the ticket it was read from.
      type: list
      elements: dict
      returned: always
      sample:
        - principal: spiffe://mesh.example.net/operator/alice
          decision: approve
          plan_hash: sha256:6f1d
          at: "2026-11-23T12:09:41.102Z"
          comment: seen
          via: terminal
          ticket: ""
    approvals_required:
      description: How many are needed.
      type: int
      returned: always
    approved:
      description: Whether there are enough.
      type: bool
      returned: always
    journal:
      description: What happened, when and by whom, a principal or a cluster.
      type: list
      elements: dict
      returned: always
      sample:
        - at: "2026-11-23T12:10:02.417Z"
          step: drain
          event: drain
          actor: spiffe://mesh.example.net/operator/bob
          detail: {}
    problem:
      description: Why it was aborted or could not be verified.
      type: str
      returned: always
    routing_version:
      description: Version of the routing document that promoted the target, 0 before.
      type: int
      returned: always
    measured_outage_seconds:
      description: Time without writes as it was, null before.
      type: float
      returned: always
    outage_basis:
      description: From when on it is counted, null before. Since V(source_last_heard) it is a bound.
      type: str
      returned: always
    next:
      description: What can be done now.
      type: list
      elements: str
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

from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import STATES
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

SPEC = mesh_spec(
    dict(
        failover_id=dict(type="str"),
        state=dict(type="str", choices=list(STATES)),
        open=dict(type="bool", default=False),
    ),
    mutually_exclusive=[("failover_id", "state"), ("failover_id", "open")],
)


def run(client, params, check_mode):
    if params["failover_id"]:
        failovers, request_id = _one(client, params["failover_id"])
    else:
        answer = client.get("failovers", state=params["state"], open=params["open"])
        failovers, request_id = answer.body["failovers"], answer.request_id
    return dict(changed=False, failovers=failovers, request_id=request_id)


def _one(client, failover_id):
    try:
        answer = client.get("failovers", failover_id)
    except MeshApiError as error:
        if error.code != "not_found":
            raise
        return [], error.request_id
    return [answer.body], answer.request_id


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
