"""Remote durability and the RPO guard over real processes: peers that stand still confirm nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest
from tests.system.support import rpc
from tests.system.support.waiting import until, until_async

from omnirelay.client.outbox import Durability, OutboxLimits
from omnirelay.client.producer import Producer
from omnirelay.demo.mesh import CLIENT, LocalMesh
from omnirelay.model.record import Record

ACTIVE, PEERS = "us-east", ("eu-west", "ap-south")
PATIENT = OutboxLimits(park_timeout_seconds=60.0)
BATCHES = 50


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """Two clusters, of which the active may lose one second."""
    directory = tmp_path_factory.mktemp("rpo") / "m"
    with LocalMesh(directory, clusters=(ACTIVE, PEERS[0]), settings={"rpo": {"max_lag": "1s"}}) as mesh:
        yield mesh


@contextmanager
def standing_still(mesh: LocalMesh, *clusters: str) -> Iterator[None]:
    """Inside, these processes do nothing at all, and none of them holds the store that all clusters share."""
    try:
        for cluster in clusters:
            until(lambda c=cluster: _stopped(mesh, c), f"{cluster} stands still outside a transaction")
        yield
    finally:
        for cluster in clusters:
            mesh.resume(cluster)


def _stopped(mesh: LocalMesh, cluster: str) -> bool:
    process = mesh.members[cluster].process
    assert process is not None
    mesh.pause(cluster)
    stat = Path(f"/proc/{process.pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", f"{cluster} has stopped")
    with closing(sqlite3.connect(mesh.directory / "coordination.db", timeout=1.0, isolation_level=None)) as store:
        try:
            store.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            mesh.resume(cluster)
            return False
        store.execute("ROLLBACK")
    return True


def producer(mesh: LocalMesh, name: str, durability: Durability = "local", copies: int = 1) -> Producer:
    return Producer(
        mesh.endpoints,
        producer_id=name,
        credentials=mesh.credentials(CLIENT),
        limits=PATIENT,
        durability=durability,
        remote_copies=copies,
    )


def records() -> list[Record]:
    return [Record(b"key", b"value")]


async def test_remote_durability_is_reached_at_every_other_cluster(mesh: LocalMesh) -> None:
    async with producer(mesh, "everywhere", "remote", copies=len(PEERS)) as remote:
        results = await asyncio.gather(*(remote.send(records()) for _ in range(BATCHES)))
    assert {result.durability for result in results} == {"remote"}
    assert [result.producer_sequence for result in results] == list(range(1, BATCHES + 1))


async def test_what_is_remote_is_kept_no_longer(mesh: LocalMesh) -> None:
    async with producer(mesh, "keeps-nothing") as local:
        await asyncio.gather(*(local.send(records()) for _ in range(BATCHES)))
        await until_async(lambda: local.kept == 0, "everything is remote")
        assert local.at_risk == 0


async def test_an_active_that_was_killed_still_tells_what_becomes_remote(mesh: LocalMesh) -> None:
    """The batches are in its log, and no producer has anything to send that would bring them up again."""
    async with producer(mesh, "bereft") as local:
        with standing_still(mesh, *PEERS):
            await asyncio.gather(*(local.send(records()) for _ in range(BATCHES)))
            await asyncio.to_thread(mesh.kill, ACTIVE)
            assert local.kept == BATCHES
        await asyncio.to_thread(mesh.start, ACTIVE)
        await until_async(lambda: local.kept == 0, "everything is remote")
        assert local.unacknowledged == 0


async def test_while_peers_stand_still_local_acknowledgements_go_on_and_remote_ones_stop(mesh: LocalMesh) -> None:
    async with producer(mesh, "local") as local, producer(mesh, "remote", "remote") as remote:
        await asyncio.gather(local.send(records()), remote.send(records()))
        with standing_still(mesh, *PEERS):
            waiting = remote.send_nowait(records())
            for _ in range(BATCHES):
                assert (await local.send(records())).durability == "local"
            assert not waiting.done()
            assert local.kept >= BATCHES
        assert (await waiting).durability == "remote"
        await until_async(lambda: local.kept == 0, "everything is remote")


async def test_one_peer_that_follows_is_one_copy(mesh: LocalMesh) -> None:
    async with producer(mesh, "one", "remote") as one, producer(mesh, "two", "remote", copies=2) as two:
        await asyncio.gather(one.send(records()), two.send(records()))
        with standing_still(mesh, PEERS[0]):
            waiting = two.send_nowait(records())
            for _ in range(BATCHES):
                await one.send(records())
            assert not waiting.done()
        assert (await waiting).durability == "remote"


def test_more_copies_than_other_clusters_are_refused(mesh: LocalMesh) -> None:
    opening = rpc.open_message()
    opening.open.remote_copies = 3
    answer = rpc.publish(mesh.members[ACTIVE].grpc, mesh.credentials(CLIENT), [opening])
    assert (answer.status, answer.code, answer.retry) == (grpc.StatusCode.INVALID_ARGUMENT, "too_few_clusters", False)
    assert answer.hint == "The mesh has 2 other clusters; ask for at most so many copies."


async def test_the_rpo_guard_refuses_writes_while_the_best_peer_lags_and_recovers(guarded: LocalMesh) -> None:
    address, credentials = guarded.members[ACTIVE].grpc, guarded.credentials(CLIENT)
    async with producer(guarded, "bounded") as local:
        await local.send(records())
        with standing_still(guarded, PEERS[0]):
            await local.send(records())
            refusal = await until_async(
                lambda: (answer := rpc.publish(address, credentials, [rpc.open_message()])).code and answer,
                "writes are refused",
            )
            assert isinstance(refusal, rpc.Answer)
            held_back = local.send_nowait(records())
        assert (await held_back).producer_sequence == 3, "the application has not noticed"
    assert (refusal.status, refusal.code, refusal.retry) == (grpc.StatusCode.UNAVAILABLE, "rpo_exceeded", True)
    assert refusal.hint.endswith("1 s are allowed (rpo.max_lag). Writes resume once one has caught up: "
                                 "omnirelay mesh clusters replication status")  # fmt: skip
