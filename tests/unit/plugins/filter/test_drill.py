# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.omnirelay.mesh.plugins.filter import drill_result, steady_state

steady = steady_state.FilterModule().filters()["steady_state"]
result = drill_result.FilterModule().filters()["drill_result"]

SLO = dict(outage_seconds=1.0, loss_records=0, lag_seconds=5.0)


def evidence(number=1, mode="planned", outage=0.2, loss=0, opened=None):
    return dict(
        failover_id="fo-%d" % number,
        mode=mode,
        state="completed",
        source="us-east",
        target="eu-west",
        namespaces=["default"],
        created_at="2026-11-%02dT12:00:00Z" % number,
        change_ticket="CHG1",
        measured_outage_seconds=outage,
        measured_loss_records=loss,
        timings=dict(write_opened_at=opened),
    )


BOTH = [evidence(5), evidence(6, "failback")]


def names(judged):
    return {"%s of %s" % (each["name"], each["of"]): each["met"] for each in judged["objectives"]}


def test_a_drill_within_its_objectives_has_passed():
    judged = result(BOTH, SLO, [dict(moment="before", lag_seconds=0.1)])
    assert judged["passed"] is True
    assert names(judged) == {
        "outage_seconds of planned fo-5": True,
        "loss_records of planned fo-5": True,
        "outage_seconds of failback fo-6": True,
        "loss_records of failback fo-6": True,
        "lag_seconds of before": True,
    }


@pytest.mark.parametrize(
    "reports, samples",
    [
        ([evidence(5, outage=1.1), BOTH[1]], []),
        ([evidence(5, loss=1), BOTH[1]], []),
        ([evidence(5, outage=None), BOTH[1]], []),
        ([evidence(5, loss=None), BOTH[1]], []),
        (BOTH, [dict(moment="between", lag_seconds=5.1)]),
        (BOTH, [dict(moment="between", lag_seconds=None)]),
    ],
)
def test_what_is_beyond_the_limit_or_unknown_misses(reports, samples):
    judged = result(reports, SLO, samples)
    assert judged["passed"] is False
    assert len(judged["missed"]) == 1


def test_a_drill_that_did_not_come_home_or_met_a_problem_has_not_passed():
    assert result([evidence(5)], SLO, [])["passed"] is False
    assert result([], SLO, [])["passed"] is False
    assert result(BOTH, SLO, [], problems=["mend: no"])["passed"] is False


def test_the_outage_of_an_emergency_counts_from_the_fault():
    gone = evidence(5, "emergency", outage=None, opened="2026-11-05T12:00:08.5Z".replace(".5Z", ".500Z"))
    judged = result([gone, BOTH[1]], dict(SLO, outage_seconds=9), [], fault_at="2026-11-05T12:00:00.250Z")
    assert judged["legs"][0]["outage_seconds"] == 8.25
    assert judged["passed"] is True


def test_the_trend_is_oldest_first_and_a_saved_report_knows_more():
    saved = result([evidence(2, "emergency", outage=None, opened="2026-11-02T12:00:09Z")], SLO, [], fault_at="2026-11-02T12:00:00Z")
    past = [evidence(3, outage=0.4), evidence(2, "emergency", outage=None), evidence(1, outage=0.6), evidence(5)]
    judged = result(BOTH, SLO, [], past=past, saved=[saved, result([], SLO, [])])
    assert [(row["failover_id"], row["outage_seconds"]) for row in judged["trend"]] == [
        ("fo-1", 0.6),
        ("fo-2", 9.0),
        ("fo-3", 0.4),
        ("fo-5", 0.2),
    ]
    assert judged["median_outage_seconds"] == 0.5


def mesh(lag=0.0, ready=True, owned="us-east"):
    return [
        dict(
            cluster_id=name,
            ready=ready,
            problems=[] if ready else ["disk is full"],
            namespaces=[dict(namespace="default", epoch=1)] if name == owned else [],
            peers=[dict(peer=other, outbound=dict(lag_seconds=lag))],
        )
        for name, other in (("us-east", "eu-west"), ("eu-west", "us-east"))
    ]


def test_a_level_mesh_is_steady():
    assert steady(mesh(0.5), limit=5, owner="us-east", namespaces=["default"]) == dict(steady=True, lag_seconds=0.5, problems=[])


@pytest.mark.parametrize(
    "clusters, options, problem",
    [
        ([], {}, "no cluster was seen"),
        (mesh(lag=None), {}, "us-east -> eu-west: the lag is unknown"),
        (mesh(lag=6.0), {}, "us-east -> eu-west: 6 s behind"),
        (mesh(ready=False), {}, "us-east: disk is full"),
        (mesh(), dict(owner="eu-west", namespaces=["default"]), "eu-west does not own default"),
        (mesh(), dict(owner="eu-west"), "eu-west does not own a namespace"),
    ],
)
def test_what_is_not_steady_is_said(clusters, options, problem):
    seen = steady(clusters, limit=5, **options)
    assert seen["steady"] is False
    assert problem in seen["problems"]


def test_an_unknown_lag_is_never_a_number():
    assert steady(mesh(lag=None), limit=5)["lag_seconds"] is None


def test_a_cluster_that_is_down_on_purpose_does_not_count():
    clusters = mesh(lag=None, ready=False)
    assert steady(clusters, limit=5, without=["us-east"])["problems"] == []
