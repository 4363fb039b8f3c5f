"""What producers were promised and what consumers were given, written down outside the system, and the two compared.

Nothing here asks a replicator anything: a figure of a comparison is a fact about what applications saw. Every record
is unique and names its producer and its number, so that loss, doubling and reordering can be told apart.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(slots=True)
class Sending:
    """One batch: handed over at `sent_at`, acknowledged at `acknowledged_at`, so committed somewhere in between.
    Times are seconds of the ledger's monotonic clock."""

    producer: str
    values: tuple[bytes, ...]
    sent_at: float
    size: int = 0
    """Bytes of its values."""
    acknowledged_at: float | None = None
    cluster: str = ""
    """The cluster that acknowledged it."""
    epoch: int = 0


class ProducingLedger:
    """One writer at a time; readers may look at any time."""

    def __init__(self) -> None:
        self.sendings: list[Sending] = []
        self._numbers: Counter[str] = Counter()

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def sending(self, producer: str, count: int, padding: int = 0) -> Sending:
        """The producer's next batch, with `count` records of at least `padding` bytes."""
        first = self._numbers[producer] + 1
        self._numbers[producer] += count
        numbers = range(first, first + count)
        values = tuple(b"%s#%d#".ljust(padding, b".") % (producer.encode(), number) for number in numbers)
        sending = Sending(producer, values, self.now(), sum(map(len, values)))
        self.sendings.append(sending)
        return sending

    def acknowledged(self, sending: Sending, cluster: str = "", epoch: int = 0) -> None:
        sending.cluster, sending.epoch = cluster, epoch
        sending.acknowledged_at = self.now()

    @property
    def promised(self) -> list[bytes]:
        """Every record that was acknowledged."""
        return [value for sending in self.sendings if sending.acknowledged_at for value in sending.values]

    @property
    def unanswered(self) -> int:
        """Batches that were handed over and not acknowledged."""
        return sum(sending.acknowledged_at is None for sending in self.sendings)

    @property
    def last_acknowledged_at(self) -> float:
        return max((s.acknowledged_at for s in self.sendings if s.acknowledged_at is not None), default=0.0)

    def gaps(self) -> list[float]:
        """Seconds between one acknowledgement and the next."""
        times = sorted(sending.acknowledged_at for sending in self.sendings if sending.acknowledged_at is not None)
        return [later - earlier for earlier, later in pairwise(times)]

    @property
    def longest_gap(self) -> float:
        """What producers saw of an outage."""
        return max(self.gaps(), default=0.0)


@dataclass(slots=True)
class ConsumingLedger:
    """Everything that one cluster delivered, in its order."""

    cluster: str
    delivered: list[bytes] = field(default_factory=list)
    fences: int = 0
    """How often readers were told to roll back."""

    def deliver(self, values: Iterable[bytes]) -> None:
        self.delivered.extend(values)

    def of(self, producers: frozenset[str]) -> list[bytes]:
        return [value for value in self.delivered if origin_of(value)[0] in producers]


@dataclass(frozen=True, slots=True)
class Comparison:
    acknowledged: int
    lost: int
    """Acknowledged records that some cluster did not deliver."""
    duplicated: int
    """Deliveries of a record beyond its first, in any cluster."""
    reordered: int
    """Records delivered after a later one of the same producer, in any cluster."""
    invented: int
    """Delivered records that nobody sent."""
    consistent: bool
    """Every cluster delivered the same records in the same order."""

    @property
    def faultless(self) -> bool:
        return (
            self.consistent
            and self.acknowledged > 0
            and not (self.lost or self.duplicated or self.reordered or self.invented)
        )


def origin_of(value: bytes) -> tuple[str, int]:
    """Producer and number of a record."""
    producer, number, _ = value.split(b"#", 2)
    return producer.decode(), int(number)


def compare(produced: ProducingLedger, consumed: Mapping[str, ConsumingLedger]) -> Comparison:
    """Compares what the producers of this ledger were promised with what every cluster delivered of theirs."""
    promised = set(produced.promised)
    sent = {value for sending in produced.sendings for value in sending.values}
    producers = frozenset(sending.producer for sending in produced.sendings)
    delivered = [ledger.of(producers) for ledger in consumed.values()]
    return Comparison(
        acknowledged=len(promised),
        lost=len(set().union(*(promised.difference(values) for values in delivered))) if delivered else len(promised),
        duplicated=sum(len(values) - len(set(values)) for values in delivered),
        reordered=sum(_reordered(values) for values in delivered),
        invented=len(set().union(*(set(values) - sent for values in delivered))) if delivered else 0,
        consistent=all(values == delivered[0] for values in delivered),
    )


def _reordered(values: list[bytes]) -> int:
    last: dict[str, int] = {}
    count = 0
    for value in dict.fromkeys(values):
        producer, number = origin_of(value)
        count += number < last.get(producer, 0)
        last[producer] = max(number, last.get(producer, 0))
    return count
