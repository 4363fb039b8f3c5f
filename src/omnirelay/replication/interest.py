"""Which origins to ask from which peer: a cluster's own log from itself, or, while its link is down, from a relay."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from omnirelay.model.ids import cluster_of


def interests(
    origins: Mapping[str, str],
    connected: Mapping[str, bool],
    own_origin: str,
    dropped: Mapping[str, Collection[str]],
) -> dict[str, tuple[str, ...]]:
    """Peer → origins to ask of it.

    `origins` maps each origin of the mesh to its cluster, `connected` each peer to whether its link is up, `dropped` a
    peer to the origins of which it no longer has what comes next here: they are not asked of it, because it could only
    end the stream. An origin whose cluster is not connected, or has dropped it, is asked of every connected peer: a
    batch that comes twice is a counted duplicate, while one relay that lags or dies would otherwise hold the origin
    up. Logs of the own cluster's earlier incarnations, lost here, are asked of the others in the same way; only the log
    that is written here is not.
    """
    up = sorted(peer for peer, is_up in connected.items() if is_up)
    wanted: dict[str, list[str]] = {peer: [] for peer in connected}
    for origin in sorted(origins):
        cluster = origins[origin]
        if origin == own_origin:
            continue
        direct = (connected.get(cluster) or not up) and origin not in dropped.get(cluster, ())
        for peer in [cluster] if direct else up:
            if peer in wanted and origin not in dropped.get(peer, ()):
                wanted[peer].append(origin)
    return {peer: tuple(names) for peer, names in wanted.items()}


def clusters_by_origin(origins: set[str]) -> dict[str, str]:
    return {origin: cluster_of(origin) for origin in origins}
