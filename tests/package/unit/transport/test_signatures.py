"""Demotion tokens: who signed is proven, and files that are being replaced are a reason to try again."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from omnirelay import pki
from omnirelay.errors import CredentialsUnreadable, TokenInvalid
from omnirelay.failover.record import Barrier, DemotionToken
from omnirelay.transport.signatures import sign, verify
from omnirelay.transport.tls import TlsFiles

TOKEN = DemotionToken("fo-1", "hash", {"default": Barrier("us-east", 1, 7)}, {"us-east": "00"}, "2026-01-31T03:04:05Z")


@pytest.fixture
def files(tmp_path):
    """Of us-east; eu-west's lie beside them."""
    now = datetime.now(UTC)
    pki.create_authority(tmp_path, "mesh", now=now)
    for name in ("us-east", "eu-west"):
        pki.issue(pki.load_authority(tmp_path), tmp_path, pki.Kind.CLUSTER, name, now=now)
    return TlsFiles(tmp_path / "ca.crt", tmp_path / "us-east.crt", tmp_path / "us-east.key")


def test_a_token_proves_who_signed_it_and_what(files):
    signed = sign(TOKEN, files)
    verify(signed, "us-east", "mesh", files.ca)
    for token, cluster in ((signed, "eu-west"), (replace(signed, plan_hash="another"), "us-east"), (TOKEN, "us-east")):
        with pytest.raises(TokenInvalid):
            verify(token, cluster, "mesh", files.ca)


@pytest.mark.parametrize("which", ["key", "certificate"])
@pytest.mark.parametrize("becomes", ["missing", "half written", "no text", "a directory"])
def test_a_file_that_was_just_being_replaced_ended_the_process_that_signed(files, which, becomes):
    file = getattr(files, which)
    content = file.read_bytes()
    file.unlink()
    if becomes == "a directory":
        file.mkdir()
    elif becomes != "missing":
        file.write_bytes(content[:-40] if becomes == "half written" else b"\xff")
    with pytest.raises(CredentialsUnreadable) as refused:
        sign(TOKEN, files)
    assert refused.value.retryable
    assert str(file) in refused.value.operator_hint


def test_a_key_whose_certificate_is_still_the_old_one_signed_what_nobody_could_verify(files, tmp_path):
    files.key.write_bytes((tmp_path / "eu-west.key").read_bytes())
    with pytest.raises(CredentialsUnreadable, match="not the key of"):
        sign(TOKEN, files)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_an_authority_that_was_just_being_replaced_made_every_token_invalid(files, content):
    signed = sign(TOKEN, files)
    files.ca.unlink()
    if content is not None:
        files.ca.write_bytes(content)
    with pytest.raises(CredentialsUnreadable) as refused:
        verify(signed, "us-east", "mesh", files.ca)
    assert str(files.ca) in refused.value.operator_hint
