"""Two minor versions of the protocol in one mesh (fm33): N and N-1 replicate both ways and fail over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.system.support.driving import admitting, fail_over
from tests.system.support.load import Load
from tests.system.support.meshes import Pages
from tests.system.support.waiting import until

from omnirelay.demo.mesh import LocalMesh

NEW, OLD = "us-east", "eu-west"
SKEW = "mesh_replication_clock_skew_seconds"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """NEW speaks 1.1, OLD is held at 1.0."""
    directory = tmp_path_factory.mktemp("versions") / "m"
    with LocalMesh(directory, clusters=(NEW, OLD), settings_of={OLD: {"protocol_minor": 0}}) as mesh:
        yield mesh


def test_each_says_what_it_speaks(mixed: LocalMesh) -> None:
    for cluster, version in ((NEW, "1.1"), (OLD, "1.0")):
        with mixed.control(clusters=[cluster]) as client:
            assert client.version()["protocol"] == version


def test_records_pass_both_ways_and_ownership_goes_there_and_back(mixed: LocalMesh) -> None:
    with Load(mixed) as load:
        with load.producing() as leg:
            for target in (OLD, NEW):
                leg.flowing()
                done = fail_over(mixed, target, at=NEW)
                assert done["state"] == "completed", done["problem"]
                leg.flowing()
                assert admitting(mixed) == [target]
        seen = leg.comparison()
    assert seen.faultless, seen


def test_the_lower_minor_is_spoken_so_what_came_with_the_higher_stays_unknown(mixed: LocalMesh) -> None:
    """Clock samples came with 1.1. Neither invents a skew that it cannot measure; everything else is measured."""
    for cluster, peer in ((NEW, OLD), (OLD, NEW)):
        with closing(Pages(mixed, cluster)) as pages:
            until(lambda p=pages, q=peer: p.scrape().status(q, "outbound") == "streaming", f"{cluster} sends to {peer}")
            scrape = pages.scrape()
            assert scrape.value(SKEW, peer=peer) is None
            assert scrape.value("mesh_replication_lag_records", peer=peer, direction="outbound") == 0


def test_between_two_of_the_higher_minor_the_skew_is_known(mixed: LocalMesh) -> None:
    """The same question after OLD was upgraded, so that the answer before it means something."""
    mixed.kill(OLD)
    mixed.settings_of = {}
    mixed.write_config(OLD)
    mixed.start(OLD)
    with closing(Pages(mixed, NEW)) as pages:
        until(lambda: pages.scrape().value(SKEW, peer=OLD) is not None, "the skew is measured")
