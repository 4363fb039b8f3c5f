"""Who is calling and what they may do.

A principal is what a certificate's SPIFFE id says behind the trust domain (`cluster/us-east`, `operator/alice`,
`client/orders`), or `token/NAME`. Scopes come from the replicator's configuration only; nothing is implied by a name,
but that clusters may read the mesh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from omnirelay.errors import AccessDenied, Unauthenticated

READ = "mesh.read"
OPERATE = "mesh.operate"
APPROVE = "mesh.approve"
ADMIN = "mesh.admin"
PUBLISH = "events.publish"
SUBSCRIBE = "events.subscribe"

_ADMIN_IMPLIES = frozenset({READ, OPERATE, APPROVE, ADMIN})


@dataclass(frozen=True, slots=True)
class Principal:
    name: str
    proof: str
    """`mtls` or `token`."""


def principal_of(spiffe_id: str, trust_domain: str) -> Principal:
    """Raises Unauthenticated when the id is of another trust domain or no SPIFFE id at all."""
    prefix = f"spiffe://{trust_domain}/"
    name = spiffe_id.removeprefix(prefix)
    if name == spiffe_id or not name:
        raise Unauthenticated(f"the certificate's identity {spiffe_id!r} is not of {prefix}")
    return Principal(name, "mtls")


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """`rules` maps a principal, or `kind/*`, to its scopes."""

    rules: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def scopes(self, principal: Principal) -> frozenset[str]:
        kind = principal.name.partition("/")[0]
        granted = self.rules.get(principal.name, frozenset()) | self.rules.get(f"{kind}/*", frozenset())
        if kind == "cluster":
            granted |= {READ}
        return granted | _ADMIN_IMPLIES if ADMIN in granted else granted

    def require(self, principal: Principal, scope: str) -> None:
        """Raises AccessDenied."""
        if scope not in self.scopes(principal):
            raise AccessDenied(
                f"{principal.name} lacks the scope {scope}", principal=principal.name, scope=scope
            )


def policy(rules: Iterable[tuple[str, Iterable[str]]]) -> AccessPolicy:
    """Rules for the same principal add up."""
    merged: dict[str, frozenset[str]] = {}
    for name, scopes in rules:
        merged[name] = merged.get(name, frozenset()) | frozenset(scopes)
    return AccessPolicy(merged)
