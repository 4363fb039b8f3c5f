# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: failover_evidence
type: notification
short_description: Keep a hash-chained record of what a run did
version_added: 1.0.0
author:
  - The OmniRelay Mesh authors (@omnirelay)
description:
  - Appends one line of JSON to a file for the start and the end of a run and for each result of a task or of a loop's item.
  - Each line carries the digest of the one before it, so a line that is changed, left out or added later is found. The filter
    P(omnirelay.mesh.broken_evidence#filter) finds it.
  - Of a result only keys of an allow-list are written, and only of results of this collection's own tasks. No task's arguments, no variables and no
    free text are. A task with C(no_log) leaves its name and its outcome.
  - A file that cannot be written is said once, as an error, and the run goes on; a failover is not stopped half-way for it.
requirements:
  - Enabled in the configuration, for example with C(ANSIBLE_CALLBACKS_ENABLED=omnirelay.mesh.failover_evidence).
options:
  path:
    description:
      - The file. Its directory must exist. A file that is there already is continued, also by several runs at once.
    type: path
    default: ./failover-evidence.jsonl
    env:
      - name: OMNIRELAY_EVIDENCE
    ini:
      - section: callback_failover_evidence
        key: path
"""

EXAMPLES = r"""
ansible.cfg: |
  [defaults]
  callbacks_enabled = omnirelay.mesh.failover_evidence

  [callback_failover_evidence]
  path = /var/lib/evidence/runs.jsonl
"""

import datetime
import os
import uuid

from ansible import __version__
from ansible.plugins.callback import CallbackBase
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._evidence import NotAChain, append

OURS = "omnirelay.mesh."

KEPT = dict(
    approved=None,
    would_wait=None,
    reached=None,
    remaining=None,
    request_id=None,
    sha256=None,
    error=dict.fromkeys(("code", "http_status", "retryable", "request_id")),
    failover=dict(
        dict.fromkeys(
            ("id", "mode", "state", "source", "target", "namespaces", "change_ticket", "requested_by", "created_at")
            + ("approved", "approvals_required", "routing_version", "measured_outage_seconds", "break_glass", "accept_data_loss")
        ),
        plan=dict.fromkeys(("hash", "predicted_loss_records", "predicted_outage_seconds")),
        approvals=dict.fromkeys(("principal", "decision", "at", "plan_hash", "via")),
        checks=dict.fromkeys(("id", "status")),
    ),
    cluster=dict.fromkeys(("cluster_id", "region", "state", "maintenance", "change_ticket")),
    divergence=dict.fromkeys(("id", "namespace", "epoch", "records", "unresolved", "resolution")),
)
"""What is written of a result: identifiers, states and figures. Messages and reasons are not, for anybody may have written anything there."""


def kept(value, allowed):
    """The part of a value that is on the list."""
    if allowed is None or value is None:
        return value
    if isinstance(value, list):
        return [kept(item, allowed) for item in value]
    if not isinstance(value, dict):
        return None
    return {name: kept(value[name], part) for name, part in allowed.items() if name in value}


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "omnirelay.mesh.failover_evidence"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._run = str(uuid.uuid4())
        self._works = True

    def v2_playbook_on_start(self, playbook):
        name = os.path.basename(playbook._file_name)
        self._write("run_started", playbook=name, ansible=__version__, pid=os.getpid())

    def v2_playbook_on_stats(self, stats):
        self._write("run_ended", hosts={host: stats.summarize(host) for host in sorted(stats.processed)})

    def v2_runner_on_ok(self, result):
        self._task(result, "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._task(result, "failed", ignored=bool(ignore_errors))

    def v2_runner_on_skipped(self, result):
        self._task(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        self._task(result, "unreachable")

    def v2_runner_item_on_ok(self, result):
        self._task(result, "ok", item=True)

    def v2_runner_item_on_failed(self, result):
        self._task(result, "failed", item=True)

    def v2_runner_item_on_skipped(self, result):
        self._task(result, "skipped", item=True)

    def _task(self, result, status, **more):
        task, values = result._task, result._result
        action = getattr(task, "resolved_action", None) or task.action
        if status == "ok" and values.get("changed"):
            status = "changed"
        if action.startswith(OURS) and not task.no_log:
            more["result"] = kept(values, KEPT)
        # The task's name as the playbook has it: one that was filled in could show what it was filled in with.
        name = (task.get_ds() or {}).get("name", "")
        self._write(
            "task", task=name, action=action, host=result._host.get_name(), status=status, check_mode=bool(task.check_mode), **more
        )

    def _write(self, event, **content):
        if not self._works:
            return
        at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            append(self.get_option("path"), dict(content, event=event, at=at, run=self._run))
        except (OSError, NotAChain) as error:
            self._works = False
            self._display.error("The evidence of this run is not complete: %s. Name another file with OMNIRELAY_EVIDENCE." % error)
