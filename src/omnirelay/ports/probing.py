"""Looking at another cluster as its clients would."""

from __future__ import annotations

from typing import Protocol

from omnirelay.failover.evidence import Probe
from omnirelay.model.descriptor import ClusterDescriptor


class EndpointProbe(Protocol):
    async def probe(self, descriptor: ClusterDescriptor) -> Probe:
        """Asks every endpoint of the descriptor whether it serves. Never raises; takes PROBE_SECONDS at the most."""
        ...


PROBE_SECONDS = 1.0
