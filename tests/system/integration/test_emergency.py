"""Emergencies on real processes: the manifest against the ledgers, the zombie, the returning active, refusals, the way
home (I2, I5, I10, I11; fm01, fm07, fm08, fm09, fm10, fm11, fm12, fm13, fm23, fm24).

One mesh goes through all of it. Each test leaves every cluster running, with nothing open and one active.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.system.support import rpc
from tests.system.support.disasters import (
    ACCEPTED,
    LEASE_TTL_SECONDS,
    WINDOW_SECONDS,
    DisasterLoad,
    Placed,
    carry_out,
    compare_all,
    divergences,
    emergency,
    exact_manifest,
    exported,
    fail_back,
    failed,
    first_acknowledged_at,
    going_home,
    grades,
    manifest,
    merged,
    only_active,
    promote,
    ranges_of,
    resolve_all,
    unresolved,
    why_not_home,
)
from tests.system.support.driving import Driver, request
from tests.system.support.ledgers import ProducingLedger
from tests.system.support.meshes import ProxiedMesh
from tests.system.support.waiting import until

from omnirelay.demo.mesh import APPROVER, CLIENT, LocalMesh
from omnirelay.errors import (
    AccessDenied,
    FailbackRefused,
    LossNotAccepted,
    OmniRelayError,
    OperationInProgress,
    PlanHashMismatch,
    PreflightFailed,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def load(mesh: LocalMesh) -> Iterator[DisasterLoad]:
    with DisasterLoad(mesh) as working:
        yield working


def others(mesh: LocalMesh, *known: str) -> list[str]:
    return [cluster for cluster in mesh.clusters if cluster not in known]


def hold_back(mesh: LocalMesh, *clusters: str) -> None:
    for cluster in clusters:
        mesh.pause(cluster)


def let_go(mesh: LocalMesh, *clusters: str) -> None:
    for cluster in clusters:
        mesh.resume(cluster)


def acknowledged_since(ledger: ProducingLedger, count: int) -> Callable[[], bool]:
    begin = len(ledger.promised)
    return lambda: len(ledger.promised) >= begin + count


# --- what is lost is known exactly -----------------------------------------------------------------------------------


def test_fm09_fm10_fm23_a_killed_active_with_its_producers_the_manifest_is_the_ledgers_loss_to_the_record(
    mesh: LocalMesh, load: DisasterLoad
) -> None:
    home = only_active(mesh)
    target, third = others(mesh, home)
    with load.producing() as living, load.doomed("doomed-a") as dead:
        living.flowing()
        dead.flowing()
        hold_back(mesh, target, third)
        until(acknowledged_since(dead.ledger, 200), "the lag has grown")
        killed_at = ProducingLedger.now()
        mesh.kill(home)
        dead.kill()
        let_go(mesh, target, third)
        failover = promote(mesh, target)
        first = until(lambda: first_acknowledged_at(living.ledger, target, killed_at), "writes are taken again")
        print(f"writes are taken again after {first - killed_at:.2f} s")
        assert first - killed_at < WINDOW_SECONDS
        living.flowing()
        # Nothing of the tail can be here: neither is it delivered, nor does the manifest claim to know it exactly.
        assert all(not each["exact"] for each in manifest(mesh, target, failover["id"]))

        promised = set(dead.ledger.promised)
        load.settle(living.ledger, [target, third])
        lost = promised - load.holds(target)
        assert lost, "the test has to lose something"
        assert lost.isdisjoint(load.holds(third))

        mesh.start(home)
        (diverged,) = until(lambda: unresolved(mesh, target), "the tail came back")
        load.settle(living.ledger, [home])
        tail = until(
            lambda: (e := exported(mesh, target, diverged["id"])) and lost <= {r.value for r in e} and e,
            "all of the tail is here",
        )
        said = exact_manifest(mesh, target, failover["id"], len(tail))

        # Range by range, in both directions.
        assert merged(said) == ranges_of(record.sequence for record in tail)
        by_dead = {r.value: r.sequence for r in tail if r.value.startswith(b"doomed-a")}
        sent = {value for sending in dead.ledger.sendings for value in sending.values}
        assert by_dead.keys() & promised == lost
        assert by_dead.keys() - promised <= sent - promised, "what is there beyond is in doubt, and nothing else"
        assert {dead.ledger.places[v].sequence for v in lost} == {by_dead[v] for v in lost}
        assert {dead.ledger.places[v].origin for v in lost} == {diverged["origin"]} == {e["origin"] for e in said}
        # What living producers had unreplicated, they have sent again.
        open_ = {r.value for r in tail if r.fate == "open"}
        assert open_ == by_dead.keys()
        assert grades(said) == {"fenced": len(open_)} | (
            {"superseded": len(tail) - len(open_)} if len(tail) > len(open_) else {}
        )

        # Fenced means not delivered, by anyone; who had read it, was told exactly that.
        for cluster in mesh.clusters:
            assert open_.isdisjoint(load.holds(cluster)), cluster
        for fence, given_back in load.reading[home].notices:
            assert [each.record.value for each in fence.withdrawn] == given_back
        assert load.reading[home].fences == 1

        until(lambda: why_not_home(mesh, target, failover["id"]) == {"divergence_resolved"}, "only the tail is open")

        resolve_all(mesh, target, failover["id"])
        back = until(
            lambda: (m := manifest(mesh, target, failover["id"])) and not grades(m)["fenced"] and m, "it is told so"
        )
        assert grades(back)["recovered"] == len(open_)
        returned = fail_back(mesh, target, failover["id"])
        assert returned["state"] == "completed"
        living.flowing()
    assert only_active(mesh) == home
    seen = living.comparison()
    assert (seen.lost, seen.duplicated, seen.reordered) == (0, 0, 0), seen
    load.settle(dead.ledger)
    seen = compare_all(load, living.ledger, dead.ledger)
    assert seen.faultless, seen


def test_fm11_an_emergency_in_a_lag_spike_of_100_000_records_keeps_its_window_and_its_manifest(
    mesh: LocalMesh, load: DisasterLoad
) -> None:
    home = only_active(mesh)
    target, third = others(mesh, home)
    spike = Placed()
    with load.producing(producers=1, records=1) as living:
        living.flowing()
        hold_back(mesh, target, third)
        load.publish(spike, "spike-a", batches=1000, records=100)
        killed_at = ProducingLedger.now()
        mesh.kill(home)
        let_go(mesh, target, third)
        failover = promote(mesh, target)
        first = until(lambda: first_acknowledged_at(living.ledger, target, killed_at), "writes are taken again")
        print(f"writes are taken again after {first - killed_at:.2f} s")
        assert first - killed_at < WINDOW_SECONDS
        living.flowing()
    load.settle(living.ledger, [target, third])
    lost = set(spike.promised) - load.holds(target)
    print(f"{len(lost)} of {len(spike.promised)} acknowledged records are lost")
    assert len(lost) > 50_000
    mesh.start(home)
    until(lambda: [d for d in divergences(mesh, target) if d["records"] >= len(lost)], "the tail came back", 60.0)
    tail = exported(mesh, target, f"default.{failover['plan']['routing'][0]['epoch_before']}")
    said = exact_manifest(mesh, target, failover["id"], len(tail))
    assert merged(said) == ranges_of(record.sequence for record in tail)
    assert {r.value for r in tail if r.value.startswith(b"spike-a")} == lost
    resolve_all(mesh, target, failover["id"])
    load.settle(spike)
    fail_back(mesh, target, failover["id"])
    seen = compare_all(load, living.ledger, spike)
    assert seen.faultless, seen


# --- the old active ---------------------------------------------------------------------------------------------------


class HeldStream:
    """A producer's stream that sends what and when the test says, and notes every answer."""

    def __init__(self, address: str, mesh: LocalMesh, producer: str) -> None:
        self._more = threading.Condition()
        self._queue: list[Any] = [rpc.open_message(producer=producer)]
        self._ended = False
        self.acknowledged: list[int] = []
        self.error = ""
        self._thread = threading.Thread(target=self._run, args=(address, mesh))
        self._thread.start()

    def send(self, sequence: int, value: bytes) -> None:
        with self._more:
            self._queue.append(rpc.batch_message(sequence, rpc.record_set(value)))
            self._more.notify()

    def join(self) -> None:
        with self._more:
            self._ended = True
            self._more.notify()
        self._thread.join()

    def _requests(self) -> Iterator[Any]:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._queue or self._ended)
                if not self._queue:
                    return
                message = self._queue.pop(0)
            yield message

    def _run(self, address: str, mesh: LocalMesh) -> None:
        with rpc.channel(address, mesh.credentials(CLIENT)) as opened:
            stub = rpc.events_pb2_grpc.EventServiceStub(opened)
            answer = rpc.answer_of(self._noting(stub.Publish(self._requests(), timeout=120.0)))
            self.error = answer.code or str(answer.status)

    def _noting(self, call: Any) -> Any:
        outer = self

        class Noting:
            def __iter__(self) -> Iterator[Any]:
                for message in call:
                    if message.HasField("ack"):
                        outer.acknowledged.append(message.ack.producer_sequence)
                    yield message

            def cancel(self) -> None:
                call.cancel()

        return Noting()


def test_fm08_a_zombie_active_acknowledges_nothing_after_another_was_promoted(
    mesh: LocalMesh, load: DisasterLoad
) -> None:
    home = only_active(mesh)
    target, _ = others(mesh, home)
    zombie = mesh.members[home].grpc
    stream = HeldStream(zombie, mesh, "zombie-a")
    with load.producing() as living:
        living.flowing()
        stream.send(1, b"zombie-a#1#")
        until(lambda: stream.acknowledged == [1], "it takes writes while it lives")
        # Acknowledged is durable here only: what no other cluster has would be fenced, rightly.
        for cluster in mesh.clusters:
            until(lambda c=cluster: b"zombie-a#1#" in load.holds(c), "it is everywhere before its cluster stops")
        mesh.pause(home)
        stream.send(2, b"zombie-a#2#")
        failover = promote(mesh, target)
        living.flowing()
        mesh.resume(home)
        stream.send(3, b"zombie-a#3#")
        stream.join()
        assert stream.acknowledged == [1]
        assert stream.error == "not_active"
        refused = rpc.publish(zombie, mesh.credentials(CLIENT), [rpc.open_message()])
        assert refused.code == "not_active"
        assert refused.details["cluster"] == target
        living.flowing()
    assert failover["state"] == "completed"
    assert only_active(mesh) == target
    seen = living.comparison()
    assert (seen.lost, seen.duplicated, seen.reordered, seen.consistent) == (0, 0, 0, True), seen
    for cluster in mesh.clusters:
        until(lambda c=cluster: b"zombie-a#1#" in load.holds(c), "what was acknowledged is there")
        assert load.holds(cluster).isdisjoint({b"zombie-a#2#", b"zombie-a#3#"})
    resolve_all(mesh, target, failover["id"])
    fail_back(mesh, target, failover["id"])


def test_fm07_a_source_that_lives_is_not_gone_and_break_glass_fences_it_at_once(
    mesh: LocalMesh, load: DisasterLoad
) -> None:
    home = only_active(mesh)
    target, _ = others(mesh, home)
    with load.producing() as living:
        living.flowing()
        with Driver(mesh, target).client() as client, pytest.raises(PreflightFailed) as refused:
            client.plan_failover(emergency(target))
        gone = failed(refused.value)["source_gone"]
        assert "admits writes" in gone["observed"]
        assert "--break-glass" in gone["hint"]
        living.flowing()
        with mesh.control(APPROVER, clusters=[target]) as other, pytest.raises(OmniRelayError) as denied:
            other.plan_failover(emergency(target, break_glass=True))
        assert denied.value.code == "permission_denied"

        with Driver(mesh, target).client() as client:
            planned = client.plan_failover(emergency(target, break_glass=True, reason="it cannot be trusted"))
            began_at = ProducingLedger.now()
            failover = carry_out(mesh, target, planned)
        first = until(lambda: first_acknowledged_at(living.ledger, target, began_at), "writes are taken again")
        print(f"writes are taken again after {first - began_at:.2f} s")
        assert "demoted" in [entry["event"] for entry in failover["journal"] if entry["step"] == "fence"]
        assert first - began_at < LEASE_TTL_SECONDS / 2, "nobody waits for the lease of who has confirmed"
        living.flowing()
    seen = living.comparison()
    assert seen.faultless, seen
    resolve_all(mesh, target, failover["id"])
    fail_back(mesh, target, failover["id"])
    assert only_active(mesh) == home


# --- the best candidate ----------------------------------------------------------------------------------------------


def test_fm12_a_target_that_lags_behind_the_third_gathers_from_it_first(mesh: LocalMesh, load: DisasterLoad) -> None:
    home = only_active(mesh)
    target, third = others(mesh, home)
    with load.doomed("doomed-b") as dead:
        dead.flowing()
        mesh.pause(target)
        until(acknowledged_since(dead.ledger, 200), "the target lags")
        load.settle(dead.ledger, [third])
        mesh.kill(home)
        dead.kill()
        mesh.resume(target)
        failover = promote(mesh, target, at=third)
    # All that the third had been given is there: the cut was taken after the gather.
    on_third = load.holds(third)
    until(lambda: on_third <= load.holds(target), "what the third held is valid")
    mesh.start(home)
    until(lambda: set(dead.ledger.promised) - load.holds(home) == set(dead.ledger.promised) - on_third, "it is level")
    resolve_all(mesh, target, failover["id"])
    load.settle(dead.ledger)
    seen = compare_all(load, dead.ledger)
    assert seen.faultless, seen
    fail_back(mesh, target, failover["id"])


def test_fm12_a_target_that_lags_and_does_not_receive_from_the_best_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home, target, best = "us-east", "eu-west", "ap-south"
    directory = tmp_path_factory.mktemp("best") / "m"
    with (
        ProxiedMesh(directory, proxied=[best]) as mesh,
        DisasterLoad(mesh, endpoints=[mesh.members[home].grpc]) as load,
    ):
        with load.doomed("doomed-c") as dead:
            dead.flowing()
            mesh.pause(target)
            until(acknowledged_since(dead.ledger, 200), "the target lags")
            load.settle(dead.ledger, [best])
            mesh.proxies[best].hold()
            mesh.kill(home)
            dead.kill()
            mesh.resume(target)

        def refusal() -> dict[str, Any]:
            with Driver(mesh, target).client() as client:
                try:
                    client.plan_failover(emergency(target, dry_run=True))
                except PreflightFailed as error:
                    against = failed(error)
                    return against.get("best_candidate", {}) if "source_gone" not in against else {}
            return {}

        why = until(refusal, "the lagging target is refused")
        assert best in why["observed"]
        assert f"promote {best} --emergency" in why["hint"]
        mesh.proxies[best].release()
        failover = promote(mesh, best)
        until(lambda: set(dead.ledger.promised) & load.holds(best) <= load.holds(target), "the target catches up")
        assert failover["state"] == "completed"


# --- refusals --------------------------------------------------------------------------------------------------------


def test_fm01_two_operations_on_one_namespace_one_wins_and_the_other_is_told_who(
    mesh: LocalMesh, load: DisasterLoad
) -> None:
    home = only_active(mesh)
    target, third = others(mesh, home)
    with load.producing() as living:
        living.flowing()
        planned = Driver(mesh, third).plan(request(third))
        mesh.kill(home)
        one = Driver(mesh, target).plan(emergency(target))
        two = Driver(mesh, third).plan(emergency(third))
        assert one["id"] != two["id"]
        with mesh.control(clusters=[target]) as here, mesh.control(clusters=[third]) as there:
            here.step(one["id"], "promote", wait_seconds=0.0)
            with pytest.raises(OperationInProgress) as refused:
                there.step(two["id"], "promote", wait_seconds=0.0)
            assert refused.value.details["failover_id"] == one["id"]
            assert one["id"] in refused.value.operator_hint
            with mesh.control(APPROVER, clusters=[third]) as approver:
                approver.decide(planned["id"], "approve", plan_hash=planned["plan"]["hash"])
            with pytest.raises(OperationInProgress) as refused:
                there.step(planned["id"], "drain", wait_seconds=0.0)
            assert refused.value.details["failover_id"] == one["id"]
            with pytest.raises(FailbackRefused) as too_early:
                here.plan_failover(going_home(one["id"]))
            assert f"failovers resume {one['id']}" in too_early.value.operator_hint
            failover = carry_out(mesh, target, one)
            # Afterwards the other plan is for an epoch that is over.
            with pytest.raises(OmniRelayError) as late:
                there.step(two["id"], "promote", wait_seconds=0.0)
            print(f"afterwards: {late.value.code}: {late.value.message}")
            assert late.value.exit_code in (3, 6)
        living.flowing()
        mesh.start(home)
        resolve_all(mesh, target, failover["id"])
        fail_back(mesh, target, failover["id"])
        living.flowing()
    seen = living.comparison()
    assert seen.faultless, seen


def test_fm28_less_than_predicted_a_stale_hash_and_a_discard_without_the_scope_are_refused(
    mesh: LocalMesh, load: DisasterLoad
) -> None:
    home = only_active(mesh)
    target, third = others(mesh, home)
    with load.doomed("doomed-d") as dead:
        dead.flowing()
        hold_back(mesh, target, third)
        until(acknowledged_since(dead.ledger, 100), "the lag has grown")
        mesh.kill(home)
        dead.kill()
        let_go(mesh, target, third)

    def refused_for_its_loss() -> OmniRelayError | None:
        with Driver(mesh, target).client() as client:
            try:
                client.plan_failover(emergency(target, accept_data_loss=0))
            except (PreflightFailed, LossNotAccepted) as error:
                against = failed(error) if isinstance(error, PreflightFailed) else {"loss_accepted": {}}
                return error if against.keys() == {"loss_accepted"} else None
        return None

    refused = until(refused_for_its_loss, "zero is not accepted")
    check = failed(refused)["loss_accepted"]
    assert "--accept-data-loss" in check["hint"]
    named = int(check["hint"].rsplit(" ", 1)[1])
    assert 0 < named < ACCEPTED
    with Driver(mesh, target).client() as client:
        # The command that would be right: what the hint names is accepted. The prediction may have moved meanwhile.
        planned = until(lambda: _plan_as_hinted(client, target), "what the refusal's hint names is accepted")
    with mesh.control(APPROVER, clusters=[target]) as approver, pytest.raises(PlanHashMismatch) as stale:
        approver.decide(planned["id"], "approve", plan_hash="sha256:" + "0" * 64)
    assert planned["plan"]["hash"] in stale.value.operator_hint
    failover = promote(mesh, target)
    mesh.start(home)
    (open_,) = until(lambda: unresolved(mesh, target), "the tail came back")
    with mesh.control(APPROVER, clusters=[target]) as approver, pytest.raises(AccessDenied) as denied:
        approver.discard(open_["id"])
    assert "mesh.admin" in denied.value.operator_hint
    assert unresolved(mesh, target), "nothing was decided"
    resolve_all(mesh, target, failover["id"], "discard")
    discarded = {record.value for record in exported(mesh, target, open_["id"])}
    assert discarded & set(dead.ledger.promised)
    fail_back(mesh, target, failover["id"])
    for cluster in mesh.clusters:
        kept = set(dead.ledger.promised) - discarded
        until(lambda c=cluster, k=kept: k <= load.holds(c), "all that was not discarded is delivered")
        assert discarded.isdisjoint(load.holds(cluster)), "what was discarded is never delivered"
    said = manifest(mesh, target, failover["id"])
    assert grades(said) == {"discarded": len(discarded)}


def _plan_as_hinted(client: Any, target: str) -> dict[str, Any] | None:
    try:
        client.plan_failover(emergency(target, accept_data_loss=0, dry_run=True))
    except PreflightFailed as error:
        hint = failed(error)["loss_accepted"]["hint"]
        try:
            return dict(client.plan_failover(emergency(target, accept_data_loss=int(hint.rsplit(" ", 1)[1]))))
        except PreflightFailed:
            return None
    return None
