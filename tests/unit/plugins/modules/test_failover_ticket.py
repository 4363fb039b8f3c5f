# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest


@pytest.fixture
def ticketed(mesh, run_module):
    """A failover whose ticket lacks plan and link."""
    mesh.ticket_source = True
    return run_module("failover", target="eu-west", change_ticket="CHG0042")["failover"]


@pytest.fixture
def post(run_module, ticketed):
    def post(**options):
        return run_module("failover_ticket", failover_id=ticketed["id"], **options)

    return post


def asked(mesh):
    posts = [(query, body) for method, path, query, body in mesh.calls if method == "POST" and path.endswith("/ticket")]
    return [body for query, body in posts if not query.get("dry_run")]


def test_waits_until_the_ticket_holds_everything(post, mesh):
    mesh.posting_takes = 2
    result = post(diff=True)
    assert result["changed"] and result["pending"] == []
    assert result["diff"]["after"] == dict(ticket="CHG0042", posted=["plan", "link"])
    assert asked(mesh) == []


def test_does_nothing_when_the_ticket_holds_everything(post, mesh):
    post()
    calls = len(mesh.calls)
    result = post()
    assert not result["changed"] and result["pending"] == []
    assert len(mesh.calls) == calls + 1


def test_asks_once_for_another_try_when_something_failed(post, mesh, ticketed):
    mesh.failovers[ticketed["id"]]["ticket"].update(gave_up=True, problem="it was down")
    result = post()
    assert result["changed"] and result["pending"] == []
    assert len(asked(mesh)) == 1


def test_ends_at_once_when_the_other_try_fails_too_and_does_not_fail(post, mesh):
    mesh.ticket_failures = 9
    result = post(wait_timeout=600)
    assert "failed" not in result and not result["changed"]
    assert result["pending"] == ["plan", "link"]
    assert result["ticket"]["problem"] == "acme.example does not answer"
    assert len(asked(mesh)) == 1


def test_waits_no_longer_than_it_may(post, mesh):
    mesh.posting_takes = 10**6
    result = post(wait_timeout=0)
    assert "failed" not in result and result["pending"] == ["plan", "link"]


@pytest.mark.parametrize("in_check_mode", [False, True])
def test_without_ticket_source_there_is_nothing_to_do(run_module, plan, in_check_mode):
    result = run_module("failover_ticket", failover_id=plan["id"], check=in_check_mode)
    assert (result["changed"], result["ticket"], result["pending"]) == (False, None, [])


def test_check_mode_says_what_comes_and_asks_for_nothing(post, mesh, ticketed):
    mesh.failovers[ticketed["id"]]["ticket"].update(retry_at="2026-11-23T12:30:00Z")
    predicted = post(check=True, diff=True)
    assert asked(mesh) == []
    real = post(diff=True)
    assert (predicted["changed"], predicted["diff"], predicted["pending"]) == (real["changed"], real["diff"], real["pending"])


def test_failover_without_ticket_gets_one(run_module, plan, mesh):
    mesh.ticket_source = True
    options = dict(failover_id=plan["id"], change_ticket="INC0815", diff=True)
    predicted = run_module("failover_ticket", check=True, **options)
    assert mesh.failovers[plan["id"]]["ticket"] is None
    real = run_module("failover_ticket", **options)
    assert (predicted["changed"], predicted["diff"]) == (real["changed"], real["diff"])
    assert real["ticket"]["number"] == "INC0815"
    assert not run_module("failover_ticket", **options)["changed"]


@pytest.mark.parametrize("in_check_mode", [False, True])
def test_ticket_cannot_be_given_without_ticket_source(run_module, plan, in_check_mode):
    result = run_module("failover_ticket", failover_id=plan["id"], change_ticket="INC0815", check=in_check_mode)
    assert result["failed"] and result["error"]["code"] == "no_ticket_source"


def test_approval_source_is_part_of_the_plan(run_module, mesh):
    mesh.ticket_source = True
    result = run_module("failover", target="eu-west", change_ticket="CHG0042", approval_source="ticket")
    assert result["failover"]["approval_source"] == "ticket"
