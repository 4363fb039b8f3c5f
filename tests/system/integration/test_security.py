"""No secret shows where it does not belong: logs, metrics, the process list, the API's answers, the audit copy."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.system.support.driving import fail_over
from tests.system.support.meshes import Pages, session

from omnirelay.client.credentials import Credentials
from omnirelay.demo.mesh import LocalMesh

TOKEN = "t0ken-that-must-not-show-4c1f9e"
WRONG_TOKEN = "guess-that-must-not-show-77aa12"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
READS = (
    "/healthz",
    "/readyz",
    "/version",
    "/metrics",
    "/openapi.json",
    "/control/clusters",
    "/control/clusters/us-east",
    "/control/clusters/us-east/replication",
    "/control/routing",
    "/control/failovers",
    "/control/audit",
)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """A mesh that logs everything, was used with a right and a wrong token, and has failed over."""
    settings = {
        "log_level": "debug",
        "tokens": [{"name": "ci", "sha256": DIGEST, "scopes": ["mesh.read", "mesh.operate"]}],
    }
    directory = tmp_path_factory.mktemp("secrets") / "m"
    with LocalMesh(directory, clusters=("us-east", "eu-west"), settings=settings) as mesh:
        with session(Credentials(mesh.pki / "ca.crt")) as caller:
            for token, status in ((TOKEN, 200), (WRONG_TOKEN, 401)):
                bearer = {"Authorization": f"Bearer {token}"}
                url = mesh.members["us-east"].control_url
                assert caller.get(f"{url}/control/clusters", headers=bearer, timeout=20).status_code == status
                refused = caller.post(f"{url}/control/failovers", headers=bearer, json={"secret": token}, timeout=20)
                assert refused.status_code in (400, 401)
        fail_over(mesh, "eu-west", at="us-east")
        yield mesh


def secrets(mesh: LocalMesh) -> dict[str, str]:
    """Name → text that must show nowhere. Of each private key, a line from its middle."""
    keys = {path.name: path.read_text(encoding="ascii").splitlines()[2] for path in mesh.pki.glob("*.key")}
    assert len(keys) >= 5
    return {**keys, "token": TOKEN, "wrong token": WRONG_TOKEN, "the token's digest": DIGEST}


def assert_clean(text: str, where: str, mesh: LocalMesh) -> None:
    shown = [name for name, secret in secrets(mesh).items() if secret in text]
    assert not shown, f"{where} shows {shown}"
    assert not re.search(r"PRIVATE KEY", text), f"{where} shows a private key"


def test_the_logs_are_clean(used: LocalMesh) -> None:
    for member in used.members.values():
        log = member.log.read_text(encoding="utf-8")
        assert "serves gRPC" in log, "the log was written"
        assert_clean(log, member.log.name, used)


@pytest.mark.parametrize("path", READS)
def test_the_apis_answers_are_clean(used: LocalMesh, path: str) -> None:
    with closing(Pages(used, "us-east")) as pages:
        answer = pages.get(path)
        assert answer.status_code == 200, answer.text
        assert_clean(answer.text + str(answer.headers), path, used)


def test_the_failovers_record_and_report_are_clean(used: LocalMesh) -> None:
    with used.control() as client:
        (failover,) = client.failovers()
        assert_clean(str(client.failover(failover["id"]).body), "the record", used)
        assert_clean(client.report_markdown(failover["id"]), "the report", used)
        assert_clean(str(client.report(failover["id"])), "the report as JSON", used)


def test_the_process_list_is_clean(used: LocalMesh) -> None:
    for member in used.members.values():
        assert member.process is not None
        process = Path(f"/proc/{member.process.pid}")
        for shown in ("cmdline", "environ"):
            assert_clean((process / shown).read_text(encoding="utf-8", errors="replace"), shown, used)


def test_what_is_stored_holds_no_key_and_no_token(used: LocalMesh) -> None:
    stored = [path for path in used.directory.rglob("*") if path.is_file() and used.pki not in path.parents]
    assert any(path.name == "audit.jsonl" for path in stored)
    for path in stored:
        if path.suffix != ".yaml":  # the configuration holds the token's digest, and nothing else of it
            assert_clean(path.read_bytes().decode("latin-1"), path.name, used)


def test_keys_and_logs_are_open_to_their_owner_only_and_nothing_to_the_world(used: LocalMesh) -> None:
    everybody_else = stat.S_IRWXG | stat.S_IRWXO
    closed_to = dict.fromkeys(used.pki.glob("*.key"), everybody_else)
    closed_to |= {used.directory / cluster: everybody_else for cluster in used.clusters}
    # Replicators that run as different users of one group share the coordination store.
    closed_to |= dict.fromkeys(used.directory.glob("coordination.db*"), stat.S_IRWXO)
    open_ = {path.name: oct(mode) for path, mask in closed_to.items() if (mode := path.stat().st_mode) & mask}
    assert not open_


def test_nobody_reads_metrics_audit_or_clusters_without_an_identity(used: LocalMesh) -> None:
    with session(Credentials(used.pki / "ca.crt")) as nobody:
        for path in ("/metrics", "/control/audit", "/control/clusters"):
            assert nobody.get(used.members["us-east"].control_url + path, timeout=20).status_code == 401
        for path in ("/healthz", "/readyz", "/version"):
            assert nobody.get(used.members["us-east"].control_url + path, timeout=20).status_code == 200
