#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_step
short_description: Take a step of a failover
description:
  - Takes one step of an approved failover and waits until it is done.
  - Each step can be taken again by anyone, from any cluster. One that is done already changes nothing, one that was
    interrupted goes on.
attributes:
  check_mode:
    support: full
    details: The control plane takes the same checks, refuses the same and predicts the failover afterwards. It never waits.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  failover_id:
    description: The failover.
    type: str
    required: true
  step:
    description:
      - V(preflight) takes all checks again.
      - V(drain) stops writes at the source and waits until the target holds everything. It undoes itself when that takes
        longer than the plan allows.
      - V(promote) makes the target active with a new epoch, and waits until it admits writes. In an emergency it does all
        that comes before too, the target catches up, and waits until no lease of the source can be valid.
      - V(verify) proves the new direction with a write that another cluster gets to see.
      - V(complete) closes the record.
      - V(abort) undoes everything. It is refused after promotion.
    type: str
    required: true
    choices: [preflight, drain, promote, verify, complete, abort]
  reason:
    description: Why, for V(abort).
    type: str
    default: ""
  wait_timeout:
    description:
      - Seconds to wait until the step is done. When they have passed the task fails and says what is missing; the
        failover itself goes on, or undoes itself, within the limits of its plan.
    type: int
    default: 60
seealso:
  - module: omnirelay.mesh.failover
  - module: omnirelay.mesh.approval
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Stop writes and wait until the target holds everything
  omnirelay.mesh.failover_step:
    endpoint: https://control.us-east.example.net:8443
    failover_id: fo-20261123-120813-7f3a
    step: drain

- name: Make the target active
  omnirelay.mesh.failover_step:
    endpoint:
      - https://control.us-east.example.net:8443
      - https://control.eu-west.example.net:8443
    failover_id: fo-20261123-120813-7f3a
    step: promote
    wait_timeout: 30
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
    state: drained
    source: us-east
    target: eu-west
    namespaces: [default]
diff:
  description: State, approvals and routing before and after the step.
  returned: when diff mode is on
  type: dict
  sample:
    before:
      state: drained
      routing:
        default: {active: us-east, epoch: 1}
    after:
      state: promoted
      routing:
        default: {active: eu-west, epoch: 2}
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

import math
import time

from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import of_failover
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

LONGEST_CALL = 5
"""Seconds that one call waits. Short, so that a cluster that falls silent is soon asked no more."""

SPEC = mesh_spec(
    dict(
        failover_id=dict(type="str", required=True),
        step=dict(type="str", required=True, choices=["preflight", "drain", "promote", "verify", "complete", "abort"]),
        reason=dict(type="str", default=""),
        wait_timeout=dict(type="int", default=60),
    )
)


def run(client, params, check_mode):
    before = client.get("failovers", params["failover_id"]).body
    answer = _predict(client, params) if check_mode else _take(client, params)
    _refuse_failed_checks(params, answer)
    difference = of_failover(before, answer.body)
    return dict(
        changed=difference.changed,
        failover=answer.body,
        diff=difference.diff,
        request_id=answer.request_id,
    )


def _predict(client, params):
    return client.post("failovers", params["failover_id"], params["step"], body=_body(params), dry_run=True)


def _take(client, params):
    """Calls until the step is done. The call is the wait: the control API answers 202 when it has waited in vain."""
    ends_at = time.monotonic() + params["wait_timeout"]
    while True:
        wait = max(1, min(LONGEST_CALL, math.ceil(ends_at - time.monotonic())))
        answer = client.post("failovers", params["failover_id"], params["step"], body=_body(params), wait=wait)
        if answer.status != 202:
            return answer
        if time.monotonic() >= ends_at:
            raise _not_done(params, answer)


def _body(params):
    return dict(reason=params["reason"]) if params["step"] == "abort" else {}


def _not_done(params, answer):
    failover = answer.body
    last = failover["journal"][-1] if failover["journal"] else {}
    return MeshApiError(
        "step_incomplete",
        "After %s s the step %s of failover %s is not done: it is %s%s."
        % (
            params["wait_timeout"],
            params["step"],
            failover["id"],
            failover["state"],
            ", last came %(step)s %(event)s by %(actor)s at %(at)s" % last if last else "",
        ),
        hint="See what it waits for: omnirelay mesh failovers show %s. Run the same task again to go on." % failover["id"],
        http_status=answer.status,
        retryable=True,
        details=dict(failover_id=failover["id"], state=failover["state"], last=last, next=failover["next"]),
        request_id=answer.request_id,
    )


def _refuse_failed_checks(params, answer):
    """A preflight with a failed check is no success, whichever way the control API says so."""
    failed = [check for check in answer.body["checks"] if check["status"] == "fail"]
    if params["step"] == "preflight" and failed:
        raise MeshApiError(
            "preflight_failed",
            "; ".join("%(id)s: %(observed)s" % check for check in failed) + ".",
            hint="Mend the failed checks, then run the same command again.",
            http_status=answer.status,
            details=dict(checks=answer.body["checks"], failed=[check["id"] for check in failed]),
            request_id=answer.request_id,
        )


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
