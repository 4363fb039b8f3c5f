"""Where the replicators of a local mesh listen."""

import socket

from omnirelay.demo import mesh
from omnirelay.demo.mesh import LocalMesh


def ports(path):
    made = LocalMesh(path)
    made.prepare()
    return [int(address.rpartition(":")[2]) for m in made.members.values() for address in (m.grpc, m.control)]


def test_no_replicator_listens_where_the_system_serves_outgoing_connections(tmp_path, monkeypatch):
    """A connection of one replicator had taken the port of another that was about to start."""
    chosen = ports(tmp_path / "a")
    assert len(set(chosen)) == 6
    assert max(chosen) < mesh._first_ephemeral_port()
    (tmp_path / "range").write_text("1024\t65535\n")
    monkeypatch.setattr(mesh, "EPHEMERAL_PORTS", tmp_path / "range")
    assert len(set(ports(tmp_path / "b"))) == 6, "where it takes them all, from those"
    monkeypatch.setattr(mesh, "EPHEMERAL_PORTS", tmp_path / "nothing")
    assert max(ports(tmp_path / "c")) < mesh.DEFAULT_EPHEMERAL_PORT


def test_a_port_that_is_taken_is_passed_over(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        first = taken.getsockname()[1]
        monkeypatch.setattr(mesh, "FIRST_PORT", first)
        monkeypatch.setattr(mesh, "_first_ephemeral_port", lambda: min(first + 100, 1 << 16))
        assert first not in ports(tmp_path)
