"""Who may do what.

A principal is the SPIFFE id of a certificate (`spiffe://omnirelay/operator/alice`) or the configured name of a bearer
token. Scopes come from the replicator's configuration only; nothing is implied by a name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from omnirelay.errors import AccessDenied


class Scope(StrEnum):
    READ = "mesh.read"
    OPERATE = "mesh.operate"
    APPROVE = "mesh.approve"
    ADMIN = "mesh.admin"
    PUBLISH = "events.publish"
    SUBSCRIBE = "events.subscribe"


_MESH = frozenset({Scope.READ, Scope.OPERATE, Scope.APPROVE, Scope.ADMIN})
_IMPLIED = {
    Scope.OPERATE: frozenset({Scope.READ}),
    Scope.APPROVE: frozenset({Scope.READ}),
    Scope.ADMIN: _MESH,
}
"""Whoever may change the mesh may read it; `mesh.admin` may do everything but approve what it asked for itself. The
scopes of the event service stand alone: an operator has no business in producers' records."""


@dataclass(frozen=True, slots=True)
class AccessPolicy:
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
                granted.update(scopes, *(_IMPLIED.get(scope, frozenset()) for scope in scopes))
        return frozenset(granted)

    def principal_of(self, token: str) -> str | None:
        """The principal whom a token names. The time it takes does not tell how much of a wrong token was right."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for known, principal in self.tokens.items():
            if hmac.compare_digest(known.lower(), digest):
                found = principal
        return found

    def require(self, principal: str, scope: Scope) -> None:
        """Raises AccessDenied."""
        if scope not in self.scopes_of(principal):
            raise AccessDenied(f"{principal} lacks the scope {scope}", principal=principal, scope=str(scope))
