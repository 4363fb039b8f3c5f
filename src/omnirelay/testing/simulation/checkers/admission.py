"""I1, I4: who takes writes, and who says that they are durable."""

from __future__ import annotations

from omnirelay.client.outbox import PublishResult
from omnirelay.errors import OmniRelayError
from omnirelay.failover.planned import SOURCE_CLOSED
from omnirelay.model.batch import BatchHeader, BatchKind
from omnirelay.ports.streams import PublishAck
from omnirelay.testing.simulation.checkers.base import Checker
from omnirelay.testing.simulation.cluster import Cluster
from omnirelay.testing.simulation.workload import SimulatedProducer


class AdmissionChecker(Checker):
    def admitted(self, cluster: Cluster, header: BatchHeader) -> None:
        """I1: one cluster at a time, by lease; I9: nothing behind the barrier of a drain that may still succeed."""
        route = self.facts.route(header.namespace)
        what = f"{cluster.name} admits {header.kind.name} for {header.namespace} in epoch {header.epoch}"
        if route is None or (route.epoch, route.current.origin) != (header.epoch, header.origin):
            self.fail("I1", f"{what}; the store has {route.current if route else 'no route'}")
        elif not self.facts.holds_lease(cluster, header.namespace):
            self.fail("I1", f"{what} without its lease")
        if header.kind is BatchKind.DATA:
            for failover in self.facts.failovers.values():
                closed = failover.state in SOURCE_CLOSED and failover.token is not None
                if closed and failover.source == cluster.name and header.namespace in failover.request.namespaces:
                    self.fail("I9", f"{what}, which it has signed away for {failover.id}")

    def acknowledges(self, cluster: Cluster, namespace: str, producer: str, ack: PublishAck) -> None:
        """I4: durable here, now; and only by whom the store still trusts."""
        what = f"{cluster.name} acknowledges {producer}#{ack.producer_sequence} of {namespace}"
        if (namespace, producer, ack.producer_sequence) not in self.facts.on_disk[cluster.name]:
            self.fail("I4", f"{what}, which is not on its disk")
        if not self.facts.leases_stand(cluster):
            self.fail("I4", f"{what} after its lease has ended")

    def told(self, producer: SimulatedProducer, payload: bytes, result: PublishResult) -> None:
        sent = (producer.namespace, producer.name, result.producer_sequence)
        self.facts.acknowledged[payload] = sent
        attempts = self.facts.attempts[sent]
        if not any(attempt.batch.records == payload for attempt in attempts):
            self.fail("I4", f"{producer.name} is told that {payload!r} is durable as {sent}; it is nowhere")

    def broke(self, producer: SimulatedProducer, error: OmniRelayError) -> None:
        """I5: a producer that lives loses nothing and is never told that it is somebody else."""
        self.fail("I5", f"{producer.name} cannot go on: {error.message} ({error.code})")
