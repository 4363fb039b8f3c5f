"""Which origins to ask from which peer: a cluster's own log from itself, or, while its link is down, from a relay."""

from __future__ import annotations

from collections.abc import Mapping

from omnirelay.model.ids import cluster_of


def interests(origins: Mapping[str, str], connected: Mapping[str, bool], own_origin: str) -> dict[str, tuple[str, ...]]:
    """Peer → origins to ask of it.

    `origins` maps each origin of the mesh to its cluster, `connected` each peer to whether its link is up. An origin
    whose cluster is not connected is asked of every connected peer: a batch that comes twice is a counted duplicate,
    while one relay that lags or dies would otherwise hold the origin up. Logs of the own cluster's earlier
    incarnations, lost here, are asked of the others in the same way; only the log that is written here is not.
    """
    up = sorted(peer for peer, is_up in connected.items() if is_up)
    wanted: dict[str, list[str]] = {peer: [] for peer in connected}
    for origin in sorted(origins):
        cluster = origins[origin]
        if origin == own_origin:
            continue
        for peer in [cluster] if connected.get(cluster) or not up else up:
            if peer in wanted:
                wanted[peer].append(origin)
    return {peer: tuple(names) for peer, names in wanted.items()}


def clusters_by_origin(origins: set[str]) -> dict[str, str]:
    return {origin: cluster_of(origin) for origin in origins}
