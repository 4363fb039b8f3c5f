#!/usr/bin/python
# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_report
short_description: Save the evidence of a failover
description:
  - Reads what the control plane knows about a failover - who asked, who approved, each step with its time, measured outage
    and loss, digests, place in the audit chain - and saves it to a file if one is named.
  - Before there is a failover, makes sure that its evidence can be saved, so that no failover ends with evidence that cannot.
attributes:
  check_mode:
    support: full
    details: Reads the report and compares, writes nothing. Whether the file can be saved it predicts from permissions.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  failover_id:
    description:
      - The failover.
      - Without it nothing is read, the directory of O(dest) is made if it is missing, and the task fails if no file can be saved there.
    type: str
  dest:
    description:
      - File to write, replaced at once or not at all. Its directory is made if it is missing.
      - Without it the report is only returned.
      - One of O(failover_id) and O(dest) is needed.
    type: path
  format:
    description: V(json) is for programs, V(markdown) for a ticket.
    type: str
    choices: [json, markdown]
    default: json
seealso:
  - module: omnirelay.mesh.failover_info
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
extends_documentation_fragment:
  - omnirelay.mesh.auth
  - omnirelay.mesh.attributes
"""

EXAMPLES = r"""
- name: See before anything begins that the evidence can be saved
  omnirelay.mesh.failover_report:
    endpoint: https://control.us-east.example.net:8443
    dest: /var/lib/evidence/failover.json

- name: Keep the evidence
  omnirelay.mesh.failover_report:
    endpoint: https://control.us-east.example.net:8443
    failover_id: fo-20261123-120813-7f3a
    dest: /var/lib/evidence/fo-20261123-120813-7f3a.json

- name: Read it for the ticket
  omnirelay.mesh.failover_report:
    endpoint: https://control.us-east.example.net:8443
    failover_id: fo-20261123-120813-7f3a
    format: markdown
  register: evidence
"""

RETURN = r"""
report:
  description:
    - The evidence, null if no failover was named. What a failover has too is documented with M(omnirelay.mesh.failover_info).
    - RV(ignore:timings) has the time of each step, null for one that was not taken, RV(ignore:measured_loss_records) the records that were lost, null while
      that is not known, RV(ignore:epochs) the epoch of each namespace before and after, RV(ignore:digests) the chain digest of each origin at the
      barrier, RV(ignore:audit) the numbers of the first and the last entry of the audit chain about it, and RV(ignore:readers) who has taken notice of
      the routing by now, or had when the failover was completed, and who has not. It is null where nothing has moved.
  returned: success
  type: dict
  sample:
    failover_id: fo-20261123-120813-7f3a
    state: completed
    problem: ""
    mode: planned
    source: us-east
    target: eu-west
    namespaces: [default]
    change_ticket: CHG0042
    run_url: ""
    reason: rack maintenance
    requested_by: spiffe://mesh.example.net/operator/bob
    created_at: "2026-11-23T12:08:13.004Z"
    plan_hash: sha256:6f1d
    approvals: []
    timings:
      drain: "2026-11-23T12:10:02.417Z"
    measured_outage_seconds: 0.12
    outage_basis: source_closed
    measured_loss_records: 0
    predicted_loss_records: 0
    predicted_outage_seconds: 0.5
    predicted_loss: []
    accept_data_loss: null
    break_glass: false
    manifest: []
    epochs:
      default:
        before: 1
        after: 2
    digests:
      us-east: 6f1d
    checks: []
    journal: []
    audit:
      first: 12
      last: 19
    readers:
      routing_version: 3
      clusters_behind: []
      clusters_unknown: []
      readers: 12
      readers_behind: 0
      late: []
content:
  description: The same as O(format) says, byte for byte as saved; null if no failover was named.
  returned: success
  type: str
dest:
  description: The file, null if none was named.
  returned: success
  type: str
  sample: /var/lib/evidence/fo-20261123-120813-7f3a.json
sha256:
  description: Digest of RV(content), null with it.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
diff:
  description: What the file held and holds, empty if no file or no failover was named.
  returned: when diff mode is on
  type: dict
  sample:
    before: null
    after: '{"failover_id": "fo-20261123-120813-7f3a", "state": "completed"}'
request_id:
  description: Names the call in the replicator's log, empty if no failover was named.
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

import hashlib
import json

from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import Difference
from ansible_collections.omnirelay.mesh.plugins.module_utils._file import prepare, save, text_of
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.module_utils._task import run_module

SPEC = mesh_spec(
    dict(
        failover_id=dict(type="str"),
        dest=dict(type="path"),
        format=dict(type="str", choices=["json", "markdown"], default="json"),
    ),
    required_one_of=[("failover_id", "dest")],
)


def run(client, params, check_mode):
    if params["failover_id"] is None:
        return dict(
            changed=prepare(params["dest"], check_mode),
            report=None,
            content=None,
            dest=params["dest"],
            sha256=None,
            diff={},
            request_id="",
        )
    answer = client.get("failovers", params["failover_id"], "report")
    if params["format"] == "json":
        content = json.dumps(answer.body, indent=2, sort_keys=True) + "\n"
    else:
        content = client.text("failovers", params["failover_id"], "report", media_type="text/markdown").body
    data, dest = content.encode("utf-8"), params["dest"]
    diff = Difference(dest, text_of(dest), content).diff if dest else {}
    return dict(
        changed=bool(dest) and save(dest, lambda target: target.write(data), check_mode),
        report=answer.body,
        content=content,
        dest=dest,
        sha256=hashlib.sha256(data).hexdigest(),
        diff=diff,
        request_id=answer.request_id,
    )


def main():
    run_module(SPEC, run)


if __name__ == "__main__":
    main()
