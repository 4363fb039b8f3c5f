"""A cluster whose disk is gone comes back under a new incarnation: the same process goes on with a new name (fm35)."""

from __future__ import annotations

import shutil

import pytest
from tests.system.support.driving import Driver, admitting, fail_over, request
from tests.system.support.load import Load
from tests.system.support.waiting import until

from omnirelay.demo.mesh import LocalMesh
from omnirelay.errors import ClusterInUse, LogNotLost, OmniRelayError

pytestmark = pytest.mark.timeout(180)


def test_fm35_a_lost_log_is_rebuilt_under_a_new_incarnation_and_its_cluster_serves_again(mesh: LocalMesh) -> None:
    with Load(mesh) as load:
        with load.producing() as leg:
            leg.flowing()
            fail_over(mesh, "eu-west", at="ap-south")
            leg.flowing()
            with mesh.control() as client, pytest.raises(LogNotLost):
                client.rebuild_cluster("us-east", change_ticket="CHG-7", reason="test")
            mesh.kill("us-east")
            shutil.rmtree(mesh.directory / "us-east")
            mesh.start("us-east")
            process = mesh.members["us-east"].process

            def asked() -> str | None:
                """Refused until the cluster reports that it has nothing."""
                try:
                    with mesh.control(clusters=["ap-south"]) as client:
                        return client.rebuild_cluster("us-east", change_ticket="CHG-7", reason="test")["origin"]
                except LogNotLost:
                    return None

            assert until(asked, "its loss is noticed") == "us-east"

            def back() -> bool:
                try:
                    with mesh.control(clusters=["ap-south"]) as client:
                        shown = client.cluster("us-east").body
                except OmniRelayError:
                    return False
                return shown["origin"] == "us-east~2" and shown["ready"]

            until(back, "us-east is level again, under its new name")
            assert mesh.members["us-east"].process is process
            assert process is not None
            assert process.poll() is None, "it went on by itself"
            driver = Driver(mesh, "us-east")
            assert driver.carry_on(driver.plan(request("us-east"))["id"])["state"] == "completed"
            leg.flowing()
            assert admitting(mesh) == ["us-east"]
            with mesh.control() as client, pytest.raises((ClusterInUse, LogNotLost)):
                client.rebuild_cluster("us-east", change_ticket="CHG-7", reason="test")
        seen = leg.comparison()
    assert seen.faultless, seen
