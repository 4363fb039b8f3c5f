"""A disk that is full, and a log that was altered (fm36; "a corrupt log row stops the affected origin")."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from tests.system.support import disks, rpc
from tests.system.support.ledgers import ProducingLedger
from tests.system.support.load import Load
from tests.system.support.meshes import Pages
from tests.system.support.rpc import batch_message, open_message, record_set
from tests.system.support.waiting import until

from omnirelay.demo.mesh import CLIENT, LocalMesh
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2

pytestmark = pytest.mark.timeout(120)

FULL, PEER = "us-east", "eu-west"

Fault = Callable[[LocalMesh], AbstractContextManager[None]]


@contextmanager
def full_disk(mesh: LocalMesh) -> Iterator[None]:
    """Nothing is left on the disk that the data directory is on."""
    filler = disks.fill(mesh.directory / FULL)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def files_may_not_grow(mesh: LocalMesh) -> Iterator[None]:
    """A limit on the process: what an ordinary user can do to it."""
    process = mesh.members[FULL].process
    assert process is not None
    # Above every file but the log's, which the load soon makes reach it.
    disks.limit_files(process.pid, disks.largest_file(process.pid, but=mesh.directory / FULL) + (1 << 20))
    try:
        yield
    finally:
        disks.limit_files(process.pid, None)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """Two clusters; the active's data is on a disk of its own where this user may mount one."""
    directory = tmp_path_factory.mktemp("disk") / "m"
    with ExitStack() as stack:
        with suppress(PermissionError):
            stack.enter_context(disks.small_disk(directory / FULL))
        yield stack.enter_context(LocalMesh(directory, clusters=(FULL, PEER)))


@pytest.mark.parametrize("fault", [full_disk, files_may_not_grow])
def test_a_full_disk_stops_acknowledgements_and_nothing_else(mesh: LocalMesh, fault: Fault) -> None:
    if fault is full_disk and not (mesh.directory / FULL).is_mount():
        pytest.skip("filling a disk of its own needs the right to mount one; the limit on file sizes is tested instead")
    refusal = rpc.Answer()

    def stopped(ledger: ProducingLedger) -> bool:
        """Whether the disk refuses a write of our own, after all that still fitted was acknowledged: producers try
        again all the time, with less and less in one commit, so a second of nothing is the end."""
        nonlocal refusal
        who = mesh.credentials(CLIENT)
        opened = rpc.publish(mesh.members[FULL].grpc, who, [open_message(producer="probe")])
        last = opened.messages[0].opened.last_producer_sequence if opened.messages else 0
        batch = batch_message(last + 1, record_set(b"probe#0#"))  # as the ledgers name records: it may still fit
        refusal = rpc.publish(mesh.members[FULL].grpc, who, [open_message(producer="probe"), batch])
        refused = refusal.code == "storage_unavailable" and "disk refuses" in refusal.text
        return refused and ledger.now() - ledger.last_acknowledged_at > 1.0

    with Load(mesh) as load, closing(Pages(mesh, FULL)) as pages, closing(Pages(mesh, PEER)) as elsewhere:
        with load.producing(padding=1000) as leg:
            leg.flowing()
            with fault(mesh):
                until(lambda: stopped(leg.ledger), "writes are refused for want of space")
                assert refusal.status is grpc.StatusCode.UNAVAILABLE
                assert refusal.retry
                assert "free space" in refusal.hint
                acknowledged = len(leg.ledger.promised)
                ready = [pages.get("/readyz") for _ in range(20)]
                assert [answer.status_code for answer in ready] == [503] * 20
                assert all("log" in answer.json()["details"]["problems"][0] for answer in ready)
                until(lambda: problems_of(elsewhere, FULL), "the report tells the others")
                assert len(leg.ledger.promised) == acknowledged, "nothing is acknowledged while the disk is full"
                assert pages.get("/healthz").status_code == 200
                assert rpc.read_all(mesh.members[FULL].grpc, mesh.credentials(CLIENT)), "readers are served"
            leg.flowing()
            until(lambda: pages.get("/readyz").status_code == 200, "it is ready again by itself")
            mesh.kill(FULL)
            mesh.start(FULL)
            leg.flowing()
        seen = leg.comparison()
    assert seen.faultless, seen


def problems_of(pages: Pages, cluster: str) -> list[str]:
    clusters = pages.get("/control/clusters").json()["clusters"]
    return [p for c in clusters if c["cluster_id"] == cluster for p in c["problems"] if "log" in p]


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[tuple[LocalMesh, int]]:
    """Two clusters that each own a namespace and hold batches of both. Then a byte in the middle of what PEER has of
    FULL's log was altered while PEER was down: the mesh, and the first sequence of the altered batch."""
    owners = {FULL: ["default"], PEER: ["other"]}
    with LocalMesh(tmp_path / "m", clusters=(FULL, PEER), owners=owners) as mesh:
        ledger = ProducingLedger()
        with Load(mesh) as load, Load(mesh, "other") as other:
            load.publish(ledger, "d", 20, records=3)
            other.publish(ProducingLedger(), "o", 5)
            load.settle(ledger)
        mesh.kill(PEER)
        position = alter(mesh.directory / PEER / "log.db", FULL, "d#31#")
        mesh.start(PEER)
        yield mesh, position


def alter(database: Path, origin: str, within: str) -> int:
    """Changes one letter of the stored batch that holds the text. Answers the batch's first sequence."""
    with closing(sqlite3.connect(database)) as connection, connection:
        rows = connection.execute(
            "SELECT id, first_sequence, records FROM batch WHERE origin = ?", (origin,)
        ).fetchall()
        number, position, records = next(row for row in rows if within.encode() in row[2])
        changed = records.replace(within.encode(), within.replace("#", "!").encode())
        connection.execute("UPDATE batch SET records = ? WHERE id = ?", (changed, number))
    return int(position)


def test_an_altered_row_stops_its_origin_there_and_nothing_else(damaged: tuple[LocalMesh, int]) -> None:
    mesh, position = damaged
    address, who = mesh.members[PEER].grpc, mesh.credentials(CLIENT)
    answer = rpc.subscribe(address, who, events_pb2.SubscribeRequest(namespace="default"), 1000)
    assert answer.code == "corrupt_log", answer
    assert answer.details["origin"] == FULL
    assert int(answer.details["sequence"]) == position
    assert FULL in answer.hint
    assert str(position) in answer.hint
    served = [batch for message in answer.messages if (batch := message.batch).records]
    assert served, "what lies before the damage is delivered"
    assert len(rpc.read_all(address, who, "other")) == 5, "other origins are served whole"
    assert len(rpc.read_all(mesh.members[FULL].grpc, who)) == 20, "and so is this one elsewhere"
    with Load(mesh, "other") as other:
        more = ProducingLedger()
        other.publish(more, "more", 3)
        other.settle(more)


def test_a_damaged_head_of_the_active_bars_that_origin_and_says_so(tmp_path: Path) -> None:
    """It cannot go on after a row that does not prove itself: what it owns is refused, what others own is not."""
    owners = {FULL: ["default"], PEER: ["other"]}
    with LocalMesh(tmp_path / "m", clusters=(FULL, PEER), owners=owners) as mesh:
        with Load(mesh) as load, Load(mesh, "other") as other:
            ledger = ProducingLedger()
            load.publish(ledger, "d", 3)
            load.settle(ledger)
            mesh.kill(FULL)
            position = alter(mesh.directory / FULL / "log.db", FULL, "d#3#")
            mesh.start(FULL)
            attempts = [open_message(producer="d"), batch_message(4, record_set(b"more"))]
            answer = rpc.Answer()

            def barred() -> bool:
                nonlocal answer
                answer = rpc.publish(mesh.members[FULL].grpc, mesh.credentials(CLIENT), attempts)
                return answer.code == "corrupt_log"

            until(barred, "a write behind the damage is refused")
            assert (answer.details["origin"], int(answer.details["sequence"])) == (FULL, position)
            with closing(Pages(mesh, FULL)) as pages:
                ready = pages.get("/readyz")
                assert ready.status_code == 503
                assert f"{FULL} is damaged at {position}" in ready.json()["details"]["problems"][0]
            more = ProducingLedger()
            other.publish(more, "more", 3)
            other.settle(more)
        assert [batch.records for batch in rpc.read_all(mesh.members[PEER].grpc, mesh.credentials(CLIENT))]
