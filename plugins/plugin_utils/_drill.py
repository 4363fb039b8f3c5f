# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to this collection: what a drill measured, held against what was asked of it.

What is not known misses an objective: an outage that nobody measured is no short one.
"""

from __future__ import annotations

import datetime
import statistics

OBJECTIVES = ("outage_seconds", "loss_records")
"""Of each leg; a lag is of a moment."""


def steady(clusters, limit, without=(), owner="", namespaces=()):
    """Whether every cluster but C(without) is ready and nothing lags by more than C(limit) seconds, and C(owner), if
    one is named, owns the namespaces (any, if none are named). C(lag_seconds) is the worst, None if one is unknown."""
    counted = [cluster for cluster in clusters if cluster["cluster_id"] not in without]
    lags = {
        "%s -> %s" % (cluster["cluster_id"], peer["peer"]): peer["outbound"]["lag_seconds"]
        for cluster in counted
        for peer in cluster["peers"]
        if peer["peer"] not in without
    }
    problems = [] if counted else ["no cluster was seen"]
    problems += ["%s: %s" % (each["cluster_id"], "; ".join(each["problems"])) for each in counted if not each["ready"] and not without]
    problems += ["%s: the lag is unknown" % link for link, lag in sorted(lags.items()) if lag is None]
    problems += ["%s: %.3g s behind" % (link, lag) for link, lag in sorted(lags.items()) if lag is not None and lag > limit]
    if owner:
        owned = {each["namespace"] for cluster in counted if cluster["cluster_id"] == owner for each in cluster["namespaces"]}
        lacking = sorted(set(namespaces) - owned)
        problems += ["%s does not own %s" % (owner, ", ".join(lacking) or "a namespace")] if lacking or not owned else []
    known = bool(lags) and None not in lags.values()
    return dict(steady=not problems, lag_seconds=max(lags.values()) if known else None, problems=problems)


def result(reports, slo, samples, problems=(), fault="", fault_at="", past=(), saved=()):
    """The drill's report. O(reports): evidence of its failovers in their order, O(samples): the steadiness at moments,
    O(past): evidence of earlier drills, O(saved): their own reports, which know more."""
    legs = [leg(report, fault_at) for report in reports]
    judged = [_judge(name, "%(mode)s %(failover_id)s" % each, each[name], slo[name]) for each in legs for name in OBJECTIVES]
    judged += [_judge("lag_seconds", sample["moment"], sample["lag_seconds"], slo["lag_seconds"]) for sample in samples]
    first = legs[0] if legs else dict(failover_id="", source="", target="", created_at="", mode="")
    home = [each for each in legs if each["mode"] == "failback" and each["state"] == "completed"]
    missed = ["%(name)s of %(of)s: %(observed)s, limit %(limit)s" % each for each in judged if not each["met"]]
    rows = {each["failover_id"]: each for each in (leg(report) for report in past)}
    rows.update((each["drill_id"], each["trend"][-1]) for each in saved if each["trend"])
    rows.pop(first["failover_id"], None)
    trend = sorted(rows.values(), key=lambda row: (row["created_at"], row["failover_id"]))
    own = [dict(first, passed=not problems and not missed)] if legs else []
    return dict(
        drill_id=first["failover_id"],
        passed=bool(home) and not problems and not missed,
        problems=list(problems),
        missed=missed,
        fault=fault,
        fault_at=fault_at,
        legs=legs,
        objectives=judged,
        samples=list(samples),
        trend=trend + own,
        median_outage_seconds=_median(trend, first["mode"]),
    )


def leg(report, fault_at=""):
    """What a failover's evidence says, and of an emergency, whose source does not say when it stopped, the time from
    the fault to the first write at the new active; these two clocks are different machines'."""
    outage, opened = report["measured_outage_seconds"], report["timings"].get("write_opened_at")
    if report["mode"] == "emergency" and fault_at and opened:
        outage = round((_time(opened) - _time(fault_at)).total_seconds(), 3)
    names = ("failover_id", "mode", "state", "source", "target", "namespaces", "created_at", "change_ticket")
    return dict({name: report[name] for name in names}, outage_seconds=outage, loss_records=report["measured_loss_records"])


def _judge(name, of, observed, limit):
    return dict(name=name, of=of, observed=observed, limit=limit, met=observed is not None and observed <= limit)


def _median(rows, mode):
    known = [row["outage_seconds"] for row in rows if row["mode"] == mode and row["outage_seconds"] is not None]
    return round(statistics.median(known), 3) if known else None


def _time(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
