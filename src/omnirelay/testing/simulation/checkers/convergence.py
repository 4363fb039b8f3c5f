"""I12, and what the whole run amounts to: all clusters the same, every acknowledged record there exactly once."""

from __future__ import annotations

from collections import Counter

from omnirelay.failover.planned import SOURCE_CLOSED
from omnirelay.testing.simulation.checkers.base import Checker
from omnirelay.testing.simulation.checkers.facts import payload


class ConvergenceChecker(Checker):
    def at_end(self) -> None:
        self._level()
        self._exactly_once()
        for failover in self.facts.failovers.values():
            if failover.state in SOURCE_CLOSED:
                self.fail("I10", f"{failover.id} drains {failover.source} for ever")

    def _level(self) -> None:
        heads = {
            cluster.name: {
                origin: (o.head.sequence, o.head.digest.hex()[:8]) for origin, o in cluster.disk.origins.items()
            }
            for cluster in self.facts.clusters.values()
        }
        routes = {cluster.name: cluster.disk.routes for cluster in self.facts.clusters.values()}
        if any(head != next(iter(heads.values())) for head in heads.values()):
            self.fail("I12", f"vectors or digests differ: {heads}")
        if any(route != self.facts.routing.routes for route in routes.values()):
            self.fail("I12", "epoch histories, and with them the valid sets, differ")

    def _exactly_once(self) -> None:
        """I4 and I5 over the whole run; what emergencies cut off is accounted for by their manifests."""
        valid: Counter[bytes] = Counter()
        for namespace in self.facts.routing.routes:
            valid.update(payload(batch) for batch in self.facts.valid_order(namespace))
        doubled = sorted(payload for payload, times in valid.items() if times > 1)
        if doubled:
            self.fail("I5", f"{len(doubled)} batches are valid more than once, {doubled[:3]} first")
        fenced = {
            payload(b) for f in self.facts.emergencies for batches in self.facts.cut_off(f).values() for b in batches
        }
        lost = sorted(self.facts.acknowledged.keys() - valid.keys() - fenced)
        if lost:
            self.fail("I4", f"{len(lost)} acknowledged batches are neither valid nor fenced, {lost[:3]} first")
        everywhere = len(self.facts.clusters) - 1
        for one in sorted(self.facts.acknowledged.keys() & fenced - valid.keys()):
            told = self.facts.acknowledged[one]
            if told.remote_copies >= everywhere:
                self.fail("I4", f"{one!r} was remote at every other cluster, and an emergency lost it")
            producer = self.facts.producers[told.sent[1]]
            if producer.life == told.life and producer.copies >= everywhere:
                self.fail("I5", f"{one!r} is lost, and its producer lives")
