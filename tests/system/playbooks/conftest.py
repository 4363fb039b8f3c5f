from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.support.playbooks import Playbooks

from omnirelay.demo.mesh import LocalMesh


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """Three clusters. A module's tests share it and leave it serving, whoever is active by then."""
    with LocalMesh(tmp_path_factory.mktemp("mesh") / "m") as started:
        yield started


@pytest.fixture
def own_mesh(tmp_path: Path) -> Iterator[LocalMesh]:
    """Three clusters for one test that hurts them; us-east is active."""
    with LocalMesh(tmp_path / "m") as started:
        yield started


@pytest.fixture
def playbooks(mesh: LocalMesh, tmp_path: Path) -> Playbooks:
    return Playbooks(tmp_path, mesh)
