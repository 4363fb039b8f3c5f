"""An origin whose own link to one peer is down reaches it through the third cluster, and the link comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.system.support.load import Load
from tests.system.support.meshes import Pages, ProxiedMesh
from tests.system.support.waiting import until

ORIGIN, CUT_OFF = "us-east", "eu-west"
DUPLICATES, GAPS = "mesh_replication_duplicates_total", "mesh_replication_gaps_total"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedMesh]:
    with ProxiedMesh(tmp_path_factory.mktemp("relay") / "m", proxied=[ORIGIN]) as mesh:
        yield mesh


def test_a_cut_link_is_bridged_by_the_third_cluster_and_mends_without_loss_or_doubling(proxied: ProxiedMesh) -> None:
    with (
        closing(Pages(proxied, CUT_OFF)) as cut_off,
        Load(proxied, endpoints=[proxied.members[ORIGIN].grpc]) as load,
    ):
        with load.producing() as leg:
            leg.flowing()
            before = cut_off.scrape()
            assert before.status(ORIGIN, "inbound") == "streaming"
            proxied.cut_off(ORIGIN, CUT_OFF)
            until(lambda: cut_off.scrape().status(ORIGIN, "inbound") == "disconnected", "the link is down")
            delivered = load.consumed[CUT_OFF].delivered
            for _ in range(3):
                # Handed over after the link went down, so it can only come by the relay.
                leg.flowing()
                newest = next(s for s in reversed(leg.ledger.sendings) if s.acknowledged_at)
                until(lambda v=newest.values[0]: v in delivered, "what was produced meanwhile arrives by the relay")
                assert cut_off.scrape().status(ORIGIN, "inbound") == "disconnected"
            proxied.mend(ORIGIN)
            until(lambda: cut_off.scrape().status(ORIGIN, "inbound") == "streaming", "the link is back")
            leg.flowing()
        seen = leg.comparison()
        assert seen.faultless, seen
        after = cut_off.scrape()
        print(f"duplicates {after.value(DUPLICATES)}, gaps {after.value(GAPS)}")
        assert after.value(GAPS) == before.value(GAPS), "the relay begins where the link ended"
        duplicates = after.value(DUPLICATES)
        assert duplicates is not None
        assert duplicates >= (before.value(DUPLICATES) or 0), "what came twice is counted, and delivered once"


def test_a_peer_that_was_away_gets_from_the_relay_what_the_origin_wrote_meanwhile(proxied: ProxiedMesh) -> None:
    """It comes up with its link to the origin down: even its first batch after the restart takes the other way."""
    with Load(proxied, endpoints=[proxied.members[ORIGIN].grpc]) as load:
        with load.producing() as leg:
            leg.flowing()
            proxied.kill(CUT_OFF)
            leg.flowing()
            proxied.cut_off(ORIGIN, CUT_OFF)
            proxied.start(CUT_OFF)
            with closing(Pages(proxied, CUT_OFF)) as cut_off:
                leg.flowing()
                promised = set(leg.ledger.promised)
                delivered = load.consumed[CUT_OFF].delivered
                until(lambda: promised <= set(delivered), "everything arrives by the relay")
                assert cut_off.scrape().status(ORIGIN, "inbound") != "streaming"
            proxied.mend(ORIGIN)
        seen = leg.comparison()
    assert seen.faultless, seen
