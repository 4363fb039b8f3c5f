"""Who has taken notice of a routing document: clusters, and the readers that each of them serves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ReaderBehind:
    """A reader that has not acknowledged the current epoch of its namespace."""

    namespace: str
    consumer: str
    """The name that it gives itself; may be empty."""
    principal: str
    epoch: int
    """The highest that it has acknowledged; 0 if none."""


@dataclass(frozen=True, slots=True)
class Late:
    """A reader that has not acknowledged the current epoch, and where it reads."""

    cluster: str
    reader: ReaderBehind


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Of some namespaces, as far as the clusters have reported."""

    routing_version: int
    clusters_behind: tuple[str, ...]
    """They show an older document; what their readers know counts as nothing."""
    clusters_unknown: tuple[str, ...]
    """They do not report: who reads there is unknown."""
    readers: int
    readers_behind: int
    """How many have not acknowledged the current epoch; `late` names them, as far as clusters list them."""
    late: tuple[Late, ...]
