import pytest
from tests.package.unit.api.mesh import Agents, Mesh, background, running_mesh


@pytest.fixture
async def mesh() -> Mesh:
    async with running_mesh() as mesh:
        yield mesh


@pytest.fixture
async def agents(mesh: Mesh) -> Agents:
    """The clusters' agents at work, making every move as soon as it is legal."""
    agents = Agents(mesh)
    async with background(agents.run()):
        yield agents
