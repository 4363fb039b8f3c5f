"""Certificates of a mesh: its authority, the certificates it issues, and the identity that a certificate proves.

Identities are SPIFFE ids, `spiffe://<trust domain>/<kind>/<name>`, in the URI subject alternative name. Keys are
ECDSA P-256, files are PEM; a key file is readable by its owner only and never written over unless told to. A mesh
whose certificates come from elsewhere needs nothing of this but `spiffe_id_of`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from omnirelay.errors import BadRequest, ConfigInvalid, Conflict, Unauthenticated
from omnirelay.model import ids

CA_VALIDITY_DAYS = 3650
CERTIFICATE_VALIDITY_DAYS = 90
DEFAULT_HOSTS = ("localhost", "127.0.0.1")
CLOCK_ALLOWANCE = timedelta(minutes=5)
"""A certificate is valid this long before it is issued: clocks of clusters differ."""

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SPIFFE_ID = re.compile(r"spiffe://([a-z0-9._-]{1,255})/(cluster|operator|client)/([A-Za-z0-9._-]{1,128})")


class Kind(StrEnum):
    CLUSTER = "cluster"
    OPERATOR = "operator"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class SpiffeId:
    trust_domain: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Authority:
    """A mesh's certificate authority, loaded."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def trust_domain(self) -> str:
        return trust_domain_of(self.certificate)


@dataclass(frozen=True, slots=True)
class Issued:
    """Where a certificate and its key were written."""

    certificate: Path
    key: Path
    identity: str
    expires_at: datetime


# --- reading identities ---------------------------------------------------------------------------------------


def parse_spiffe_id(text: str) -> SpiffeId:
    """Raises BadRequest for anything but an id of this mesh's form."""
    match = _SPIFFE_ID.fullmatch(text)
    if match is None:
        raise BadRequest(f"{text[:200]!r} is not spiffe://TRUST_DOMAIN/cluster|operator|client/NAME")
    return SpiffeId(match[1], Kind(match[2]), match[3])


def spiffe_id_of(certificate: bytes) -> SpiffeId:
    """The identity that a certificate (PEM or DER) names. Whether to trust it has been decided by TLS.

    Raises Unauthenticated unless there is exactly one URI name and it has this mesh's form.
    """
    try:
        if certificate.lstrip().startswith(b"-----BEGIN"):
            parsed = x509.load_pem_x509_certificate(certificate)
        else:
            parsed = x509.load_der_x509_certificate(certificate)
        uris = _uris(parsed)
    except ValueError as error:
        raise Unauthenticated(f"not a certificate: {error}") from error
    if len(uris) != 1:
        raise Unauthenticated(f"the certificate has {len(uris)} URI names; a SPIFFE certificate has one")
    try:
        return parse_spiffe_id(uris[0])
    except BadRequest as error:
        raise Unauthenticated(f"the certificate names no one of this mesh: {error.message}") from error


def trust_domain_of(authority: x509.Certificate) -> str:
    """Raises ConfigInvalid when the certificate is not a mesh's authority."""
    uris = _uris(authority)
    domain = uris[0].removeprefix("spiffe://") if len(uris) == 1 else ""
    if not _TRUST_DOMAIN.fullmatch(domain):
        raise ConfigInvalid("the authority's certificate names no trust domain (URI spiffe://TRUST_DOMAIN)")
    return domain


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


# --- the authority --------------------------------------------------------------------------------------------


def create_authority(
    directory: Path, trust_domain: str, *, now: datetime, days: int = CA_VALIDITY_DAYS, force: bool = False
) -> Issued:
    """Writes ca.crt and ca.key. Raises Conflict if they exist and `force` is not given."""
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise BadRequest(f"trust domain {trust_domain[:80]!r} has other characters than a-z, 0-9, '.', '-', '_'")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain} authority"[:64])])
    uri = f"spiffe://{trust_domain}"
    builder = (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _write(directory, "ca", builder.sign(key, hashes.SHA256()), key, uri, force)


def load_authority(directory: Path) -> Authority:
    """Raises ConfigInvalid, which names the file that is missing or wrong."""
    certificate_path, key_path = directory / "ca.crt", directory / "ca.key"
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = load_pem_private_key(key_path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigInvalid(f"cannot read {error.filename}: {error.strerror}; run: omnirelay pki init") from error
    except (ValueError, TypeError) as error:
        raise ConfigInvalid(f"the authority in {directory} is damaged: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigInvalid(f"{key_path} is not the key of {certificate_path}")
    return Authority(certificate, key)


# --- certificates ---------------------------------------------------------------------------------------------


def issue(
    authority: Authority,
    directory: Path,
    kind: Kind,
    name: str,
    *,
    now: datetime,
    hosts: Sequence[str] = DEFAULT_HOSTS,
    days: int = CERTIFICATE_VALIDITY_DAYS,
    force: bool = False,
) -> Issued:
    """Writes NAME.crt and NAME.key. `hosts` are the names and addresses that a cluster answers under; others have none.

    Raises Conflict if the files exist and `force` is not given, BadRequest for an impossible name or validity.
    """
    if kind is Kind.CLUSTER:
        ids.cluster_id(name)
    elif not _NAME.fullmatch(name):
        raise BadRequest(f"{kind} name {name[:80]!r} has other characters than letters, digits, '.', '-', '_'")
    if name == "ca":
        raise BadRequest("the name ca is the authority's own")
    identity = SpiffeId(authority.trust_domain, kind, name)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity))]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if kind is Kind.CLUSTER:
        # Peers dial any address and expect this name.
        names += [x509.DNSName(name), *(_host(host) for host in hosts)]
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_key, critical=False)
    )
    return _write(directory, name, builder.sign(authority.key, hashes.SHA256()), key, str(identity), force)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    if days < 1:
        raise BadRequest(f"a certificate must be valid for at least a day, not {days}")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - CLOCK_ALLOWANCE)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(
    directory: Path,
    name: str,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    identity: str,
    force: bool,
) -> Issued:
    issued = Issued(directory / f"{name}.crt", directory / f"{name}.key", identity, certificate.not_valid_after_utc)
    existing = [str(path) for path in (issued.certificate, issued.key) if path.exists()]
    if existing and not force:
        raise Conflict(f"{' and '.join(existing)} exist already; --force replaces them", paths=existing)
    directory.mkdir(parents=True, exist_ok=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _replace(issued.key, pem, 0o600)
    _replace(issued.certificate, certificate.public_bytes(Encoding.PEM), 0o644)
    return issued


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Whoever reads the path sees the old file or the new one, and nobody a key with loose permissions."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
