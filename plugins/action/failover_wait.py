# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for a failover that somebody else drives, and prints what happens while it happens.

An action plugin, because only what runs in the controller's own process can print before it ends; a job of AWX gets
the lines as events. It reads, so a mesh that does not answer for a while is no reason to give up before time is up.
"""

from __future__ import annotations

import time

from ansible.utils.display import Display
from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import of_failover
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._in_process import InProcessAction
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._progress import Progress, remaining

SECONDS_BETWEEN_LINES = 30

SPEC = mesh_spec(
    dict(
        failover_id=dict(type="str", required=True),
        state=dict(
            type="str", choices=["approved", "drained", "fenced", "promoted", "verified", "completed"], default="completed"
        ),
        wait_timeout=dict(type="int", default=600),
        poll_interval=dict(type="float", default=1),
    )
)

display = Display()


class ActionModule(InProcessAction):
    SPEC = SPEC
    always_here = True

    def perform(self, client, params, check_mode):
        ends_at = time.monotonic() + params["wait_timeout"]
        client.hurry(max(params["wait_timeout"], params["timeout"]))  # a look is a look, even if there is no time to wait
        before = answer = client.get("failovers", params["failover_id"])
        left = remaining(answer.body, params["state"])
        if not check_mode:
            answer = _wait(client, params, answer, ends_at)
            left = []
        return dict(
            changed=False,
            reached=not left,
            would_wait=bool(left),
            remaining=left,
            failover=answer.body,
            diff=of_failover(before.body, answer.body).diff,
            request_id=answer.request_id,
        )


def _wait(client, params, answer, ends_at):
    """Reads until the failover is there. Raises MeshApiError when it cannot come there any more, or time is up."""
    progress = Progress(answer.body)
    problem, said_at = None, time.monotonic()
    while True:
        if answer is not None:
            for line in progress.lines(answer.body):
                display.display(line)
                said_at = time.monotonic()
            if not remaining(answer.body, params["state"]):
                return answer
        now = time.monotonic()
        if now >= ends_at:
            raise _timed_out(params, progress.failover, problem)
        if now - said_at >= SECONDS_BETWEEN_LINES:
            display.display("%s; %.0f s left%s" % (progress.now(), ends_at - now, ". " + str(problem) if problem else ""))
            said_at = now
        time.sleep(min(params["poll_interval"], ends_at - now))
        client.hurry(ends_at - time.monotonic())
        try:
            answer, problem = client.get("failovers", params["failover_id"]), None
        except MeshApiError as error:
            if not error.retryable:
                raise
            answer, problem = None, error


def _timed_out(params, failover, problem):
    left = remaining(failover, params["state"])
    last = failover["journal"][-1] if failover["journal"] else {}
    return MeshApiError(
        "step_incomplete",
        "After %s s failover %s is %s, not %s. What remains: %s%s.%s"
        % (
            params["wait_timeout"],
            failover["id"],
            failover["state"],
            params["state"],
            ", ".join(left),
            "; last came %(step)s %(event)s by %(actor)s at %(at)s" % last if last else "",
            " The last reading failed: %s" % problem.message if problem else "",
        ),
        hint="See what it waits for: omnirelay mesh failovers show %s. Possible now: %s."
        % (failover["id"], ", ".join(failover["next"]) or "nothing"),
        retryable=True,
        details=dict(failover_id=failover["id"], state=failover["state"], remaining=left, last=last, next=failover["next"]),
    )
