"""The coordination store, with a network of its own between it and each cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from omnirelay.testing.memory_coordination import MemoryClient, MemoryCoordination

T = TypeVar("T")


class SimulatedStore(MemoryCoordination):
    requests = 0

    def connect(self, latency: Callable[[], float]) -> SimulatedClient:
        client = SimulatedClient(self, latency)
        self._clients[client] = None
        return client

    @property
    def now(self) -> float:
        return self._clock.monotonic()

    def stands(self, lease: int) -> bool:
        """Whether the lease has not run out, whoever has noticed or not."""
        state = self._leases.get(lease)
        return state is not None and state.deadline > self._clock.monotonic()


class SimulatedClient(MemoryClient):
    """`latency` is drawn for each request."""

    def __init__(self, store: SimulatedStore, latency: Callable[[], float]) -> None:
        super().__init__(store)
        self._simulated = store
        self._latency = latency
        self.leases: list[int] = []
        """What was granted over this client."""

    async def grant_lease(self, ttl_seconds: float) -> int:
        lease = await super().grant_lease(ttl_seconds)
        self.leases.append(lease)
        return lease

    async def _call(self, request: Callable[[], T]) -> T:
        self.latency_seconds = self._latency()
        self._simulated.requests += 1
        return await super()._call(request)
