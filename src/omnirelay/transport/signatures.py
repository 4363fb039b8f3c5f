"""Demotion tokens: signed with the cluster's TLS key, proven by its certificate and the mesh's authority."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from omnirelay.errors import CredentialsUnreadable, TokenInvalid
from omnirelay.failover.plan_hash import canonical_json
from omnirelay.failover.record import DemotionToken
from omnirelay.transport.tls import TlsFiles

T = TypeVar("T")


def sign(token: DemotionToken, files: TlsFiles) -> DemotionToken:
    """ECDSA with SHA-256 over the canonical JSON of the token without certificate and signature. The files are read at
    each call. Raises CredentialsUnreadable while they cannot be read or do not belong together, as it is while they are
    replaced."""
    key = _read(files.key, lambda pem: serialization.load_pem_private_key(pem, password=None))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TokenInvalid(f"{files.key} is not an elliptic-curve key", failover_id=token.failover_id)
    text, certificate = _read(files.certificate, lambda pem: (pem.decode(), x509.load_pem_x509_certificate(pem)))
    if certificate.public_key() != key.public_key():
        raise CredentialsUnreadable(f"{files.key} is not the key of {files.certificate}", path=str(files.key))
    signature = key.sign(_content(token), ec.ECDSA(hashes.SHA256()))
    return replace(token, certificate=text, signature=base64.b64encode(signature).decode())


def verify(token: DemotionToken, cluster: str, trust_domain: str, ca: Path) -> None:
    """Raises TokenInvalid unless `cluster` has signed it with a certificate that the authority issued, and
    CredentialsUnreadable while nobody can tell because the authority's own cannot be read."""
    authority = _read(ca, x509.load_pem_x509_certificate)
    try:
        certificate = x509.load_pem_x509_certificate(token.certificate.encode())
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identities = names.get_values_for_type(x509.UniformResourceIdentifier)
        public_key = certificate.public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise ValueError("the certificate has no elliptic-curve key")
        public_key.verify(base64.b64decode(token.signature), _content(token), ec.ECDSA(hashes.SHA256()))
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise TokenInvalid(
            f"the demotion token does not prove itself: {error}", failover_id=token.failover_id
        ) from error
    if f"spiffe://{trust_domain}/cluster/{cluster}" not in identities:
        raise TokenInvalid(f"the demotion token is not signed by {cluster}", failover_id=token.failover_id)


def _read(file: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(file.read_bytes())
    except OSError as error:
        raise CredentialsUnreadable(f"{file} cannot be read: {error.strerror}", path=str(file)) from error
    except (ValueError, TypeError) as error:  # the latter for a key behind a password
        raise CredentialsUnreadable(f"{file} does not hold what it should, in PEM", path=str(file)) from error


def _content(token: DemotionToken) -> bytes:
    fields = asdict(token)
    del fields["certificate"], fields["signature"]
    return canonical_json(fields)
