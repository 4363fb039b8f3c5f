#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_ticket
short_description: See that the change ticket of a failover holds what happened
description:
  - The control plane itself puts plan, approvals, start, end and reports of a failover into its change ticket, while the
    failover goes on. This module waits a moment until the ticket holds all of it, and asks for another try if something
    failed.
  - It does not fail because a ticket system does not answer. RV(pending) says what the ticket lacks; the control plane goes
    on trying, and the module can be run again at any time.
attributes:
  check_mode:
    support: full
    details: The control plane refuses the same. It is taken for granted that what is pending would be posted.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  failover_id:
    description: The failover.
    type: str
    required: true
  change_ticket:
    description: Ticket for a failover that has none yet, for example an emergency. A failover never gets another one.
    type: str
    default: ""
  wait_timeout:
    description: Seconds to wait. It ends sooner if another try has failed.
    type: int
    default: 10
seealso:
  - module: omnirelay.mesh.failover_report
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: See that the ticket has everything
  omnirelay.mesh.failover_ticket:
    endpoint: https://control.us-east.example.net:8443
    failover_id: fo-20261123-120813-7f3a
  register: posted

- name: Say what it lacks
  ansible.builtin.debug:
    msg: "{{ posted.ticket.url }} lacks {{ posted.pending | join(', ') }}: {{ posted.ticket.problem }}"
  when: posted.pending | length > 0

- name: Give an emergency its ticket afterwards
  omnirelay.mesh.failover_ticket:
    endpoint: https://control.us-east.example.net:8443
    failover_id: fo-20261123-120813-7f3a
    change_ticket: INC0815
"""

RETURN = r"""
ticket:
  description: What the ticket holds. Null if the failover has no ticket, or the control plane has no ticket source.
  returned: success
  type: dict
  contains:
    number:
      description: The ticket.
      type: str
      returned: always
    system:
      description: V(servicenow), V(jira) or V(webhook); empty before anything was posted or read.
      type: str
      returned: always
    url:
      description: The ticket, for people.
      type: str
      returned: always
    state:
      description: Its state as it was read for the plan, in the ticket system's words.
      type: str
      returned: always
    approval:
      description: V(pending), V(approved), V(rejected), or empty if it was never read.
      type: str
      returned: always
    window_starts_at:
      description: Begin of its window, null if it names none.
      type: str
      returned: always
    window_ends_at:
      description: End of its window, null if it names none.
      type: str
      returned: always
    posted:
      description:
        - What it holds, each with RV(ignore:key), RV(ignore:at) and, of a document, RV(ignore:name) and RV(ignore:sha256).
      type: list
      elements: dict
      returned: always
    pending:
      description: What it lacks.
      type: list
      elements: str
      returned: always
    problem:
      description: Why.
      type: str
      returned: always
    hint:
      description: What to do about it.
      type: str
      returned: always
    retry_at:
      description: When the control plane tries again, empty if nothing failed.
      type: str
      returned: always
    gave_up:
      description: Whether the control plane no longer tries by itself.
      type: bool
      returned: always
pending:
  description: The same as RV(ticket.pending), empty if there is no ticket.
  returned: success
  type: list
  elements: str
  sample: []
diff:
  description: What the ticket held before and after.
  returned: when diff mode is on
  type: dict
  sample:
    before: {posted: [plan, link]}
    after: {posted: [plan, link, report.json, report.md, finished]}
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

import time

from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import Difference
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

SECONDS_BETWEEN_READINGS = 0.2

SPEC = mesh_spec(
    dict(
        failover_id=dict(type="str", required=True),
        change_ticket=dict(type="str", default=""),
        wait_timeout=dict(type="int", default=10),
    )
)


def run(client, params, check_mode):
    answer = client.get("failovers", params["failover_id"])
    before = after = answer.body["ticket"]
    names_it = params["change_ticket"] not in ("", before["number"] if before else "")
    if before and before["pending"] or names_it:
        if check_mode:
            answer = _ask(client, params, dry_run=True)
            after = _complete(answer.body["ticket"])
        else:
            answer = _until_posted(client, params, answer, names_it)
            after = answer.body["ticket"]
    difference = Difference("ticket of failover " + params["failover_id"], _picture(before), _picture(after))
    return dict(
        changed=difference.changed,
        ticket=after,
        pending=after["pending"] if after else [],
        diff=difference.diff,
        request_id=answer.request_id,
    )


def _until_posted(client, params, answer, names_it):
    """Waits while the control plane posts; asks once for another try if it has given up or waits itself."""
    ends_at = time.monotonic() + params["wait_timeout"]
    asked = False
    while True:
        ticket = answer.body["ticket"]
        failed = ticket is not None and (ticket["retry_at"] or ticket["gave_up"])
        if not asked and (names_it or failed):
            answer = _ask(client, params)
            asked = True
        elif failed or ticket is None or not ticket["pending"] or time.monotonic() >= ends_at:
            return answer
        else:
            time.sleep(SECONDS_BETWEEN_READINGS)
            answer = client.get("failovers", params["failover_id"])


def _ask(client, params, **query):
    body = dict(change_ticket=params["change_ticket"])
    return client.post("failovers", params["failover_id"], "ticket", body=body, **query)


def _complete(ticket):
    """As it will be when everything is posted."""
    return dict(ticket, posted=ticket["posted"] + [dict(key=key) for key in ticket["pending"]], pending=[])


def _picture(ticket):
    return dict(ticket=ticket["number"], posted=[each["key"] for each in ticket["posted"]]) if ticket else {}


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
