# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: passes only what the control plane has recorded as approved.

The order matters. What is approved already is not asked again; a job without a person at it waits for a decision made
elsewhere; a terminal is asked for a phrase that names the effect; and where none of this is possible the task fails.
"""

from __future__ import annotations

import os
import time

from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.module_utils.common.text.converters import to_text
from ansible.utils.display import Display
from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import of_failover
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import client_from, mesh_spec
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._in_process import InProcessAction
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._summary import summary

UNATTENDED_VARIABLES = ("awx_job_id", "tower_job_id")
UNATTENDED_ENVIRONMENT = ("AWX_ISOLATED_DATA_DIR", "JOB_ID")
SECONDS_BETWEEN_LINES = 30
NOT_ONES_OWN = ("self_approval", "permission_denied")
"""Refusals that an approval by the task's own identity usually meets."""

SPEC = mesh_spec(
    dict(
        failover_id=dict(type="str", required=True),
        mode=dict(type="str", choices=["auto", "terminal", "api"], default="auto"),
        wait_timeout=dict(type="int", default=3600),
        poll_interval=dict(type="int", default=2),
        comment=dict(type="str", default=""),
        approver_cert=dict(type="path"),
        approver_key=dict(type="path", no_log=False),
        approver_token=dict(type="str", no_log=True),
        approver_token_file=dict(type="path", no_log=False),
    ),
    mutually_exclusive=[("approver_token", "approver_token_file")],
    required_by=dict(approver_key=["approver_cert"]),
)

display = Display()


class ActionModule(InProcessAction):
    BYPASS_HOST_LOOP = True
    SPEC = SPEC
    always_here = True

    def perform(self, client, params, check_mode):
        answer = client.get("failovers", params["failover_id"])
        before = answer.body
        approved = is_approved(before)
        if not approved and not check_mode:
            answer = self._ask(client, params, before)
        difference = of_failover(before, answer.body)
        return dict(
            changed=difference.changed,
            approved=is_approved(answer.body),
            would_wait=check_mode and not approved,
            failover=answer.body,
            diff=difference.diff,
            request_id=answer.request_id,
        )

    def _ask(self, client, params, failover):
        ends_at = time.monotonic() + params["wait_timeout"]
        if from_ticket(failover):
            return _wait(client, params, ends_at)
        if params["mode"] == "terminal" or (params["mode"] == "auto" and not self._is_unattended()):
            try:
                answer = self._approve_at_terminal(client, params, failover, ends_at)
                if is_approved(answer.body):
                    return answer
            except MeshApiError as error:
                # Whoever runs the playbook has confirmed it; that somebody else has to approve is no reason to fail.
                if params["mode"] != "auto" or _identity(params) or error.code not in NOT_ONES_OWN:
                    raise
                display.display("Confirmed, and not approved yet: " + error.message)
        return _wait(client, params, ends_at)

    def _is_unattended(self):
        return any(self._task_vars.get(name) for name in UNATTENDED_VARIABLES) or any(map(os.environ.get, UNATTENDED_ENVIRONMENT))

    def _approve_at_terminal(self, client, params, failover, ends_at):
        phrase = "promote " + failover["target"]
        seconds = max(1, int(ends_at - time.monotonic()))
        try:
            typed = display.prompt_until("\n".join(["", *summary(failover), "Type '%s' to approve: " % phrase]), seconds=seconds)
        except AnsiblePromptNoninteractive as error:
            raise not_approved(failover, "nobody can be asked, for there is no terminal") from error
        except AnsiblePromptInterrupt as error:
            raise not_approved(failover, "the question was interrupted") from error
        if time.monotonic() >= ends_at - 1:
            raise not_approved(failover, "nobody answered within %s s" % params["wait_timeout"])
        if to_text(typed, errors="surrogate_or_replace").strip() != phrase:
            raise not_approved(failover, "the answer was not '%s'" % phrase)
        approver = _approver(client, params)
        decision = dict(decision="approve", plan_hash=failover["plan"]["hash"], comment=params["comment"], via="terminal")
        return approver.post("failovers", failover["id"], "approvals", body=decision)


def _approver(client, params):
    """Whoever is at the terminal: the identity given for them, or else the task's own, which the control plane judges."""
    own = _identity(params)
    if not own:
        return client
    approver = client_from(dict(params, **own))
    client.secrets.update(approver.secrets)
    return approver


def _identity(params):
    """The options that say who is at the terminal; empty if none is given."""
    own = dict(
        client_cert=params["approver_cert"],
        client_key=params["approver_key"],
        token=params["approver_token"],
        token_file=params["approver_token_file"],
    )
    return own if any(own.values()) else {}


def _wait(client, params, ends_at):
    """Reads until the decision is there. A mesh that does not answer for a while is not a decision."""
    said_at = None
    while True:
        try:
            answer = client.get("failovers", params["failover_id"])
            if is_approved(answer.body):
                return answer
            line = "%s waits for approval (%s of %s). %s" % (
                answer.body["id"],
                sum(approval["decision"] == "approve" for approval in answer.body["approvals"]),
                answer.body["approvals_required"],
                how_to_approve(answer.body),
            )
        except MeshApiError as error:
            if not error.retryable:
                raise
            answer, line = None, str(error)
        now = time.monotonic()
        if now >= ends_at:
            raise _timed_out(params, answer)
        if said_at is None or now - said_at >= SECONDS_BETWEEN_LINES:
            display.display(line)
            said_at = now
        time.sleep(min(params["poll_interval"], ends_at - now))


def _timed_out(params, answer):
    failover = answer.body if answer else dict(id=params["failover_id"])
    return not_approved(failover, "nobody decided within %s s" % params["wait_timeout"])


def is_approved(failover):
    """Whether the failover may go on; an error if it never can."""
    details = dict(failover_id=failover["id"], state=failover["state"])
    if failover["state"] == "denied":
        denial = next((approval for approval in failover["approvals"] if approval["decision"] == "deny"), {})
        principal = denial.get("principal", "somebody")
        raise MeshApiError(
            "approval_denied",
            " ".join(("Failover %s was denied by %s." % (failover["id"], principal), denial.get("comment", ""))).strip(),
            hint="Make a new plan if that has changed.",
            details=dict(details, principal=principal),
        )
    if failover["state"] == "expired":
        raise MeshApiError(
            "plan_expired",
            "The plan of failover %s was valid until %s." % (failover["id"], failover["plan"]["expires_at"]),
            hint="Make a new one.",
            details=dict(details, expires_at=failover["plan"]["expires_at"]),
        )
    if failover["state"] == "aborted":
        raise MeshApiError(
            "illegal_transition",
            "Failover %s was aborted: %s" % (failover["id"], failover["problem"] or "no reason given."),
            hint="Make a new plan.",
            details=dict(details, allowed=failover["next"]),
        )
    return failover["approved"]


def from_ticket(failover):
    """Whether only the change ticket can approve it; nobody at a terminal can, so nobody there is asked."""
    return failover.get("approval_source") == "ticket"


def how_to_approve(failover):
    failover_id = failover["id"]
    if from_ticket(failover):
        ticket = failover["ticket"] or {}
        words = ["Approve change ticket %s, as somebody other than who made the plan." % failover["change_ticket"]]
        words.append(ticket.get("url", ""))
        if ticket.get("problem"):
            words.append("Now: %s" % ticket["problem"])
        return " ".join(word for word in words if word)
    return (
        "To approve it, as somebody other than who made it: omnirelay mesh failovers approve %s, or the module "
        "omnirelay.mesh.failover_approval, or POST /control/failovers/%s/approvals." % (failover_id, failover_id)
    )


def not_approved(failover, why):
    hint = how_to_approve(failover)
    if not from_ticket(failover):
        hint += " Or run the playbook on a terminal, with approver_cert or approver_token_file."
    return MeshApiError(
        "not_approved",
        "Failover %s is not approved: %s." % (failover["id"], why),
        hint=hint,
        details=dict(failover_id=failover["id"], requested_by=failover.get("requested_by", "")),
    )
