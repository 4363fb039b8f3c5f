"""Every replicator killed at once, in the middle of the load, and started again: what was acknowledged is there."""

from __future__ import annotations

import pytest
from tests.system.support.driving import admitting
from tests.system.support.load import Load

from omnirelay.demo.mesh import LocalMesh

pytestmark = pytest.mark.timeout(120)


def test_all_killed_at_once_under_load_lose_nothing_that_was_acknowledged(mesh: LocalMesh) -> None:
    with Load(mesh) as load:
        # Large batches, one after the other: at any moment some are on their way to the disk.
        with load.producing(producers=4, records=20, pause_seconds=0.002, padding=1000) as leg:
            for _ in range(3):
                leg.flowing()
                for cluster in mesh.clusters:
                    mesh.kill(cluster)
                acknowledged = set(leg.ledger.promised)
                assert acknowledged
                for cluster in mesh.clusters:
                    mesh.start(cluster, wait=False)
                leg.flowing()
        assert admitting(mesh) == ["us-east"]
        seen = leg.comparison()
        assert seen.faultless, seen
    # Readers that begin only now, and never saw the former processes, are given the same.
    with Load(mesh) as anew:
        anew.settle(leg.ledger)
        seen = anew.compare(leg.ledger)
    assert seen.faultless, seen


def test_stopped_in_order_and_started_again_the_mesh_serves_at_once(mesh: LocalMesh) -> None:
    with Load(mesh) as load:
        with load.producing() as leg:
            leg.flowing()
            mesh.stop()
            assert [member.process.returncode for member in mesh.members.values() if member.process] == [0, 0, 0]
            for cluster in mesh.clusters:
                mesh.start(cluster, wait=False)
            leg.flowing()
        seen = leg.comparison()
    assert seen.faultless, seen
