"""A client in another language, made from proto/ alone, publishes, reads and understands refusals over mutual TLS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.system.support.driving import fail_over

from omnirelay.demo.mesh import CLIENT, LocalMesh

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "node" / "client.js"
ACTIVE, OTHER = "us-east", "eu-west"
BATCHES = [["one"], ["two", "three"], ["four"]]


def node(mesh: LocalMesh, cluster: str, verb: str, proto: Path = ROOT / "proto", **command: Any) -> dict[str, Any]:
    """What the Node program answers."""
    credentials = mesh.credentials(CLIENT)
    files = {"ca": credentials.ca, "certificate": credentials.cert, "key": credentials.key, "proto": proto}
    asked = {
        "verb": verb,
        "address": mesh.members[cluster].grpc,
        "namespace": "default",
        **{name: str(file) for name, file in files.items()},
        **command,
    }
    done = subprocess.run(["node", str(SCRIPT)], input=json.dumps(asked), capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_it_publishes_is_acknowledged_and_reads_its_records_back_from_another_cluster(mesh: LocalMesh) -> None:
    sent = node(mesh, ACTIVE, "publish", producer="node", batches=BATCHES)
    assert sent["error"] is None
    assert (sent["opened"]["cluster_id"], sent["opened"]["epoch"]) == (ACTIVE, "1")
    assert sent["opened"]["max_batch_bytes"] == str(4 << 20)
    assert [ack["producer_sequence"] for ack in sent["acks"]] == ["1", "2", "3"]
    assert [ack["position"] for ack in sent["acks"]] == [{"origin": ACTIVE, "sequence": n} for n in ("1", "2", "4")]
    assert {ack["durability"] for ack in sent["acks"]} == {"DURABILITY_LOCAL"}
    read = node(mesh, OTHER, "subscribe", count=4)
    assert read["error"] is None
    assert read["records"] == ["one", "two", "three", "four"]
    assert [header["producer_id"] for header in read["headers"]] == ["node"] * 3
    assert int(read["vector"][ACTIVE]) >= 4


def test_it_opens_again_and_goes_on_after_its_last_batch(mesh: LocalMesh) -> None:
    again = node(mesh, ACTIVE, "publish", producer="node", batches=[["five"]])
    assert again["opened"]["last_producer_sequence"] == "3"
    assert [ack["producer_sequence"] for ack in again["acks"]] == ["4"]


def test_a_refusal_tells_it_where_the_active_is(mesh: LocalMesh) -> None:
    refused = node(mesh, OTHER, "publish", producer="node", batches=BATCHES)
    assert refused["opened"] is None
    error = refused["error"]
    assert error["status"] == "FAILED_PRECONDITION"
    info = error["details"]["google.rpc.ErrorInfo"]
    assert (info["reason"], info["domain"]) == ("not_active", "omnirelay")
    assert info["metadata"] == {"cluster": ACTIVE, "epoch": "1", "endpoint": mesh.members[ACTIVE].grpc}
    assert "retry_delay" in error["details"]["google.rpc.RetryInfo"]


def test_following_the_refusal_it_publishes_through_the_new_active(mesh: LocalMesh) -> None:
    fail_over(mesh, OTHER, at="ap-south")
    refused = node(mesh, ACTIVE, "publish", producer="node", batches=[["six"]])
    pointed = refused["error"]["details"]["google.rpc.ErrorInfo"]["metadata"]
    assert pointed["endpoint"] == mesh.members[OTHER].grpc
    sent = node(mesh, OTHER, "publish", producer="node", batches=[["six"]])
    assert (sent["opened"]["epoch"], sent["opened"]["last_producer_sequence"]) == (pointed["epoch"], "4")
    assert sent["acks"][0]["position"]["origin"] == OTHER
    read = node(mesh, ACTIVE, "subscribe", count=6)
    assert read["records"] == ["one", "two", "three", "four", "five", "six"]


def test_unknown_namespaces_have_their_code_too(mesh: LocalMesh) -> None:
    for verb, more in (("publish", {"producer": "node", "batches": []}), ("subscribe", {"count": 1})):
        refused = node(mesh, ACTIVE, verb, namespace="nowhere", **more)
        assert refused["error"]["details"]["google.rpc.ErrorInfo"]["reason"] == "unknown_namespace"
        assert refused["error"]["status"] == "NOT_FOUND"
