"""Who is calling: known by a client certificate of the mesh's authority, or by a bearer token.

The server has verified the certificate during the handshake; here it is only read. What the caller may do is
omnirelay.model.access.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from omnirelay.errors import Unauthenticated
from omnirelay.failover.audit_chain import IdentityProof
from omnirelay.model.access import AccessPolicy
from omnirelay.pki import spiffe_id_of
from omnirelay.runtime.audit import Actor


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller who is known; `principal` is a certificate's SPIFFE id or a token's configured name."""

    principal: str
    proof: IdentityProof

    @property
    def actor(self) -> Actor:
        return Actor(self.principal, self.proof)


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
        return Caller(principal, "token")
    certificate: bytes | None = connection.scope.get("state", {}).get("peer_certificate")
    if certificate is None:
        raise Unauthenticated("the request carries neither a client certificate nor a bearer token")
    return Caller(str(spiffe_id_of(certificate)), "mtls")


def is_known(connection: HTTPConnection, policy: AccessPolicy) -> bool:
    """Whether `identify` finds a caller."""
    try:
        identify(connection, policy)
    except Unauthenticated:
        return False
    return True
