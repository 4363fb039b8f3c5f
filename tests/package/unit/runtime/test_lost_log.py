"""A cluster whose own log was lost or rebuilt must not use its sequences again (I3)."""

import pytest
from tests.package.unit.runtime.mesh import Producer, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import LogRebuilt
from omnirelay.testing.memory_log import MemoryDisk


@in_virtual_time
async def test_fm35_an_active_that_comes_back_without_its_log_admits_nothing_and_says_why(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        active, peer = mesh["us-east"], mesh["eu-west"]
        await Producer(active).publish("a", "b", "c")
        await mesh.settle()
        await mesh.until(lambda: peer.replicator.view.reports["eu-west"].vector.get("us-east") == 3)
        await active.kill()
        active.disk = MemoryDisk()
        await active.start()
        await mesh.until(active.replicator.reporter.problems)
        [problem] = active.replicator.reporter.problems()
        assert "holds us-east up to 3, this cluster itself up to 0" in problem
        with pytest.raises(LogRebuilt):
            active.replicator.ownerships.admit("default")
        assert active.admitting == {}
