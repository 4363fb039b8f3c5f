"""What is left by whoever drove a failover and is not there any more; and readers while it goes on."""

import json

import pytest
from tests.package.unit.api.mesh import PLAN

from omnirelay.model.readers import ReaderBehind
from omnirelay.runtime.documents import ROUTING


async def test_fm04_the_same_request_finds_what_a_dead_driver_began_and_goes_on(mesh, agents):
    failover_id = await mesh.approved()
    await mesh.step(failover_id, "drain", wait=0)
    again = await mesh.call("alice", "POST", "/control/failovers", json=PLAN)
    assert (again.status_code, again.json()["id"]) == (200, failover_id)
    for step in ("drain", "promote", "verify", "complete"):
        assert (await mesh.step(failover_id, step)).status_code == 200
    assert mesh.view.locks == {}


@pytest.mark.parametrize("target", ["eu-west", "ap-south"])
async def test_fm04_whoever_wants_another_is_told_of_it_and_gives_it_up_visibly(mesh, target):
    left = await mesh.approved()
    await mesh.step(left, "drain", wait=0)
    other = {**PLAN, "target": target, "reason": "the one before is stuck"}
    refused = await mesh.call("alice", "POST", "/control/failovers", json=other)
    assert refused.status_code == 409
    (check,) = [c for c in refused.json()["details"]["checks"] if c["id"] == "no_other_failover"]
    assert (check["status"], left in check["observed"], left in check["hint"]) == ("fail", True, True)
    aborted = await mesh.call("alice", "POST", f"/control/failovers/{left}/abort", json={"reason": "its driver died"})
    assert aborted.json()["state"] == "aborted"
    entry = (await mesh.auditor.entries(0, 100))[-1]
    assert (entry.action, entry.subject, entry.why) == ("failover.abort", f"failovers/{left}", "its driver died")
    assert (await mesh.call("alice", "POST", "/control/failovers", json=other)).status_code == 201


async def test_fm20_all_namespaces_of_a_failover_move_in_one_change_of_one_document(mesh, agents):
    failover_id = await mesh.approved()
    await mesh.step(failover_id, "drain")
    before, version = mesh.view.routing_revision, mesh.view.routing.version
    await mesh.step(failover_id, "promote")
    changes = [change for element in mesh.memory.changes_from(ROUTING, before + 1).elements for change in element]
    assert len(changes) == 1, "nobody can have read a document in which only some have moved"
    assert {name: route.active for name, route in mesh.view.routing.routes.items()} == {
        "default": "eu-west",
        "orders": "eu-west",
    }
    assert mesh.view.routing.version == version + 1


async def test_fm20_the_report_and_the_routing_name_readers_that_have_not_acknowledged_the_switch(mesh, agents):
    failover_id = await mesh.approved()
    for step in ("drain", "promote"):
        await mesh.step(failover_id, step)
    late = ReaderBehind("default", "billing", "client/b", 1)
    version = mesh.view.routing.version
    counts = {"readers": {"default": 3}, "readers_behind": {"default": 1}, "late": (late,)}
    await mesh.report("ap-south", routing_version=version, **counts)
    await mesh.report("eu-west", routing_version=version)
    await mesh.view.refresh()
    path = f"/control/failovers/{failover_id}/report"
    shown = (await mesh.call("reader", "GET", path)).json()["readers"]
    assert shown == (await mesh.call("reader", "GET", "/control/routing/readers")).json()
    assert shown["late"] == [
        {"cluster": "ap-south", "namespace": "default", "consumer": "billing", "principal": "client/b", "epoch": 1}
    ]
    assert (shown["readers"], shown["readers_behind"], shown["clusters_behind"]) == (3, 1, ["us-east"])
    text = (await mesh.call("reader", "GET", path, headers={"Accept": "text/markdown"})).text
    assert "| Readers | 2 of 3 have acknowledged routing version 2; us-east shows an older one |" in text
    assert "| ap-south | default | billing | client/b | 1 |" in text


async def test_fm20_the_report_of_what_is_completed_stays_as_it_was_whoever_reads_by_then(mesh, agents):
    """Its digest is in change tickets and in what a run hands on: whoever reads it later must find the same bytes."""
    failover_id = await mesh.approved()
    for step in ("drain", "promote", "verify"):
        await mesh.step(failover_id, step)
    late = ReaderBehind("default", "billing", "client/b", 1)
    version = mesh.view.routing.version
    counts = {"readers": {"default": 3}, "readers_behind": {"default": 1}, "late": (late,)}
    await mesh.report("ap-south", routing_version=version, **counts)
    await mesh.view.refresh()
    assert (await mesh.step(failover_id, "complete")).json()["state"] == "completed"

    async def read() -> list[str]:
        path = f"/control/failovers/{failover_id}/report"
        return [(await mesh.call("reader", "GET", path, headers={"Accept": a})).text for a in ("*/*", "text/markdown")]

    as_json, as_markdown = first = await read()
    assert json.loads(as_json)["readers"]["late"] == [
        {"cluster": "ap-south", "namespace": "default", "consumer": "billing", "principal": "client/b", "epoch": 1}
    ]
    assert "| Readers | 2 of 3 have acknowledged routing version 2" in as_markdown
    await mesh.report("ap-south", routing_version=version, readers={"default": 7})
    await mesh.view.refresh()
    assert (await mesh.call("reader", "GET", "/control/routing/readers")).json()["readers"] == 7
    assert (await mesh.step(failover_id, "abort")).status_code == 409
    refused = (await mesh.auditor.entries(0, 100))[-1]
    assert (refused.subject, refused.outcome) == (f"failovers/{failover_id}", "refused")
    assert await read() == first


async def test_the_report_of_what_never_moved_stays_as_it_was_too(mesh):
    failover_id = await mesh.approved()
    await mesh.step(failover_id, "abort")
    path = f"/control/failovers/{failover_id}/report"
    first = (await mesh.call("reader", "GET", path)).text
    await mesh.report("ap-south", routing_version=mesh.view.routing.version, readers={"default": 7})
    await mesh.view.refresh()
    assert (await mesh.call("reader", "GET", path)).text == first
    assert json.loads(first)["readers"] is None
    text = (await mesh.call("reader", "GET", path, headers={"Accept": "text/markdown"})).text
    assert "Readers" not in text
