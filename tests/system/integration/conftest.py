"""Meshes of real processes on loopback, for the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnirelay.demo.mesh import LocalMesh


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """Three clusters; us-east owns `default`. A module's tests share it and leave it serving."""
    with LocalMesh(_directory(tmp_path_factory)) as started:
        yield started


def _directory(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("mesh") / "m"
