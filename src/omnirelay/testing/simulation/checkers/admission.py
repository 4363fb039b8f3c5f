"""I1, I4, I5: who takes writes, who says that they are durable, and what a producer is told."""

from __future__ import annotations

from omnirelay.client.errors import AcknowledgedMissing
from omnirelay.client.outbox import PublishResult
from omnirelay.errors import OmniRelayError
from omnirelay.failover.planned import SOURCE_CLOSED
from omnirelay.failover.record import State
from omnirelay.model.batch import BatchHeader, BatchKind
from omnirelay.ports.streams import PublishAck
from omnirelay.testing.simulation.checkers.base import Checker
from omnirelay.testing.simulation.checkers.facts import Acknowledged, place
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
        for failover in self.facts.failovers.values():
            fenced = failover.state is State.FENCED and header.namespace in failover.request.namespaces
            if fenced and failover.source == cluster.name:
                self.fail("I1", f"{what} behind the cut of {failover.id}")

    def acknowledges(self, cluster: Cluster, namespace: str, producer: str, ack: PublishAck) -> None:
        """I4: durable here, now, and valid; and only by whom the store still trusts."""
        what = f"{cluster.name} acknowledges {producer}#{ack.producer_sequence} of {namespace}"
        if not self._valid_at(cluster, namespace, producer, ack.producer_sequence):
            self.fail("I4", f"{what}, which is not on its disk as a valid batch")
        if not self.facts.leases_stand(cluster):
            self.fail("I4", f"{what} after its lease has ended")

    def _valid_at(self, cluster: Cluster, namespace: str, producer: str, number: int) -> bool:
        attempts = self.facts.attempts[namespace, producer, number]
        return any(self.facts.is_valid(a.batch) and self.facts.holds(cluster, a.batch) for a in attempts)

    def tells_remote(self, cluster: Cluster, namespace: str, producer: str, upto: int, copies: int) -> None:
        """I4: so many others hold all of the order up to there."""
        history = self.facts.history(namespace)
        for attempt in self.facts.attempts[namespace, producer, upto]:
            if self.facts.is_valid(attempt.batch):
                end = place(attempt.batch)
                others = [other for other in self.facts.clusters.values() if other is not cluster]
                lacking = [o.name for o in others if self.facts.missing_upto(o, namespace, history, end)]
                if len(others) - len(lacking) < copies:
                    self.fail(
                        "I4",
                        f"{cluster.name} says that {copies} others hold {producer}#{upto} and all before; "
                        f"{', '.join(lacking)} lack some of it",
                    )
                return
        self.fail("I4", f"{cluster.name} says that {producer}#{upto} is remote, and it is nowhere valid")

    def told(self, producer: SimulatedProducer, payload: bytes, result: PublishResult) -> None:
        sent = (producer.namespace, producer.name, result.producer_sequence)
        copies = producer.copies if result.durability == "remote" else 0
        self.facts.acknowledged[payload] = Acknowledged(sent, producer.life, copies)
        attempts = self.facts.attempts[sent]
        if not any(attempt.batch.records == payload for attempt in attempts):
            self.fail("I4", f"{producer.name} is told that {payload!r} is durable as {sent}; it is nowhere")

    def broke(self, producer: SimulatedProducer, error: OmniRelayError) -> None:
        """I5: a producer that lives loses nothing and is never told that it is somebody else. What an earlier life of
        it left to one cluster alone may be missing; then it cannot go on, and is told."""
        if isinstance(error, AcknowledgedMissing) and producer.first_number is not None:
            upto = int(error.details["last_producer_sequence"]) + int(error.details["missing"])
            others = len(self.facts.clusters) - 1
            if upto < producer.first_number or producer.copies < others:
                return
        self.fail("I5", f"{producer.name} cannot go on: {error.message} ({error.code})")
