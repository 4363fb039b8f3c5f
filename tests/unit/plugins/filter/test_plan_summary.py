# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.omnirelay.mesh.plugins.filter.plan_summary import FilterModule


def test_says_what_a_person_decides_about(plan):
    lines = FilterModule().filters()["plan_summary"](plan)
    assert lines[0] == "Planned failover fo-1: us-east -> eu-west"
    assert "  namespace      default: epoch 1 at us-east -> 2 at eu-west" in lines
    assert "  predicted      0 records lost, 0.5 s without writes" in lines
    assert "  check pass     target_level: as it should be" in lines
    assert "  step promote   effect of promote" in lines


def test_says_what_an_emergency_may_lose_and_who_answers_for_it(run_module):
    plan = run_module("failover", mode="emergency", target="eu-west", accept_data_loss=40)["failover"]
    lines = FilterModule().filters()["plan_summary"](plan)
    assert lines[0] == "Emergency failover fo-1: us-east -> eu-west"
    assert "  accepted       up to 40 records lost" in lines
    assert (
        "  loss           log of us-east: 30 records known (100 held, 130 heard of, 4096 bytes), 2.5 s unheard, about 7 records"
        in lines
    )
    plan["plan"]["loss"][0]["bounded"] = False
    unheard_of = FilterModule().filters()["plan_summary"](plan)
    assert "  predicted      nobody knows how many records lost, 0.5 s without writes" in unheard_of
    assert "  loss           log of us-east: nobody has heard of what is beyond 100" in unheard_of
    assert "  accepted       any loss, the glass is broken" in FilterModule().filters()["plan_summary"](dict(plan, break_glass=True))
