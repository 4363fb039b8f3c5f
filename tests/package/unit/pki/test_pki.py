import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from omnirelay import pki
from omnirelay.errors import BadRequest, ConfigInvalid, Conflict, Unauthenticated
from omnirelay.pki import Kind

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def authority(tmp_path):
    pki.create_authority(tmp_path, "mesh.example", now=NOW)
    return pki.load_authority(tmp_path)


def handshake(tmp_path, server, client, hostname):
    """Mutual TLS in memory; raises ssl.SSLError when either side refuses."""
    sides = []
    for name, purpose in ((server, ssl.PROTOCOL_TLS_SERVER), (client, ssl.PROTOCOL_TLS_CLIENT)):
        context = ssl.SSLContext(purpose)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tmp_path / "ca.crt")
        context.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
        sides.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = sides[0].wrap_bio(to_server, to_client, server_side=True)
    calling = sides[1].wrap_bio(to_client, to_server, server_hostname=hostname)
    for side in (calling, serving, calling, serving):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return serving.getpeercert(binary_form=True)


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1"])
def test_issued_certificates_prove_both_sides(tmp_path, authority, hostname):
    pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW)
    pki.issue(authority, tmp_path, Kind.OPERATOR, "alice", now=NOW)
    seen = handshake(tmp_path, "us-east", "alice", hostname)
    assert str(pki.spiffe_id_of(seen)) == "spiffe://mesh.example/operator/alice"


def test_a_client_certificate_serves_nobody(tmp_path, authority):
    pki.issue(authority, tmp_path, Kind.CLIENT, "orders", now=NOW)
    pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW)
    with pytest.raises(ssl.SSLError):
        handshake(tmp_path, "orders", "us-east", "localhost")


def test_a_certificate_answers_under_its_hosts_only(tmp_path, authority):
    pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW, hosts=["us-east.example", "10.0.0.7"])
    pki.issue(authority, tmp_path, Kind.CLIENT, "orders", now=NOW)
    handshake(tmp_path, "us-east", "orders", "us-east.example")
    with pytest.raises(ssl.SSLError):
        handshake(tmp_path, "us-east", "orders", "localhost")


def test_keys_are_for_their_owner_only(tmp_path, authority):
    issued = pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW)
    for path in (issued.key, tmp_path / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.crt", "ca.key", "us-east.crt", "us-east.key"]


def test_nothing_is_written_over_unless_forced(tmp_path, authority):
    issued = pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW)
    before = issued.key.read_bytes()
    with pytest.raises(Conflict):
        pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW)
    with pytest.raises(Conflict):
        pki.create_authority(tmp_path, "mesh.example", now=NOW)
    assert issued.key.read_bytes() == before
    pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW, force=True)
    assert issued.key.read_bytes() != before


def test_validity_allows_for_clocks_that_differ(tmp_path, authority):
    issued = pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW, days=7)
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == issued.expires_at == NOW + timedelta(days=7)


def test_an_identity_is_read_from_pem_and_der(tmp_path, authority):
    pem = pki.issue(authority, tmp_path, Kind.CLUSTER, "us-east", now=NOW).certificate.read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert pki.spiffe_id_of(pem) == pki.spiffe_id_of(der) == pki.SpiffeId("mesh.example", Kind.CLUSTER, "us-east")


def test_what_names_no_one_is_unauthenticated(tmp_path, authority):
    for certificate in (b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nx", (tmp_path / "ca.crt").read_bytes()):
        with pytest.raises(Unauthenticated):
            pki.spiffe_id_of(certificate)


@pytest.mark.parametrize(
    "text",
    [
        "https://mesh.example/cluster/a",
        "spiffe://mesh.example/cluster/",
        "spiffe://mesh.example/cluster/a/b",
        "spiffe://mesh.example/admin/a",
        "spiffe://Mesh/cluster/a",
        "spiffe://mesh.example/cluster/a\n",
    ],
)
def test_only_ids_of_this_form_are_ids(text):
    with pytest.raises(BadRequest):
        pki.parse_spiffe_id(text)


@pytest.mark.parametrize(
    ("kind", "name", "days"),
    [
        (Kind.CLUSTER, "Not_A_Label", 1),
        (Kind.CLIENT, "../x", 1),
        (Kind.OPERATOR, "", 1),
        (Kind.CLIENT, "a", 0),
        (Kind.CLUSTER, "ca", 1),
    ],
)
def test_impossible_names_and_validities_are_refused(tmp_path, authority, kind, name, days):
    with pytest.raises(BadRequest):
        pki.issue(authority, tmp_path, kind, name, now=NOW, days=days)


def test_a_trust_domain_has_a_form(tmp_path):
    with pytest.raises(BadRequest):
        pki.create_authority(tmp_path, "Mesh/x", now=NOW)


def test_a_missing_or_wrong_authority_is_named(tmp_path, authority):
    with pytest.raises(ConfigInvalid, match="pki init"):
        pki.load_authority(tmp_path / "elsewhere")
    other = tmp_path / "other"
    pki.create_authority(other, "mesh.example", now=NOW)
    (tmp_path / "ca.key").write_bytes((other / "ca.key").read_bytes())
    with pytest.raises(ConfigInvalid, match=r"ca\.key"):
        pki.load_authority(tmp_path)
    (tmp_path / "ca.crt").write_text("rubbish")
    with pytest.raises(ConfigInvalid, match="damaged"):
        pki.load_authority(tmp_path)
