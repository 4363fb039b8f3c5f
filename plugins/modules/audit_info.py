#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_info
short_description: Read the audit chain
description:
  - Reads entries of the audit chain. Every change of the mesh has one, and every change that was refused, with who, what, when,
    why, under which ticket, and the state before and after.
  - Each entry carries the digest of the one before it. To verify a whole copy offline there is
    C(omnirelay mesh audit verify FILE).
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
  after:
    description: Read on after the entry with this number.
    type: int
    default: 0
  limit:
    description:
      - How many entries to return at most.
      - If there are more that fit, RV(next_after) is what to give as O(after) to read on.
    type: int
    default: 1000
  subject:
    description: Only entries about this resource, for example V(failovers/fo-20261123-120813-7f3a) or V(clusters/us-east).
    type: str
  action:
    description: Only entries of this action, for example V(failover.promote).
    type: str
  actor:
    description: Only entries of this principal.
    type: str
  change_ticket:
    description: Only entries under this ticket.
    type: str
  outcome:
    description: Only what was done, or only what was refused.
    type: str
    choices: [done, refused]
seealso:
  - module: omnirelay.mesh.failover_report
notes:
  - The control plane looks at every entry from O(after) on, so give O(after) when the chain is long and its beginning does not matter.
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Read what was done under a ticket
  omnirelay.mesh.audit_info:
    endpoint: https://control.us-east.example.net:8443
    change_ticket: CHG0042
  register: audit

- name: Show it
  ansible.builtin.debug:
    msg: "{{ item.at }} {{ item.actor }} {{ item.action }} {{ item.outcome }}"
  loop: "{{ audit.entries }}"
  loop_control:
    label: "{{ item.number }}"
"""

RETURN = r"""
entries:
  description: The entries that fit, in the order of the chain.
  returned: success
  type: list
  elements: dict
  contains:
    number:
      description: Place in the chain, from 1 without a gap.
      type: int
      returned: always
    at:
      description: When.
      type: str
      returned: always
    actor:
      description: Who.
      type: str
      returned: always
    identity_proof:
      description: How that was proven, V(mtls) or V(token), or V(system) for what a replicator did by itself.
      type: str
      returned: always
    action:
      description: What.
      type: str
      returned: always
    subject:
      description: To which resource.
      type: str
      returned: always
    why:
      description: The reason that was given, or the one for which it was refused.
      type: str
      returned: always
    change_ticket:
      description: Ticket under which it happened.
      type: str
      returned: always
    run_url:
      description: Where the run can be read that did it.
      type: str
      returned: always
    before:
      description: The resource before, null if there was none.
      type: raw
      returned: always
    after:
      description: The resource afterwards, null if it is gone. Of a refusal its code.
      type: raw
      returned: always
    outcome:
      description: V(done) or V(refused).
      type: str
      returned: always
    previous:
      description: Digest of the entry before.
      type: str
      returned: always
    digest:
      description: SHA-256 over everything else in this entry.
      type: str
      returned: always
head:
  description: The last entry of the chain when it was read, as RV(ignore:number) and RV(ignore:digest). A copy is checked against it.
  returned: success
  type: dict
  sample:
    number: 41
    digest: 0d4c7b1f0d4c7b1f0d4c7b1f0d4c7b1f0d4c7b1f0d4c7b1f0d4c7b1f0d4c7b1f
next_after:
  description: Number of the last entry that was looked at if there are more, null if everything up to RV(head) was.
  returned: success
  type: int
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

PAGE = 1000
"""Entries that one call brings; the control API allows no more."""

FILTERS = ("subject", "action", "actor", "change_ticket", "outcome")

SPEC = mesh_spec(
    dict(
        after=dict(type="int", default=0),
        limit=dict(type="int", default=1000),
        subject=dict(type="str"),
        action=dict(type="str"),
        actor=dict(type="str"),
        change_ticket=dict(type="str"),
        outcome=dict(type="str", choices=["done", "refused"]),
    )
)


def run(client, params, check_mode):
    for name, least in (("after", 0), ("limit", 1)):
        if params[name] < least:
            raise MeshApiError("invalid_argument", "%s must be %s or more." % (name, least), hint="Give %s or more." % least)
    wanted = {name: params[name] for name in FILTERS if params[name] is not None}
    entries, seen, end = [], params["after"], None
    while True:
        answer = client.get("audit", after=seen, limit=min(PAGE, params["limit"] - len(entries)), **wanted)
        head, beyond = answer.body["head"], answer.body["next_after"]
        end = head["number"] if end is None else end  # what is written meanwhile is not for this reading
        entries += [entry for entry in answer.body["entries"] if entry["number"] <= end]
        seen = end if beyond is None else min(beyond, end)
        if len(entries) == params["limit"] or seen >= end:
            return dict(
                changed=False,
                entries=entries,
                head=head,
                next_after=seen if seen < head["number"] else None,
                request_id=answer.request_id,
            )


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
