"""What keeps a replicator from starting: named with its place and a hint; the exit code says whose mistake it is."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnirelay.config.settings import load
from omnirelay.demo.mesh import LocalMesh
from omnirelay.errors import ConfigInvalid

USAGE = 2
REFUSED = 3

Change = dict[tuple[str, ...], Any]
MISTAKES: dict[str, tuple[Change, str]] = {
    "an unknown key": ({("colour",): "blue"}, "colour: there is no such setting"),
    "an unknown key further down": ({("timing", "lease_tll"): "6s"}, "timing.lease_tll: there is no such setting"),
    "a bad duration": ({("timing", "heartbeat"): "half a second"}, "timing.heartbeat"),
    "a duration without a unit that means nothing": ({("timing", "lease_ttl"): "-3s"}, "timing.lease_ttl"),
    "a bad size": ({("log", "max_batch"): "many"}, "log.max_batch"),
    "a stall threshold beyond the lease": ({("timing", "stall_threshold"): "7s"}, "timing.stall_threshold"),
    "a heartbeat slower than the stall threshold": ({("timing", "heartbeat"): "3s"}, "timing.heartbeat"),
    "a lease without a margin": ({("timing", "lease_margin"): "0s"}, "timing.lease_ttl - timing.lease_margin"),
    "an emergency before the lease ends": ({("timing", "emergency_deadline"): "2s"}, "timing.emergency_deadline"),
    "retention beyond its cap": ({("log", "retain_size"): "50GiB"}, "log.retain_size"),
    "a cluster id that is no label": ({("cluster",): "US East"}, "cluster"),
    "an address without a port": ({("listen", "grpc"): "localhost"}, "listen.grpc"),
    "a token that is no digest": (
        {("tokens",): [{"name": "ci", "sha256": "secret", "scopes": ["mesh.read"]}]},
        "tokens.0.sha256",
    ),
    "an unknown scope": ({("access",): [{"principal": "client/*", "scopes": ["mesh.all"]}]}, "access.0.scopes.0"),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """Certificates and configuration of two clusters; nothing runs."""
    mesh = LocalMesh(tmp_path_factory.mktemp("config") / "m", clusters=("us-east", "eu-west"))
    mesh.prepare()
    yield mesh
    mesh.stop()


def attempt(verb: str, config: Path) -> tuple[int, str]:
    """Exit code and everything that was said."""
    command = [sys.executable, "-m", "omnirelay.cli", "replicator", verb]
    command += ["--config", str(config)] if verb == "run" else [str(config)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def altered(mesh: LocalMesh, change: Change, target: Path) -> Path:
    content = copy.deepcopy(yaml.safe_load(mesh.members["us-east"].config.read_text(encoding="utf-8")))
    for path, value in change.items():
        section = content
        for part in path[:-1]:
            section = section.setdefault(part, {})
        section[path[-1]] = value
    target.write_text(yaml.safe_dump(content), encoding="utf-8")
    return target


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_setting_is_named_with_its_path(prepared: LocalMesh, tmp_path: Path, mistake: str) -> None:
    """By the function that both commands call first: a process for each mistake would take a minute."""
    change, named = MISTAKES[mistake]
    with pytest.raises(ConfigInvalid) as refused:
        load(altered(prepared, change, tmp_path / "c.yaml"))
    assert named in refused.value.message
    assert "check-config" in refused.value.operator_hint


@pytest.mark.parametrize("verb", ["run", "check-config"])
def test_all_wrong_settings_are_named_at_once_and_the_exit_code_is_the_callers_mistake(
    prepared: LocalMesh, tmp_path: Path, verb: str
) -> None:
    changes = {
        ("timing", "lease_tll"): "6s",
        ("timing", "heartbeat"): "half a second",
        ("log", "max_batch"): "many",
        ("listen", "grpc"): "localhost",
    }
    code, said = attempt(verb, altered(prepared, changes, tmp_path / "c.yaml"))
    assert (code, "Traceback" in said) == (USAGE, False), said
    assert all(".".join(path) in said for path in changes), said
    assert "hint:" in said


@pytest.mark.parametrize("verb", ["run", "check-config"])
def test_an_impossible_relation_is_named_with_both_its_sides(prepared: LocalMesh, tmp_path: Path, verb: str) -> None:
    code, said = attempt(verb, altered(prepared, {("timing", "stall_threshold"): "7s"}, tmp_path / "c.yaml"))
    assert (code, "Traceback" in said) == (USAGE, False), said
    assert "timing.stall_threshold (7s) must be above 0 and below timing.lease_ttl (6s)" in said


FILES: dict[str, tuple[Change, str]] = {
    "a missing certificate": ({("tls", "certificate"): "/nonexistent.crt"}, "tls.certificate"),
    "another cluster's certificate": ({("cluster",): "eu-west"}, "tls.certificate"),
}


@pytest.mark.parametrize("mistake", FILES)
def test_a_wrong_file_is_named_with_its_setting(prepared: LocalMesh, tmp_path: Path, mistake: str) -> None:
    change, named = FILES[mistake]
    code, said = attempt("check-config", altered(prepared, change, tmp_path / "c.yaml"))
    assert (code, named in said, "Traceback" in said) == (USAGE, True, False), said


@pytest.mark.parametrize("content", ["- a list\n", "cluster: [unclosed\n", "", None])
def test_a_file_that_holds_no_settings_or_is_not_there_is_named(tmp_path: Path, content: str | None) -> None:
    config = tmp_path / "c.yaml"
    if content is not None:
        config.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigInvalid, match=re.escape(str(config))):
        load(config)


def test_a_good_file_passes(prepared: LocalMesh) -> None:
    code, said = attempt("check-config", prepared.members["us-east"].config)
    assert code == 0, said


class TestBesideARunningReplicator:
    @pytest.fixture(autouse=True, scope="class")
    @staticmethod
    def running(prepared: LocalMesh) -> None:
        prepared.start("us-east")

    def test_a_second_process_on_the_same_data_is_refused(self, prepared: LocalMesh, tmp_path: Path) -> None:
        elsewhere = {("listen", "grpc"): "127.0.0.1:0", ("listen", "control"): "127.0.0.1:0"}
        code, said = attempt("run", altered(prepared, elsewhere, tmp_path / "c.yaml"))
        assert (code, "Traceback" in said) == (REFUSED, False), said
        assert "in use by another process" in said
        assert "stop it first" in said

    @pytest.mark.parametrize("port", ["grpc", "control"])
    def test_a_port_in_use_is_named(self, prepared: LocalMesh, tmp_path: Path, port: str) -> None:
        taken = getattr(prepared.members["us-east"], port)
        other = {
            ("data_dir",): str(tmp_path / "data"),
            ("listen", "grpc"): "127.0.0.1:0",
            ("listen", "control"): "127.0.0.1:0",
            ("listen", port): taken,
        }
        code, said = attempt("run", altered(prepared, other, tmp_path / "c.yaml"))
        assert (code, "Traceback" in said) == (USAGE, False), said
        assert f"listen.{port}" in said
        assert taken in said

    def test_another_clusters_data_is_refused(self, prepared: LocalMesh, tmp_path: Path) -> None:
        prepared.kill("us-east")
        other = {
            ("cluster",): "eu-west",
            ("tls", "certificate"): str(prepared.pki / "eu-west.crt"),
            ("tls", "key"): str(prepared.pki / "eu-west.key"),
        }
        code, said = attempt("run", altered(prepared, other, tmp_path / "c.yaml"))
        assert (code, "Traceback" in said) == (USAGE, False), said
        assert "belongs to cluster us-east" in said
