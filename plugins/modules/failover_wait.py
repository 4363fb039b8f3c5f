#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# Documentation only: what waits is the action plugin of this name.

DOCUMENTATION = r"""
module: failover_wait
short_description: Wait until a failover has come as far as it should, and say how it goes
description:
  - Waits for what somebody else drives, and prints each entry of the failover's journal as it comes.
  - It ends well only when the failover has reached O(state), or is past it. A wait that runs out fails and lists the steps that remain,
    and a failover that ended before O(state), denied, expired or aborted, fails at once.
  - It takes no step itself, see M(omnirelay.mesh.failover_step).
attributes:
  check_mode:
    support: full
    details: Never waits. RV(would_wait) says whether a real run would.
  diff_mode:
    support: full
    details: Shows what others have done meanwhile. The task itself changes nothing.
  idempotent:
    support: full
  in_process:
    details: Always runs in the process of ansible-core.
options:
  failover_id:
    description: The failover.
    type: str
    required: true
  state:
    description:
      - How far it should come.
      - V(drained) is of a planned failover or failback, V(fenced) of an emergency; one that is promoted is past both.
    type: str
    choices: [approved, drained, fenced, promoted, verified, completed]
    default: completed
  wait_timeout:
    description:
      - Seconds after which the task fails, whatever the calls are doing. One attempt of a call takes no longer than O(timeout), and a call
        no longer than what is left.
    type: int
    default: 600
  poll_interval:
    description: Seconds between two readings.
    type: float
    default: 1
seealso:
  - module: omnirelay.mesh.failover_step
  - module: omnirelay.mesh.approval
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Wait while a colleague takes the steps
  omnirelay.mesh.failover_wait:
    endpoint: https://control.us-east.example.net:8443
    failover_id: fo-20261123-120813-7f3a
    state: completed
    wait_timeout: 900
"""

RETURN = r"""
reached:
  description: Whether the failover is in O(state) or past it. Never false in a real run that did not fail.
  returned: success
  type: bool
would_wait:
  description: In check mode, whether a real run would have to wait. Otherwise false.
  returned: success
  type: bool
remaining:
  description: The states that lie between the present one and O(state), that one included.
  returned: success
  type: list
  elements: str
  sample: [promoted, verified, completed]
failover:
  description:
    - The failover afterwards, with the keys that RV(omnirelay.mesh.failover_info#module:failovers) documents.
  returned: success
  type: dict
  sample:
    id: fo-20261123-120813-7f3a
    state: completed
    source: us-east
    target: eu-west
    namespaces: [default]
diff:
  description: State, approvals and routing when the wait began and when it ended.
  returned: when diff mode is on
  type: dict
  sample:
    before:
      state: drained
    after:
      state: completed
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
