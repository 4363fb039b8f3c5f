"""What a checker is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from omnirelay.client.outbox import PublishResult
from omnirelay.errors import OmniRelayError
from omnirelay.model.batch import Batch, BatchHeader
from omnirelay.model.position import Cursor
from omnirelay.ports.coordination import Change
from omnirelay.ports.streams import FenceNotice, PublishAck
from omnirelay.runtime.delivering import ToReader
from omnirelay.testing.simulation.checkers.facts import Facts, Held
from omnirelay.testing.simulation.cluster import Cluster
from omnirelay.testing.simulation.workload import SimulatedConsumer, SimulatedProducer


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


Fail = Callable[[str, str], None]
"""(invariant, what was seen)"""


class Checker:
    """Hears of everything; overrides what it judges by."""

    def __init__(self, facts: Facts, fail: Fail) -> None:
        self.facts = facts
        self.fail = fail

    # --- at the very moment --------------------------------------------------------------------------------------

    def admitted(self, cluster: Cluster, header: BatchHeader) -> None: ...

    def appended(self, cluster: Cluster, batch: Batch, installed: int | None) -> None: ...

    def acknowledges(self, cluster: Cluster, namespace: str, producer: str, ack: PublishAck) -> None: ...

    def tells_remote(self, cluster: Cluster, namespace: str, producer: str, upto: int, copies: int) -> None: ...

    def delivers(
        self, cluster: Cluster, namespace: str, after: Cursor | None, epochs: int, message: ToReader
    ) -> None: ...

    def told(self, producer: SimulatedProducer, payload: bytes, result: PublishResult) -> None: ...

    def broke(self, producer: SimulatedProducer, error: OmniRelayError) -> None: ...

    def delivered(self, consumer: SimulatedConsumer, batch: Batch) -> None: ...

    def withdrawn(self, consumer: SimulatedConsumer, batch: Batch) -> None: ...

    def began_again(self, consumer: SimulatedConsumer) -> None: ...

    def fenced(self, consumer: SimulatedConsumer, notice: FenceNotice) -> None: ...

    def rehearsed(self, operator: str, what: str, refusal: str) -> None:
        """A dry run found nothing against a step, before and after the real one was refused, while nothing in the
        coordination store but the clock had moved."""

    # --- after each step -----------------------------------------------------------------------------------------

    def stored(self, changes: Sequence[Change]) -> None:
        """The coordination store has a new revision with these changes. `facts` still show the one before."""

    def held(self, cluster: Cluster, held: Held) -> None:
        """A disk has one more batch. `facts` do not show it yet."""

    def after_step(self, touched: Iterable[Cluster]) -> None:
        """`touched` are the clusters whose disks the step may have changed."""

    def at_end(self) -> None:
        """Everything is healed, and as level as it will get."""
