# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries an approval from the controller (AWX) into the plan that it was given for.

All reading and judging is in here, and all of it starts from the number of the job, which the controller puts into the
environment: between two tasks of a playbook a variable could take the place of what was read.
"""

from __future__ import annotations

import os

from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import mesh_spec
from ansible_collections.omnirelay.mesh.plugins.modules.failover_approval import run as decide
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._controller import Controller, field
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._in_process import InProcessAction

MOST_NODES = 200  # of a page of the controller's API
WAYS = ("success_nodes", "failure_nodes", "always_nodes")

SPEC = mesh_spec(dict(failover_id=dict(type="str", required=True), plan_hash=dict(type="str", required=True)))


class ActionModule(InProcessAction):
    SPEC = SPEC
    always_here = True

    def perform(self, client, params, check_mode):
        controller = Controller(os.environ, **{name: params[name] for name in ("timeout", "deadline", "retries")})
        client.secrets.update(controller.secrets)
        workflow_job, approver = approval_of(controller, os.environ.get("JOB_ID", ""), params["failover_id"], params["plan_hash"])
        comment = "approved in the controller by %s, workflow job %s" % (approver, workflow_job)
        result = decide(client, dict(params, state="approved", comment=comment, via="awx"), check_mode)
        return dict(result, approved_by=approver, workflow_job=workflow_job)


def approval_of(controller, job, failover_id, plan_hash):
    """The workflow job that this job is a node of, and who approved exactly this plan in it. Raises MeshApiError."""
    if not failover_id or not plan_hash:
        raise MeshApiError(
            "invalid_argument",
            "Nothing says which plan was approved: failover_id and plan_hash are both needed.",
            hint="The playbook planned_failover_prepare, as a node before, hands on both.",
        )
    workflow_job = field(controller.get("jobs", job), "summary_fields", "source_workflow_job", "id") if job else None
    if not workflow_job:
        raise _not_approved(failover_id, "this run is no node of a workflow")
    starter = field(controller.get("workflow_jobs", workflow_job), "summary_fields", "created_by", "username")
    prepare, approve = _nodes(controller, workflow_job, failover_id)
    _require_plan(field(controller.get("jobs", prepare), "artifacts"), workflow_job, failover_id, plan_hash)
    decision = controller.get("workflow_approvals", approve)
    approver = field(decision, "summary_fields", "approved_or_denied_by", "username")
    if field(decision, "status") != "successful":
        raise _not_approved(failover_id, "the approval of workflow job %s is %s, not successful" % (workflow_job, field(decision, "status")))
    if not approver:
        raise _not_approved(failover_id, "the controller does not say who approved workflow job %s" % workflow_job)
    if not starter:
        raise _not_approved(failover_id, "the controller does not say who started workflow job %s" % workflow_job)
    if approver == starter:
        raise MeshApiError(
            "self_approval",
            "%s started workflow job %s and approved it too." % (approver, workflow_job),
            hint="Somebody else has to. Start the workflow again: this one's approval is spent.",
            details=dict(failover_id=failover_id, principal=approver),
        )
    return workflow_job, approver


def _nodes(controller, workflow_job, failover_id):
    """The jobs of the nodes that prepare and approve: the one waits for the other, so that what was approved was there to be seen."""
    page = controller.get("workflow_jobs", workflow_job, "workflow_nodes", page_size=MOST_NODES)
    nodes = [node for node in page.get("results") or () if isinstance(node, dict)]
    prepare, approve = (
        [node for node in nodes if node.get("identifier") == name and node.get("job")] for name in ("prepare", "approve")
    )
    if len(prepare) == len(approve) == 1 and not page.get("next"):
        before = [node.get("id") for node in nodes for way in WAYS if approve[0].get("id") in (node.get(way) or ())]
        if before == [prepare[0].get("id")]:
            return prepare[0]["job"], approve[0]["job"]
    raise _not_approved(failover_id, "workflow job %s has no approval node behind the one that prepares" % workflow_job)


def _require_plan(artifacts, workflow_job, failover_id, plan_hash):
    """Nothing but the plan that this very workflow has made."""
    made, made_hash = field(artifacts, "mesh_failover_id"), field(artifacts, "mesh_plan_hash")
    if not made or not made_hash:
        raise _not_approved(failover_id, "workflow job %s has prepared no plan" % workflow_job)
    if (made, made_hash) != (failover_id, plan_hash):
        raise MeshApiError(
            "plan_hash_mismatch",
            "Workflow job %s has prepared failover %s with plan %s, and not %s with %s."
            % (workflow_job, made, made_hash, failover_id, plan_hash),
            hint="Only what a workflow has prepared is approved in it. Start the workflow again.",
            details=dict(failover_id=made, plan_hash=made_hash),
        )


def _not_approved(failover_id, why):
    return MeshApiError(
        "not_approved",
        "Failover %s is not approved: %s." % (failover_id, why),
        hint="Start the workflow that omnirelay.mesh.awx_setup has made, and let somebody else approve it there; or approve outside "
        "the controller: omnirelay mesh failovers approve %s" % failover_id,
        details=dict(failover_id=failover_id),
    )
