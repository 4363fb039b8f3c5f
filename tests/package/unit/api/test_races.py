"""Two callers, one mesh: what the compare-and-set lets happen once, and what the other one is told."""

import asyncio

from tests.package.unit.api.mesh import PLAN, Agents, background

from omnirelay.errors import DrainTimedOut
from omnirelay.failover import workflow
from omnirelay.failover.record import State
from omnirelay.model.times import rfc3339
from omnirelay.runtime.audit import Actor

SOURCE = Actor("cluster/us-east", "system")


async def drained(mesh) -> str:
    failover_id = await mesh.approved()
    async with background(Agents(mesh, ("demote", "reach")).run()):
        assert (await mesh.step(failover_id, "drain")).json()["state"] == "drained"
    return failover_id


async def expire(mesh, failover_id: str) -> None:
    """What the source does by itself when the drain's deadline passes."""
    now = rfc3339(mesh.clock.wall_ms())
    await mesh.failovers.mutate(failover_id, lambda f: workflow.expire_drain(f, now), SOURCE, "failover.expired")


def actions(entries, outcome="done"):
    return [entry.action for entry in entries if entry.outcome == outcome]


class TestPromotion:
    async def test_of_two_concurrent_promotions_one_writes_and_both_are_told_of_it(self, mesh):
        failover_id = await drained(mesh)
        answers = await asyncio.gather(*(mesh.step(failover_id, "promote", wait=0) for _ in range(4)))
        assert {answer.json()["state"] for answer in answers} == {"promoted"}
        assert {answer.json()["routing_version"] for answer in answers} == {2}
        assert mesh.view.routing.version == 2
        assert [o.epoch for o in mesh.view.routing.routes["default"].history] == [1, 2]
        assert actions(await mesh.auditor.entries(0, 100)).count("failover.promote") == 1

    async def test_abort_and_promote_exclude_each_other(self, mesh):
        failover_id = await drained(mesh)
        promoted, aborted = await asyncio.gather(
            mesh.step(failover_id, "promote", wait=0), mesh.step(failover_id, "abort")
        )
        state = await mesh.state(failover_id)
        loser = aborted if state is State.PROMOTED else promoted
        assert state in (State.PROMOTED, State.ABORTED)
        assert loser.status_code == 409
        assert loser.json()["code"] == "illegal_transition"
        assert mesh.view.routing.version == (2 if state is State.PROMOTED else 1)

    async def test_an_abort_that_came_first_leaves_the_routing_alone(self, mesh):
        failover_id = await drained(mesh)
        await mesh.step(failover_id, "abort")
        refused = await mesh.step(failover_id, "promote")
        assert (refused.status_code, refused.json()["code"]) == (409, "illegal_transition")
        assert mesh.view.routing.version == 1
        assert mesh.view.locks == {}

    async def test_routing_that_moved_meanwhile_stops_the_promotion(self, mesh):
        failover_id = await drained(mesh)
        await mesh.own({"default": "ap-south", "orders": "us-east"})
        refused = await mesh.step(failover_id, "promote")
        assert (refused.status_code, refused.json()["code"]) == (409, "epoch_moved")


class TestDrain:
    async def test_a_drain_that_undid_itself_tells_whoever_waits(self, mesh):
        failover_id = await mesh.approved()
        waiting = asyncio.create_task(mesh.step(failover_id, "drain"))
        while mesh.view.failovers[failover_id].state is not State.DRAINING:
            await mesh.view.changed.wait_beyond(mesh.view.changed.version)
        await expire(mesh, failover_id)
        answer = await waiting
        assert (answer.status_code, answer.json()["code"]) == (409, DrainTimedOut.code)
        assert mesh.view.locks == {}

    async def test_and_whoever_asks_again_after_a_202(self, mesh):
        failover_id = await mesh.approved()
        assert (await mesh.step(failover_id, "drain", wait=0)).status_code == 202
        await expire(mesh, failover_id)
        for step in ("drain", "promote"):
            answer = await mesh.step(failover_id, step)
            assert (answer.status_code, answer.json()["code"]) == (409, DrainTimedOut.code), step

    async def test_expiry_and_promotion_exclude_each_other(self, mesh):
        failover_id = await drained(mesh)
        promoted, expired = await asyncio.gather(
            mesh.step(failover_id, "promote", wait=0), expire(mesh, failover_id), return_exceptions=True
        )
        state = await mesh.state(failover_id)
        if state is State.PROMOTED:
            assert promoted.status_code == 202
            assert isinstance(expired, Exception)
        else:
            assert (state, promoted.json()["code"]) == (State.ABORTED, DrainTimedOut.code)
        assert mesh.view.routing.version == (2 if state is State.PROMOTED else 1)

    async def test_the_second_failover_of_a_namespace_is_told_which_one_holds_it(self, mesh):
        first, second = await mesh.approved(), await mesh.approved(reason="another", namespaces=["orders"])
        assert (await mesh.step(first, "drain", wait=0)).status_code == 202
        for dry_run in (True, False):
            refused = await mesh.step(second, "drain", dry_run=dry_run)
            assert (refused.status_code, refused.json()["code"]) == (409, "operation_in_progress")
            assert refused.json()["details"]["failover_id"] == first
            assert first in refused.json()["hint"]

    async def test_of_two_concurrent_drains_of_a_namespace_one_holds_it(self, mesh):
        ids = [await mesh.approved(reason=reason) for reason in ("one", "two")]
        answers = await asyncio.gather(*(mesh.step(failover_id, "drain", wait=0) for failover_id in ids))
        winner = ids[[answer.status_code for answer in answers].index(202)]
        loser = next(answer for answer in answers if answer.status_code != 202)
        assert loser.json()["code"] == "operation_in_progress"
        assert loser.json()["details"]["failover_id"] == winner
        assert set(mesh.view.locks.values()) == {winner}

    async def test_failovers_of_different_namespaces_go_side_by_side(self, mesh):
        ids = [await mesh.approved(namespaces=[name], reason=name) for name in ("default", "orders")]
        for failover_id in ids:
            assert (await mesh.step(failover_id, "drain", wait=0)).status_code == 202
        assert mesh.view.locks == dict(zip(("default", "orders"), ids, strict=True))


class TestVerification:
    async def promoted(self, mesh) -> str:
        failover_id = await drained(mesh)
        async with background(Agents(mesh, ("open_writes",)).run()):
            assert (await mesh.step(failover_id, "promote")).status_code == 200
        return failover_id

    async def test_it_may_fail_and_be_asked_for_again(self, mesh):
        failover_id = await self.promoted(mesh)
        assert (await mesh.step(failover_id, "verify", wait=0)).status_code == 202
        await mesh.failovers.mutate(
            failover_id, lambda f: workflow.fail_verify(f, "cluster/eu-west", rfc3339(0)), SOURCE, "failover.failed"
        )
        current = (await mesh.call("reader", "GET", f"/control/failovers/{failover_id}")).json()
        assert (current["state"], current["next"]) == ("verify_failed", ["verify", "complete"])
        async with background(Agents(mesh).run()):
            assert (await mesh.step(failover_id, "verify")).json()["state"] == "verified"

    async def test_whoever_waits_is_told_that_it_failed(self, mesh):
        failover_id = await self.promoted(mesh)
        waiting = asyncio.create_task(mesh.step(failover_id, "verify"))
        while not mesh.view.failovers[failover_id].verify_requested_at:
            await mesh.view.changed.wait_beyond(mesh.view.changed.version)
        await mesh.failovers.mutate(
            failover_id, lambda f: workflow.fail_verify(f, "cluster/eu-west", rfc3339(0)), SOURCE, "failover.failed"
        )
        answer = await waiting
        assert (answer.status_code, answer.json()["code"]) == (409, "verify_failed")

    async def test_after_promotion_there_is_no_abort(self, mesh):
        failover_id = await self.promoted(mesh)
        refused = await mesh.step(failover_id, "abort")
        assert (refused.status_code, refused.json()["code"]) == (409, "illegal_transition")
        assert "verify" in refused.json()["details"]["allowed"]


class TestIdempotencyKey:
    async def post(self, mesh, path, key, name="alice", **options):
        return await mesh.call(name, "POST", path, headers={"Idempotency-Key": key}, **options)

    async def test_the_same_key_gets_the_same_answer(self, mesh):
        first = await self.post(mesh, "/control/failovers", "k1", json=PLAN)
        again = await self.post(mesh, "/control/failovers", "k1", json=PLAN)
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["Location"] == first.headers["Location"]
        assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]

    async def test_concurrent_calls_with_one_key_make_one_plan(self, mesh):
        answers = await asyncio.gather(*(self.post(mesh, "/control/failovers", "k1", json=PLAN) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {201}
        assert len(mesh.view.failovers) == 1

    async def test_a_key_is_for_one_request(self, mesh):
        await self.post(mesh, "/control/failovers", "k1", json=PLAN)
        reused = await self.post(mesh, "/control/failovers", "k1", json={**PLAN, "target": "ap-south"})
        assert (reused.status_code, reused.json()["code"]) == (409, "idempotency_key_reused")

    async def test_a_key_is_one_persons(self, mesh):
        await self.post(mesh, "/control/failovers", "k1", json=PLAN)
        other = await self.post(mesh, "/control/failovers", "k1", name="root", json={**PLAN, "reason": "mine"})
        assert other.status_code == 201

    async def test_what_was_not_finished_is_tried_again(self, mesh):
        failover_id = await mesh.approved()
        path = f"/control/failovers/{failover_id}/drain"
        assert (await self.post(mesh, path, "k1", params={"wait": 0})).status_code == 202
        async with background(Agents(mesh).run()):
            assert (await self.post(mesh, path, "k1", params={"wait": 30})).json()["state"] == "drained"

    async def test_an_error_is_tried_again(self, mesh):
        await mesh.report("eu-west", problems=("disk full",))
        assert (await self.post(mesh, "/control/failovers", "k1", json=PLAN)).status_code == 409
        await mesh.report("eu-west")
        assert (await self.post(mesh, "/control/failovers", "k1", json=PLAN)).status_code == 201


async def test_forty_promotions_at_once_do_not_wear_each_other_out(mesh, agents):
    """All of them change the one routing document, and each may only try so often."""
    names = [f"n{number:02}" for number in range(40)]
    await mesh.own(dict.fromkeys(names, "us-east"))
    ids = [await mesh.approved(namespaces=[name]) for name in names]
    for failover_id in ids:
        await mesh.step(failover_id, "drain")
    answers = await asyncio.gather(*(mesh.step(failover_id, "promote") for failover_id in ids))
    assert [answer.status_code for answer in answers] == [200] * len(ids), answers[-1].text
