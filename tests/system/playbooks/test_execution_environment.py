"""What whoever builds an execution environment is told by this collection."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from tests.system.support.playbooks import BIN, CHECKOUT

pytestmark = pytest.mark.timeout(240)  # a program that imports much, on a machine that may be busy


def test_a_builder_takes_the_collections_word_that_it_needs_nothing(tmp_path: Path) -> None:
    link = tmp_path / "ansible_collections/omnirelay/mesh"
    link.parent.mkdir(parents=True)
    link.symlink_to(CHECKOUT)
    done = subprocess.run([str(BIN / "ansible-builder"), "introspect", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = yaml.safe_load(done.stdout.partition("---\n")[2])
    # The Python package in the same repository has requirements of its own, which are not the collection's.
    assert found == {"python": [], "system": []}, done.stdout


def test_the_files_that_it_reads_are_the_ones_that_are_named() -> None:
    described = yaml.safe_load((CHECKOUT / "meta/execution-environment.yml").read_text())
    assert set(described["dependencies"]) == {"python", "system"}
    for name in described["dependencies"].values():
        assert (CHECKOUT / name).exists()
