# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: how far a failover is, and in which lines that is said. Decides, and does nothing."""

from __future__ import annotations

from ansible_collections.omnirelay.mesh.plugins.module_utils._diff import FINAL
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError

PLANNED = ("awaiting_approval", "approved", "draining", "drained", "promoted", "verified", "completed")
EMERGENCY = ("awaiting_approval", "approved", "gathering", "fencing", "fenced", "promoted", "verified", "completed")


def remaining(failover, wanted):
    """The states between the present one and C(wanted), that included; none once it is reached or passed.

    Raises MeshApiError when the failover ended before it.
    """
    way, other = (EMERGENCY, PLANNED) if failover["mode"] == "emergency" else (PLANNED, EMERGENCY)
    if wanted not in way:  # a waypoint of the other kind: whoever is promoted is past it
        wanted = other[other.index(wanted) + 1]
    # A failed proof leaves the target active: it is promoted, and will be verified or completed.
    state = "promoted" if failover["state"] == "verify_failed" else failover["state"]
    if state in way:
        return list(way[way.index(state) + 1 : way.index(wanted) + 1])
    raise ended_early(failover, wanted)


def ended_early(failover, wanted):
    """The error of a failover in a final state that is not the wanted one."""
    state = failover["state"]
    code = dict(denied="approval_denied", expired="plan_expired").get(state, "illegal_transition")
    return MeshApiError(
        code,
        "Failover %s is %s and will never be %s%s" % (failover["id"], state, wanted, ": " + failover["problem"] if failover["problem"] else "."),
        hint="Make a new plan.",
        details=dict(failover_id=failover["id"], state=state, allowed=failover["next"]),
    )


class Progress:
    """What has been said of one failover. C(failover) is its last reading."""

    def __init__(self, failover):
        self.failover = failover
        self._journal = 0
        self._state = None

    def lines(self, failover):
        """What is new in this reading: entries of the journal, then the state if it moved."""
        self.failover = failover
        fresh = failover["journal"][self._journal :]
        self._journal = len(failover["journal"])
        said = ["%s %s: %s %s by %s" % (failover["id"], entry["at"], entry["step"], entry["event"], entry["actor"]) for entry in fresh]
        if failover["state"] != self._state:
            self._state = failover["state"]
            said.append(self.now())
        return said

    def now(self):
        ended = "" if self.failover["state"] in FINAL else ", possible now: %s" % (", ".join(self.failover["next"]) or "nothing")
        return "%s is %s%s" % (self.failover["id"], self.failover["state"], ended)
