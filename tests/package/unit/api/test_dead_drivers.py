"""What is left by whoever drove a failover and is not there any more; and readers while it goes on."""

import pytest
from tests.package.unit.api.mesh import PLAN

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
