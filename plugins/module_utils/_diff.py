# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: what a task changed. One comparison says both C(changed) and the diff."""

from __future__ import annotations

STATES = (
    "awaiting_approval",
    "approved",
    "draining",
    "drained",
    "gathering",
    "fencing",
    "fenced",
    "promoted",
    "verify_failed",
    "verified",
    "completed",
    "aborted",
    "denied",
    "expired",
)

FINAL = ("completed", "aborted", "denied", "expired")
"""States that a failover never leaves."""

UNDONE = ("aborted", "denied", "expired")
"""Final states in which nothing has moved."""

PROMOTED = ("promoted", "verify_failed", "verified", "completed")
"""States in which the target is active."""


class Difference:
    """Two pictures of the same thing."""

    def __init__(self, header, before, after):
        self.changed = before != after
        self.diff = dict(before_header=header, after_header=header, before=before, after=after)


def of_plan(failover):
    """What making this plan changes: it exists now, and says what will come."""
    plan = failover["plan"]
    after = dict(
        state=failover["state"],
        steps=["%s: %s" % (step["name"], step["effect"]) for step in plan["steps"]],
        routing_when_promoted=[
            "%(namespace)s: %(source)s (epoch %(epoch_before)s) -> %(target)s (epoch %(epoch_after)s)" % change
            for change in plan["routing"]
        ],
        predicted_loss_records=plan["predicted_loss_records"],
        predicted_outage_seconds=plan["predicted_outage_seconds"],
    )
    if plan["loss"]:
        after["predicted_loss"] = [
            "%(origin)s: %(known_records)s records known, %(unheard_seconds)s s unheard, about %(unheard_records)s records" % part
            for part in plan["loss"]
        ]
    return Difference("failover to " + failover["target"], {}, after)


def of_failover(before, after):
    """What moved between two readings of one failover."""
    return Difference("failover " + after["id"], _picture(before), _picture(after))


DESCRIPTOR = ("region", "endpoints", "owners", "change_ticket", "priority", "failover_policy", "maintenance", "annotations")
"""What people decide about a cluster; everything else about it is observed."""


def of_cluster(cluster_id, before, after):
    """What was decided about a cluster, and what it owns because of that. None is no cluster."""

    def picture(cluster):
        if cluster is None:
            return {}
        return dict(
            {name: cluster[name] for name in DESCRIPTOR}, namespaces=sorted(owned["namespace"] for owned in cluster["namespaces"])
        )

    return Difference("cluster " + cluster_id, picture(before), picture(after))


def of_divergence(before, after):
    """What was decided about fenced records."""

    def picture(divergence):
        return dict(resolution=divergence["resolution"], unresolved=divergence["unresolved"])

    return Difference("divergence " + after["id"], picture(before), picture(after))


def _picture(failover):
    promoted = failover["state"] in PROMOTED
    return dict(
        state=failover["state"],
        approvals=["%(principal)s: %(decision)s" % approval for approval in failover["approvals"]],
        routing={
            change["namespace"]: dict(
                active=change["target" if promoted else "source"],
                epoch=change["epoch_after" if promoted else "epoch_before"],
            )
            for change in failover["plan"]["routing"]
        },
    )
