# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: a plan in the words that a person reads before deciding."""

from __future__ import annotations


KNOWN = (
    "log of %(origin)s: %(known_records)s records known (%(held)s held, %(heard)s heard of, %(known_bytes)s bytes), "
    "%(unheard_seconds)s s unheard, about %(unheard_records)s records"
)
UNKNOWN = "log of %(origin)s: nobody has heard of what is beyond %(held)s"


def summary(failover):
    """The lines of a failover's plan: what for, what moves, what it may cost, what speaks against it, what is done."""
    plan = failover["plan"]
    lines = [
        "%s failover %s: %s -> %s"
        % (failover["mode"].capitalize(), failover["id"] or "(not stored)", failover["source"], failover["target"]),
        _line("state", failover["state"]),
        _line("reason", failover["reason"] or "-"),
        _line("change ticket", failover["change_ticket"] or "-"),
        _line("requested by", failover["requested_by"]),
        _line("predicted", "%s lost, %s s without writes" % (_lost(plan), plan["predicted_outage_seconds"])),
        _line("plan", "%(hash)s, valid until %(expires_at)s" % plan),
    ]
    if failover["mode"] == "emergency":
        lines.append(_line("accepted", _accepted(failover)))
    for part in plan["loss"]:
        lines.append(_line("loss", (KNOWN if part.get("bounded", True) else UNKNOWN) % part))
    for change in plan["routing"]:
        lines.append(
            _line("namespace", "%(namespace)s: epoch %(epoch_before)s at %(source)s -> %(epoch_after)s at %(target)s" % change)
        )
    lines.extend(_line("check " + check["status"], "%(id)s: %(observed)s" % check) for check in failover["checks"])
    lines.extend(_line("step " + step["name"], step["effect"]) for step in plan["steps"])
    return lines


def _lost(plan):
    if not all(part.get("bounded", True) for part in plan["loss"]):
        return "nobody knows how many records"
    return "%s records" % plan["predicted_loss_records"]


def _accepted(failover):
    if failover["break_glass"]:
        return "any loss, the glass is broken"
    return "up to %s records lost" % failover["accept_data_loss"]


def _line(name, value):
    return "  %-14s %s" % (name, value)
