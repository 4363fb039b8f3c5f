"""Cluster descriptors: what the mesh knows of each cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ClusterState(StrEnum):
    """`active` owns at least one namespace, `passive` none; `draining` while one of its namespaces is handed over;
    `maintenance` is set by an operator and bars the cluster from being a target."""

    ACTIVE = "active"
    PASSIVE = "passive"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a cluster answers: `host:port` for gRPC, an https URL for the control API."""

    grpc: str
    control: str


@dataclass(frozen=True, slots=True)
class ClusterDescriptor:
    cluster_id: str
    region: str
    endpoints: Endpoints
    owners: tuple[str, ...]
    change_ticket: str
    priority: int = 100
    """Lower is preferred among candidates."""
    failover_policy: str = "manual"
    maintenance: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
