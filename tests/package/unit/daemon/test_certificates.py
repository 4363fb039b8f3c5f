"""What a replicator finds out about its TLS files before it listens; gRPC would only say that it cannot listen."""

from datetime import UTC, datetime, timedelta

import pytest

from omnirelay import pki
from omnirelay.config.settings import TlsSettings
from omnirelay.daemon.certificates import check_certificates
from omnirelay.errors import ConfigInvalid
from omnirelay.pki import Kind

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def files(tmp_path):
    pki.create_authority(tmp_path, "mesh.example", now=NOW)
    authority = pki.load_authority(tmp_path)
    for name in ("us-east", "eu-west"):
        pki.issue(authority, tmp_path, Kind.CLUSTER, name, now=NOW, days=30)
    pki.issue(authority, tmp_path, Kind.OPERATOR, "alice", now=NOW)
    (tmp_path / "garbage").write_text("garbage", encoding="utf-8")
    (tmp_path / "directory").mkdir()
    return tmp_path


def tls(files, trust_domain="mesh.example", **changes):
    named = {"ca": "ca.crt", "certificate": "us-east.crt", "key": "us-east.key", **changes}
    return TlsSettings(trust_domain=trust_domain, **{name: files / file for name, file in named.items()})


def test_what_was_issued_passes(files):
    check_certificates(tls(files), "us-east", NOW)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ca": "garbage"}, "tls.ca: .*holds no certificate in PEM"),
        ({"certificate": "garbage"}, "tls.certificate: .*holds no certificate in PEM"),
        ({"certificate": "us-east.key"}, "tls.certificate: .*holds no certificate in PEM"),
        ({"key": "garbage"}, "tls.key: .*holds no private key in PEM"),
        ({"key": "none"}, "tls.key: there is no file"),
        ({"key": "directory"}, "tls.key: .*cannot be read: Is a directory"),
        ({"key": "eu-west.key"}, "tls.key: .*eu-west.key is not the key of .*us-east.crt"),
        (
            {"certificate": "eu-west.crt", "key": "eu-west.key"},
            "is for .*/cluster/eu-west, and this is .*/cluster/us-east",
        ),
        ({"certificate": "alice.crt", "key": "alice.key"}, "is for .*/operator/alice"),
        ({"certificate": "ca.crt", "key": "ca.key"}, "tls.certificate: .*names no one of this mesh"),
        ({"trust_domain": "other.example"}, "tls.certificate: .*this is spiffe://other.example/cluster/us-east"),
    ],
)
def test_a_file_that_does_not_fit_is_named(files, changes, said):
    with pytest.raises(ConfigInvalid, match=said):
        check_certificates(tls(files, **changes), "us-east", NOW)


def test_a_certificate_that_has_ended_is_named(files):
    with pytest.raises(ConfigInvalid, match=r"tls\.certificate: .*ended at "):
        check_certificates(tls(files), "us-east", NOW + timedelta(days=31))
