"""What the machine says is asked once a second for as long as a replicator lives: no answer may end it."""

from datetime import UTC, datetime, timedelta

from omnirelay import pki
from omnirelay.daemon.host import HostFacts
from omnirelay.pki import Kind

NOW = datetime.now(UTC).replace(microsecond=0)


def issue(tmp_path, days, force=False):
    issued = pki.issue(pki.load_authority(tmp_path), tmp_path, Kind.CLUSTER, "us-east", now=NOW, days=days, force=force)
    return int((NOW + timedelta(days=days)).timestamp() * 1000), issued


def test_a_certificate_that_is_being_replaced_is_the_one_before(tmp_path, caplog):
    pki.create_authority(tmp_path, "mesh.example", now=NOW)
    before, _ = issue(tmp_path, 30)
    file = tmp_path / "us-east.crt"
    facts = HostFacts(tmp_path, file)
    assert facts().certificate_expires_ms == before
    file.unlink()
    assert facts().certificate_expires_ms == before
    file.write_text("-----BEGIN CERTIFICATE-----\nhalf of i", encoding="utf-8")
    assert facts().certificate_expires_ms == before
    assert facts().certificate_expires_ms == before
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    after, _ = issue(tmp_path, 60, force=True)
    assert facts().certificate_expires_ms == after


def test_a_disk_that_does_not_answer_is_unknown(tmp_path):
    host = HostFacts(tmp_path / "gone", tmp_path / "none.crt")()
    assert (host.disk_free_bytes, host.disk_total_bytes) == (0, 0)
