"""Who is calling, and what they may do.

A caller is known by a client certificate of the mesh's authority or by a bearer token. The server has verified the
certificate during the handshake; here it is only read. Of a token the policy holds the SHA-256, never the token.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography import x509
from cryptography.x509.oid import NameOID
from starlette.requests import HTTPConnection

from omnirelay.errors import AccessDenied, Unauthenticated
from omnirelay.failover.audit_chain import IdentityProof
from omnirelay.runtime.audit import Actor

SPIFFE = "spiffe://"


class Scope(StrEnum):
    READ = "mesh.read"
    OPERATE = "mesh.operate"
    APPROVE = "mesh.approve"
    ADMIN = "mesh.admin"


_IMPLIED = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.OPERATE: frozenset({Scope.OPERATE, Scope.READ}),
    Scope.APPROVE: frozenset({Scope.APPROVE, Scope.READ}),
    Scope.ADMIN: frozenset(Scope),
}
"""Whoever may change something may read; `mesh.admin` may do everything but approve what it asked for itself."""


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Who may do what."""

    grants: Mapping[str, frozenset[Scope]] = field(default_factory=dict)
    """Principal → scopes. A name that ends in `*` stands for every principal that begins so."""
    tokens: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 (hexadecimal) of a bearer token → the principal whom it names."""
    metrics_public: bool = False
    """Whether /metrics answers without authentication."""

    def scopes_of(self, principal: str) -> frozenset[Scope]:
        granted: set[Scope] = set()
        for name, scopes in self.grants.items():
            if principal == name or (name.endswith("*") and principal.startswith(name[:-1])):
                granted.update(*(_IMPLIED[scope] for scope in scopes))
        return frozenset(granted)

    def principal_of(self, token: str) -> str | None:
        """The principal whom a token names. The time it takes does not tell how much of a wrong token was right."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for known, principal in self.tokens.items():
            if hmac.compare_digest(known.lower(), digest):
                found = principal
        return found


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller who is known; `principal` is a SPIFFE id, a certificate's common name or a token's configured name."""

    principal: str
    proof: IdentityProof
    scopes: frozenset[Scope]

    @property
    def actor(self) -> Actor:
        return Actor(self.principal, self.proof)

    def require(self, scope: Scope) -> None:
        """Raises AccessDenied without the scope."""
        if scope not in self.scopes:
            raise AccessDenied(f"{self.principal} lacks the scope {scope}", principal=self.principal, scope=str(scope))


def identify(connection: HTTPConnection, policy: AccessPolicy) -> Caller:
    """The caller: by token where one is sent, by certificate otherwise. Raises Unauthenticated.

    A wrong token is refused even when the certificate is good: whoever sends one means to be known by it.
    """
    header = connection.headers.get("authorization")
    if header is not None:
        kind, _, token = header.partition(" ")
        principal = policy.principal_of(token.strip()) if kind.lower() == "bearer" else None
        if principal is None:
            raise Unauthenticated("the bearer token is not known")
        return Caller(principal, "token", policy.scopes_of(principal))
    certificate: bytes | None = connection.scope.get("state", {}).get("peer_certificate")
    if certificate is None:
        raise Unauthenticated("the request carries neither a client certificate nor a bearer token")
    principal = certificate_principal(certificate)
    return Caller(principal, "mtls", policy.scopes_of(principal))


def certificate_principal(der: bytes) -> str:
    """The SPIFFE id of a certificate, else its common name. Raises Unauthenticated when it names nobody, or many."""
    certificate = x509.load_der_x509_certificate(der)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    spiffe = [uri for uri in uris if uri.startswith(SPIFFE)]
    if len(spiffe) == 1:
        return spiffe[0]
    common = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not spiffe and len(common) == 1 and common[0] and not common[0].startswith(SPIFFE):
        return common[0]
    raise Unauthenticated("the client certificate carries neither exactly one SPIFFE id nor a common name")
