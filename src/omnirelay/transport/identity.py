"""Who is at the other end of a call: one function, so that an edge that ends TLS elsewhere is one more case here."""

from __future__ import annotations

import grpc.aio

from omnirelay.errors import PeerIdentityMismatch, Unauthenticated
from omnirelay.model.access import Principal, principal_of


def caller(context: grpc.aio.ServicerContext, trust_domain: str) -> Principal:
    """The principal that the client certificate names. Raises Unauthenticated."""
    properties = context.auth_context()
    ids = properties.get("peer_spiffe_id") or ()
    if len(ids) != 1:
        raise Unauthenticated("the client certificate names no single SPIFFE id")
    return principal_of(ids[0].decode("ascii", "replace"), trust_domain)


def calling_cluster(context: grpc.aio.ServicerContext, trust_domain: str) -> str:
    """The cluster that the client certificate names. Raises Unauthenticated, PeerIdentityMismatch."""
    principal = caller(context, trust_domain)
    kind, _, cluster = principal.name.partition("/")
    if kind != "cluster" or not cluster:
        raise PeerIdentityMismatch(
            f"{principal.name} is not a cluster", certificate_cluster=principal.name, cluster="a cluster"
        )
    return cluster
