#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: divergence
short_description: Decide what becomes of fenced records
description:
  - Decides about the open records of a divergence, and waits until that is done. Until then a failback is refused.
  - Records whose producers have sent them again themselves are settled already and stay as they are.
attributes:
  check_mode:
    support: full
    details: The control plane takes the same checks and refuses the same. Nothing is decided, and no file is written.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  divergence_id:
    description: The divergence, see M(omnirelay.mesh.divergence_info).
    type: str
    required: true
  state:
    description: V(resolved) leaves no record open.
    type: str
    choices: [resolved]
    default: resolved
  resolution:
    description:
      - V(replay) has the active cluster publish the records again, with headers that name where they come from.
      - V(export) saves them to O(dest) as JSON lines, keys and values in base64. They are not delivered.
      - V(discard) decides that they are not delivered. Needs the scope C(mesh.admin).
      - In each case they stay in the log until retention.
    type: str
    choices: [discard, export, replay]
    required: true
  dest:
    description:
      - File for V(export), replaced at once or not at all. Its directory is made if it is missing.
      - All fenced records are saved, with their fate, also those that are settled already.
    type: path
  reason:
    description: Why, for the audit trail.
    type: str
    default: ""
  wait_timeout:
    description: Seconds to wait for a replay. When they have passed the task fails; the replay itself goes on.
    type: int
    default: 60
seealso:
  - module: omnirelay.mesh.divergence_info
  - module: omnirelay.mesh.failover
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: Deliver what was cut off after all
  omnirelay.mesh.divergence:
    endpoint: https://control.eu-west.example.net:8443
    divergence_id: default.1
    resolution: replay
    reason: Orders are independent of each other

- name: Hand it to those who know what to do with it
  omnirelay.mesh.divergence:
    endpoint: https://control.eu-west.example.net:8443
    divergence_id: default.1
    resolution: export
    dest: /var/lib/evidence/default.1.jsonl
"""

RETURN = r"""
divergence:
  description:
    - The divergence afterwards, with the keys that RV(omnirelay.mesh.divergence_info#module:divergences) documents.
    - In check mode as it would be.
  returned: success
  type: dict
  sample:
    id: default.1
    records: 17
    superseded: 3
    replayed: 14
    unresolved: 0
    resolution: replayed
dest:
  description: The file, null if none was named.
  returned: success
  type: str
  sample: /var/lib/evidence/default.1.jsonl
diff:
  description: Decision and number of open records before and after.
  returned: when diff mode is on
  type: dict
  sample:
    before: {resolution: null, unresolved: 14}
    after: {resolution: replayed, unresolved: 0}
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

from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import of_divergence
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._file import save
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

DECIDED = dict(discard="discarded", export="exported", replay="replayed")
LINES = "application/x-ndjson"
POLL_SECONDS = 0.5

SPEC = mesh_spec(
    dict(
        divergence_id=dict(type="str", required=True),
        state=dict(type="str", choices=["resolved"], default="resolved"),
        resolution=dict(type="str", choices=["discard", "export", "replay"], required=True),
        dest=dict(type="path"),
        reason=dict(type="str", default=""),
        wait_timeout=dict(type="int", default=60),
    ),
    required_if=[("resolution", "export", ("dest",))],
)


def run(client, params, check_mode):
    answer = client.get("divergence", params["divergence_id"])
    before = answer.body["divergence"]
    saved = False
    if params["resolution"] == "export":
        saved = save(params["dest"], lambda target: _export(client, params, target, check_mode), check_mode)
    elif before["unresolved"] and before["resolution"] != "replaying":
        body = dict(reason=params["reason"])
        answer = client.post("divergence", before["id"], params["resolution"], body=body, dry_run=check_mode)
    after = _predicted(before, params) if check_mode else _settled(client, params)
    difference = of_divergence(before, after)
    return dict(
        changed=saved or difference.changed,
        divergence=after,
        dest=params["dest"],
        diff=difference.diff,
        request_id=answer.request_id,
    )


def _export(client, params, target, check_mode):
    """They count as exported once the last line has been sent, so this comes before the file is in its place; whoever
    lost it on the way exports again."""
    body = dict(reason=params["reason"])
    client.download(target, "divergence", params["divergence_id"], "export", body=body, dry_run=check_mode, media_type=LINES)


def _predicted(before, params):
    if not before["unresolved"]:
        return before
    after = dict(before, resolution=DECIDED[params["resolution"]], unresolved=0)
    if params["resolution"] == "replay":
        after["replayed"] += before["unresolved"]
    return after


def _settled(client, params):
    """The divergence once no record of it is open. Only a replay takes time."""
    ends_at = time.monotonic() + params["wait_timeout"]
    while True:
        answer = client.get("divergence", params["divergence_id"])
        divergence = answer.body["divergence"]
        if not divergence["unresolved"] and divergence["resolution"] != "replaying":
            return divergence
        if time.monotonic() >= ends_at:
            raise _not_settled(params, divergence, answer)
        time.sleep(POLL_SECONDS)


def _not_settled(params, divergence, answer):
    return MeshApiError(
        "step_incomplete",
        "After %s s %s records of divergence %s are open." % (params["wait_timeout"], divergence["unresolved"], divergence["id"]),
        hint="See how far it is: omnirelay mesh divergence show %s. Run the same task again to go on." % divergence["id"],
        http_status=answer.status,
        retryable=True,
        details=dict(divergence_id=divergence["id"], unresolved=divergence["unresolved"]),
        request_id=answer.request_id,
    )


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
