"""Whether a cluster's files of TLS are what the configuration says, found out before anything listens."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from omnirelay.config.settings import TlsSettings
from omnirelay.errors import ConfigInvalid, Unauthenticated
from omnirelay.model.times import rfc3339
from omnirelay.pki import Kind, SpiffeId, spiffe_id_of


def check_certificates(tls: TlsSettings, cluster: str, now: datetime) -> None:
    """Raises ConfigInvalid, which names the setting: peers would refuse what it refuses, and say less."""
    _certificates("ca", tls.ca)
    certificate = _certificates("certificate", tls.certificate)[0]
    if _public_key("key", tls.key) != certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ):
        raise _invalid("key", f"{tls.key} is not the key of {tls.certificate}")
    try:
        names = spiffe_id_of(certificate.public_bytes(Encoding.DER))
    except Unauthenticated as error:
        raise _invalid("certificate", f"{tls.certificate}: {error.message}") from error
    wanted = SpiffeId(tls.trust_domain, Kind.CLUSTER, cluster)
    if names != wanted:
        raise _invalid("certificate", f"{tls.certificate} is for {names}, and this is {wanted}")
    if certificate.not_valid_after_utc <= now:
        ended = rfc3339(int(certificate.not_valid_after_utc.timestamp() * 1000))
        raise _invalid("certificate", f"{tls.certificate} ended at {ended}")


def _certificates(name: str, file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(name, file))
    except ValueError as error:
        raise _invalid(name, f"{file} holds no certificate in PEM") from error


def _public_key(name: str, file: Path) -> bytes:
    try:
        key = load_pem_private_key(_read(name, file), password=None)
    except (ValueError, TypeError) as error:  # the latter for a key behind a password
        raise _invalid(name, f"{file} holds no private key in PEM that opens without a password") from error
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise _invalid(name, f"there is no file {file}") from error
    except OSError as error:
        raise _invalid(name, f"{file} cannot be read: {error.strerror}") from error


def _invalid(name: str, what: str) -> ConfigInvalid:
    return ConfigInvalid(f"tls.{name}: {what}", path=f"tls.{name}")
