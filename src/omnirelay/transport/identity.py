"""Who is at the other end of a call: one function, so that an edge that ends TLS elsewhere is one more case here."""

from __future__ import annotations

from typing import Any

import grpc.aio

from omnirelay.errors import PeerIdentityMismatch, Unauthenticated


def caller(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The SPIFFE id of the client certificate, which the handshake has verified. Raises Unauthenticated."""
    ids = list(context.auth_context().get("peer_spiffe_id") or ())
    if len(ids) != 1:
        raise Unauthenticated("the client certificate names no single SPIFFE id")
    return ids[0].decode("ascii", "replace")


def calling_cluster(context: grpc.aio.ServicerContext[Any, Any], trust_domain: str) -> str:
    """The cluster that the client certificate names. Raises Unauthenticated, PeerIdentityMismatch."""
    principal = caller(context)
    prefix = f"spiffe://{trust_domain}/cluster/"
    cluster = principal.removeprefix(prefix)
    if cluster == principal or not cluster:
        raise PeerIdentityMismatch(
            f"{principal} is not a cluster of this mesh", certificate_cluster=principal, cluster="a cluster"
        )
    return cluster
