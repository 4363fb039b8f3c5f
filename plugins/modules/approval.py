#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# Documentation only: the gate is the action plugin of this name.

DOCUMENTATION = r"""
module: approval
short_description: Wait for the approval of a failover, and fail without it
description:
  - The gate of a playbook. It ends well only when the control plane has recorded enough approvals of the plan; everything
    else fails - a denial, a timeout, a wrong answer, no terminal and no other way to ask.
  - If the plan is approved already, nothing is asked.
  - The gate does not guard the failover, the control plane does. A playbook that skips this task is refused at the next step.
attributes:
  check_mode:
    support: full
    details: Never waits and never asks. RV(would_wait) says whether a real run would.
  diff_mode:
    support: full
  idempotent:
    support: full
  in_process:
    details: Always runs in the process of ansible-core.
  bypass_host_loop:
    description: Runs once for all hosts of the play, and with no strategy that bypasses the host loop itself.
    support: full
options:
  failover_id:
    description: The failover.
    type: str
    required: true
  mode:
    description:
      - V(terminal) shows the plan and asks for a phrase that names the effect, V(promote TARGET).
      - V(api) says how to approve and waits until somebody has done so with the command line,
        M(omnirelay.mesh.failover_approval) or the control API.
      - V(auto) is V(api) in a job of AWX or ansible-runner and V(terminal) elsewhere. If nothing says who is at the
        terminal, and the task's own identity may not approve this plan, it waits as V(api) does once the phrase is typed.
      - Without a terminal V(terminal) fails at once.
      - A plan that its change ticket approves, see O(omnirelay.mesh.failover#module:approval_source), is waited for in every
        mode, and nobody is asked.
    type: str
    choices: [auto, terminal, api]
    default: auto
  wait_timeout:
    description: Seconds after which the gate fails.
    type: int
    default: 3600
  poll_interval:
    description: Seconds between two readings while it waits.
    type: int
    default: 2
  comment:
    description: Words to go with an approval at the terminal.
    type: str
    default: ""
  approver_cert:
    description:
      - PEM file with the certificate of the person at the terminal.
      - Nobody can approve a plan that they made. If neither this nor O(approver_token) nor O(approver_token_file) is set, an
        approval at the terminal has the identity of the task itself, which the control plane refuses when that made the plan.
    type: path
  approver_key:
    description: PEM file with the private key of O(approver_cert), unless that file holds it too.
    type: path
  approver_token:
    description: Bearer token of the person at the terminal. Give it as O(approver_token_file) wherever a job's options are written down.
    type: str
  approver_token_file:
    description: File with the bearer token of the person at the terminal.
    type: path
seealso:
  - module: omnirelay.mesh.failover_approval
  - module: omnirelay.mesh.failover_step
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Ask whoever is at the terminal, with a certificate of their own
  omnirelay.mesh.approval:
    endpoint: https://control.us-east.example.net:8443
    failover_id: fo-20261123-120813-7f3a
    approver_cert: ~/.omnirelay/alice.pem
    approver_key: ~/.omnirelay/alice.key

- name: Wait for half an hour until somebody approves elsewhere
  omnirelay.mesh.approval:
    endpoint: https://control.us-east.example.net:8443
    failover_id: fo-20261123-120813-7f3a
    mode: api
    wait_timeout: 1800
"""

RETURN = r"""
approved:
  description: Whether the plan has enough approvals. Never false in a real run that did not fail.
  returned: success
  type: bool
would_wait:
  description: In check mode, whether a real run would have to ask or wait. Otherwise false.
  returned: success
  type: bool
failover:
  description:
    - The failover afterwards, with the keys that RV(omnirelay.mesh.failover_info#module:failovers) documents.
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
