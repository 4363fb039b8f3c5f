"""When a cluster may admit: routing, claim, lease and its own clock must agree, and each of them alone can end it."""

import asyncio

import pytest
from tests.package.unit.runtime.mesh import TIMING, Producer, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import Draining, NotActive, UnknownNamespace
from omnirelay.failover.evidence import LeaseClaim
from omnirelay.failover.record import Mode
from omnirelay.ports.coordination import Delete, Put
from omnirelay.runtime.documents import LEASES, LOCKS
from omnirelay.testing.memory_coordination import Fault

TTL, MARGIN = TIMING.lease_ttl, TIMING.lease_margin


def hanging_watch(site):
    """It gets no changes and reads nothing again; its lease goes on being renewed."""
    view = site.replicator.view
    view._apply = lambda changes: None

    async def refresh():
        return view.revision

    view.refresh = refresh


async def ended(site, within):
    """Seconds until it admits no more; it must not take longer than `within`."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(within):
        while site.admitting:  # noqa: ASYNC110  (in virtual time)
            await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - began


class TestAClaimThatSomebodyDeleted:
    @in_virtual_time
    async def test_it_ends_at_once_where_it_is_seen(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await mesh.store.transact([], [Put(LEASES.key("default"), LEASES.encode(LeaseClaim("ap-south", 9)))])
            assert await ended(mesh["us-east"], 0.5) < 0.1

    @in_virtual_time
    async def test_fm08_it_ends_within_a_ttl_also_for_a_holder_whose_watch_hangs(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            hanging_watch(mesh["us-east"])
            await mesh.store.transact([], [Delete(LEASES.key("default"))])
            assert await ended(mesh["us-east"], TTL) <= TTL - MARGIN
            with pytest.raises(NotActive, match="holds no lease"):
                mesh["us-east"].replicator.ownerships.admit("default")

    @in_virtual_time
    async def test_a_renewal_says_nothing_of_a_claim_that_is_gone(self, tmp_path):
        """The lease lives on: reports go on, and other claims of the same lease are good."""
        async with running_mesh(tmp_path, namespaces=("default", "orders")) as mesh:
            site = mesh["us-east"]
            hanging_watch(site)
            await mesh.store.transact([], [Delete(LEASES.key("default"))])
            await asyncio.sleep(10 * TTL)
            assert site.admitting == {"orders": 1}
            assert site.replicator.ownerships.lease_remaining() > 0

    @in_virtual_time
    async def test_one_that_was_written_over_is_no_claim_either(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            hanging_watch(mesh["us-east"])
            same = Put(LEASES.key("default"), LEASES.encode(LeaseClaim("us-east", 1)))
            await mesh.store.transact([], [same])
            assert await ended(mesh["us-east"], TTL) <= TTL - MARGIN

    @in_virtual_time
    async def test_where_nothing_bars_it_the_owner_claims_again(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await mesh.store.transact([], [Delete(LEASES.key("default"))])
            await asyncio.sleep(1.0)
            assert await mesh.claims() == {"default": "us-east"}
            assert mesh["us-east"].admitting == {"default": 1}


class TestTheStore:
    @in_virtual_time
    async def test_fm05_without_it_the_active_stops_a_margin_before_its_lease_ends_there(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            site = mesh["us-east"]
            site.client.fault = Fault.UNAVAILABLE
            silent = mesh.now
            await mesh.until(lambda: not site.admitting)
            assert mesh.now - silent <= TTL - MARGIN
            assert await mesh.claims() == {"default": "us-east"}, "there it is still held"

    @in_virtual_time
    async def test_when_it_is_back_the_same_epoch_is_claimed_again(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            site = mesh["us-east"]
            site.client.fault = Fault.UNAVAILABLE
            await asyncio.sleep(3 * TTL)
            site.client.fault = None
            await mesh.until(lambda: site.admitting == {"default": 1})
            await Producer(site).publish("a")

    @in_virtual_time
    async def test_answers_that_are_lost_renew_nothing(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            mesh["us-east"].client.fault = Fault.ANSWER_LOST
            assert await ended(mesh["us-east"], TTL) <= TTL - MARGIN


class TestTheLock:
    @in_virtual_time
    async def test_a_claim_that_was_decided_before_an_emergency_took_the_lock_does_not_come_true_after(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            client = mesh["us-east"].client
            transact, gate, outcomes = client.transact, asyncio.Event(), []

            async def late(compares, writes):
                await gate.wait()
                outcome = await transact(compares, writes)
                outcomes.extend(outcome.succeeded for w in writes if w.key == LEASES.key("default"))
                return outcome

            client.transact = late
            await mesh.store.transact([], [Delete(LEASES.key("default"))])
            await asyncio.sleep(0.5)
            await mesh.store.transact([], [Put(LOCKS.key("default"), LOCKS.encode("fo-9"))])
            gate.set()
            await mesh.until(lambda: outcomes)
            assert outcomes[0] is False

    @in_virtual_time
    async def test_a_lock_that_is_seen_and_bars_nobody_is_no_obstacle(self, tmp_path):
        """A planned failover holds the lock while the source still has to renew what it owns."""
        async with running_mesh(tmp_path) as mesh:
            await mesh.store.transact([], [Put(LOCKS.key("default"), LOCKS.encode("fo-9"))])
            await mesh.store.transact([], [Delete(LEASES.key("default"))])
            await mesh.until(lambda: mesh["us-east"].admitting == {"default": 1})

    @in_virtual_time
    async def test_another_s_claim_that_stands_is_respected(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await mesh.store.transact([], [Put(LEASES.key("default"), LEASES.encode(LeaseClaim("ap-south", 1)))])
            await asyncio.sleep(5 * TTL)
            assert await mesh.claims() == {"default": "ap-south"}
            assert mesh["us-east"].admitting == {}


class TestTheAcknowledgement:
    @in_virtual_time
    async def test_a_process_that_was_paused_since_the_append_does_not_acknowledge(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            site = mesh["us-east"]
            commits = asyncio.Event()
            site.log.before_commit = commits.wait
            publishing = asyncio.create_task(Producer(site).publish("a"))
            await asyncio.sleep(0.5)
            site.client.fault = Fault.UNAVAILABLE
            await asyncio.sleep(TTL)
            commits.set()
            with pytest.raises(NotActive):
                await publishing
            assert site.vector == {"us-east": 1}, "it is committed, and will be fenced or sent again"

    @in_virtual_time
    async def test_nor_one_whose_claim_was_taken_meanwhile(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            site = mesh["us-east"]
            commits = asyncio.Event()
            site.log.before_commit = commits.wait
            publishing = asyncio.create_task(Producer(site).publish("a"))
            await asyncio.sleep(0.5)
            await mesh.store.transact([], [Put(LEASES.key("default"), LEASES.encode(LeaseClaim("ap-south", 2)))])
            await ended(site, 1.0)
            commits.set()
            with pytest.raises(NotActive):
                await publishing


class TestAsking:
    @in_virtual_time
    async def test_where_to_go_is_told_with_the_refusal(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            with pytest.raises(NotActive) as refused:
                mesh["eu-west"].replicator.ownerships.admit("default")
            told = {key: refused.value.details[key] for key in ("cluster", "epoch", "endpoint")}
            assert told == {"cluster": "us-east", "epoch": 1, "endpoint": "us-east.example:7443"}

    @in_virtual_time
    async def test_a_closed_namespace_admits_nothing_but_finishes_what_it_admitted(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            ownerships = mesh["us-east"].replicator.ownerships
            ownerships.close("default", "eu-west")
            with pytest.raises(Draining, match="handed over to eu-west"):
                ownerships.admit("default")
            ownerships.still("default", 1)
            ownerships.reopen("default")
            assert ownerships.admit("default").epoch == 1

    @in_virtual_time
    async def test_fm08_who_was_fenced_says_so_also_while_its_log_is_read_again(self, tmp_path):
        """The epoch that fences an active makes it read its log again; it said that its log was busy, and producers
        tried again there."""
        async with running_mesh(tmp_path) as mesh:
            failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED)
            for step in ("drain", "promote"):
                failover = await mesh["eu-west"].step(failover, step)
            await mesh.until(lambda: not mesh["us-east"].admitting)
            mesh["us-east"].replicator.sequencer._lost(None)
            with pytest.raises(NotActive) as refused:
                mesh["us-east"].replicator.ownerships.admit("default")
            assert refused.value.details["cluster"] == "eu-west"

    @in_virtual_time
    async def test_a_namespace_that_is_not_known_is_named_with_those_that_are(self, tmp_path):
        async with running_mesh(tmp_path, namespaces=("default", "orders")) as mesh:
            with pytest.raises(UnknownNamespace) as refused:
                mesh["us-east"].replicator.ownerships.admit("mars")
            assert refused.value.details["known"] == "default, orders"

    @in_virtual_time
    async def test_a_new_process_claims_anew_what_its_former_self_held(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await mesh["us-east"].kill()
            began = mesh.now
            await mesh["us-east"].start()
            await mesh.until(lambda: mesh["us-east"].admitting == {"default": 1})
            assert mesh.now - began < 1.0, "the log's own lock proves that the former one is gone"


@in_virtual_time
async def test_i4_who_gives_its_lease_back_acknowledges_nothing_from_before_it_does(tmp_path):
    """A process that was being stopped acknowledged what came from the disk after another could have been promoted."""
    async with running_mesh(tmp_path) as mesh:
        site = mesh["us-east"]
        assert site.admitting
        revoke, admitted_meanwhile = site.client.revoke_lease, []

        async def watched(lease):
            admitted_meanwhile.append(site.admitting)
            await revoke(lease)

        site.client.revoke_lease = watched
        await site.replicator.release()
        assert admitted_meanwhile == [{}]
        with pytest.raises(NotActive):
            site.replicator.ownerships.still("default", 1)
