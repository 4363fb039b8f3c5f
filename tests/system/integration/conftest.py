"""Meshes of real processes on loopback, for the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnirelay.demo.mesh import LocalMesh


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A connection that is reset between its accept and the TLS handshake, as a kill may do, is not closed by CPython's
    own wrap_socket when it raises; the collector then warns in whichever test it happens to run."""
    forgotten = "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(forgotten))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """Three clusters; us-east owns `default`. A module's tests share it and leave it serving."""
    with LocalMesh(_directory(tmp_path_factory)) as started:
        yield started


def _directory(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("mesh") / "m"
