"""What /metrics says of lag, against the ledgers (fm16, fm18).

The truth: the producing ledger knows within which moments each batch was committed (between handing over and
acknowledgement), the consuming ledger which batches the peer has. The clock is read before and after each scrape, so
the true age lies within a bracket whose width is the machine's slowness; the metric must lie in it, give or take 5 %.
Records and bytes are counted, so they must be within the bracket to the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from tests.system.support import rpc
from tests.system.support.ledgers import ProducingLedger, Sending
from tests.system.support.load import Load
from tests.system.support.meshes import Pages, ProxiedMesh, Scrape
from tests.system.support.waiting import until

from omnirelay.demo.mesh import CLIENT, LocalMesh
from omnirelay.wire._generated.omnirelay.mesh.v1 import batch_pb2

pytestmark = pytest.mark.timeout(120)

SOURCE, PEER = "us-east", "eu-west"
TOLERANCE = 0.05
SECONDS, RECORDS, SIZE = (f"mesh_replication_lag_{unit}" for unit in ("seconds", "records", "bytes"))
CONTACT = "mesh_replication_last_contact_timestamp_seconds"


@pytest.fixture(scope="module")
def stalling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedMesh]:
    """Two clusters; what SOURCE sends to PEER can be held back while PEER's acknowledgements still arrive."""
    directory = tmp_path_factory.mktemp("lag") / "m"
    with ProxiedMesh(directory, clusters=(SOURCE, PEER), proxied=[SOURCE]) as mesh:
        yield mesh


@dataclass(frozen=True)
class Reading:
    """A scrape, with what the ledgers knew just before and just after it."""

    scrape: Scrape
    before: float
    after: float
    owed: list[Sending]
    """Acknowledged before the scrape, never delivered at the peer."""
    perhaps: list[Sending]
    """Handed over before the scrape's end, acknowledged only after its begin or not yet: the scrape may count them."""


def read(source: Pages, ledger: ProducingLedger, delivered: set[bytes]) -> Reading:
    """`delivered`: what the peer has, which does not change meanwhile."""
    owed = [s for s in missing(ledger, delivered) if s.acknowledged_at is not None]
    before = ledger.now()
    scrape = source.scrape()
    after = ledger.now()
    known = set(map(id, owed))
    perhaps = [s for s in missing(ledger, delivered) if s.sent_at <= after and id(s) not in known]
    return Reading(scrape, before, after, owed, perhaps)


def missing(ledger: ProducingLedger, delivered: set[bytes]) -> list[Sending]:
    return [s for s in ledger.sendings if delivered.isdisjoint(s.values)]


def within(value: float | None, low: float, high: float) -> bool:
    return value is not None and low * (1 - TOLERANCE) <= value <= high * (1 + TOLERANCE)


@pytest.mark.parametrize("stall_seconds", [1, 5, 20])
def test_outbound_lag_is_the_ledgers_within_five_percent(stalling: ProxiedMesh, stall_seconds: int) -> None:
    proxy = stalling.proxies[SOURCE]
    # Producers and readers come past the proxy: only replication is held back.
    with closing(Pages(stalling, SOURCE)) as source, Load(stalling, endpoints=[stalling.members[SOURCE].grpc]) as load:
        with load.producing(padding=100) as leg:
            leg.flowing()
            at_peer = load.consumed[PEER].delivered
            until(lambda: at_peer, "the peer delivers")
            proxy.hold()
            held_at = leg.ledger.now()
            until(lambda: leg.ledger.now() - held_at > stall_seconds, "the stall has its length", stall_seconds + 30.0)
            delivered = set(at_peer)
            reading = read(source, leg.ledger, delivered)
            assert set(at_peer) == delivered, "nothing reaches the peer while it is held back"
            proxy.release()
        assert leg.comparison().faultless
    oldest = reading.owed[0]
    assert oldest.acknowledged_at is not None
    low, high = reading.before - oldest.acknowledged_at, reading.after - oldest.sent_at
    said = {name: reading.scrape.value(name, peer=PEER, direction="outbound") for name in (SECONDS, RECORDS, SIZE)}
    print(f"stall of {stall_seconds} s: said {said[SECONDS]:.4f} s, by the ledgers {low:.4f} to {high:.4f} s")
    assert low > stall_seconds * 0.9, "the ledgers saw the stall themselves"
    assert within(said[SECONDS], low, high), f"{said[SECONDS]} s said, {low:.3f} to {high:.3f} s by the ledgers"
    owed, perhaps = (sum(len(s.values) for s in some) for some in (reading.owed, reading.perhaps))
    assert owed <= (said[RECORDS] or 0) <= owed + perhaps, f"{said[RECORDS]} said, {owed} (+{perhaps}) by the ledgers"
    sizes = sizes_at(stalling, SOURCE)
    owed, perhaps = (sum(sizes[s.values[0]] for s in some) for some in (reading.owed, reading.perhaps))
    assert owed <= (said[SIZE] or 0) <= owed + perhaps, f"{said[SIZE]} bytes said, {owed} (+{perhaps}) in the batches"


def sizes_at(mesh: LocalMesh, cluster: str) -> dict[bytes, int]:
    """First record of each batch → bytes of the batch as it travels: header, records, digest."""
    batches = rpc.read_all(mesh.members[cluster].grpc, mesh.credentials(CLIENT))
    return {
        batch_pb2.RecordSet.FromString(batch.records).records[0].value: len(batch.header + batch.records + batch.digest)
        for batch in batches
    }


def test_lag_is_zero_again_once_the_peer_has_everything(stalling: ProxiedMesh) -> None:
    with closing(Pages(stalling, SOURCE)) as source:
        level = {SECONDS: 0.0, RECORDS: 0.0, SIZE: 0.0}
        until(
            lambda: level == {name: source.scrape().value(name, peer=PEER, direction="outbound") for name in level},
            "seconds, records and bytes are 0",
        )
        assert source.scrape().status(PEER, "outbound") == "streaming"


def test_inbound_lag_grows_while_the_source_is_dead_and_contact_stands_still(stalling: ProxiedMesh) -> None:
    with closing(Pages(stalling, PEER)) as peer, Load(stalling, endpoints=[stalling.members[SOURCE].grpc]) as load:
        ledger = ProducingLedger()
        load.publish(ledger, "last-words", 1)
        load.settle(ledger)
        stalling.kill(SOURCE)
        killed_at = ledger.now()
        until(lambda: peer.scrape().value(RECORDS, peer=SOURCE, direction="inbound") is None, "silence is noticed")
        first = read(peer, ledger, set())
        until(lambda: ledger.now() - first.after > 2.0, "the silence has gone on")
        second = read(peer, ledger, set())
        # The peer was level when it had the last record, and cannot have known of being level after the death.
        last_sent = ledger.sendings[-1].sent_at
        for reading in (first, second):
            said = reading.scrape.value(SECONDS, peer=SOURCE, direction="inbound")
            low, high = reading.before - killed_at, reading.after - last_sent
            assert within(said, low, high), f"{said} s said, {low:.3f} to {high:.3f} s by the ledger"
            assert reading.scrape.status(SOURCE, "inbound") == "disconnected"
            for unknown in (RECORDS, SIZE):
                assert reading.scrape.value(unknown, peer=SOURCE, direction="inbound") is None, "unknown, and never 0"
        contacts = {reading.scrape.value(CONTACT, peer=SOURCE) for reading in (first, second)}
        assert len(contacts) == 1
        assert None not in contacts
        stalling.start(SOURCE)
        until(lambda: peer.scrape().value(CONTACT, peer=SOURCE) not in contacts, "contact moves on")
        until(lambda: peer.scrape().value(RECORDS, peer=SOURCE, direction="inbound") == 0, "inbound lag is known again")


def test_a_replicator_that_never_met_its_source_knows_no_lag_rather_than_none(stalling: ProxiedMesh) -> None:
    stalling.kill(SOURCE)
    stalling.kill(PEER)
    stalling.start(PEER)
    with closing(Pages(stalling, PEER)) as peer:
        until(lambda: peer.scrape().known_peer(SOURCE), "the source is known as a member")
        scrape = peer.scrape()
        for direction in ("inbound", "outbound"):
            assert scrape.status(SOURCE, direction) == "unknown"
            for name in (SECONDS, RECORDS, SIZE):
                assert scrape.value(name, peer=SOURCE, direction=direction) is None, f"{name} {direction}"
        assert scrape.value(CONTACT, peer=SOURCE) is None
    stalling.start(SOURCE)
    stalling.wait_level()
