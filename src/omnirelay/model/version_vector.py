"""Version vectors: origin → highest contiguous sequence durably applied.

The comparison is the pointwise partial order of Fidge and Mattern; an absent origin counts as 0. Vectors form a
join semilattice under `merge`, which the property tests state as laws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum


class Comparison(Enum):
    EQUAL = "equal"
    DOMINATES = "dominates"
    DOMINATED = "dominated"
    CONCURRENT = "concurrent"


class VersionVector(Mapping[str, int]):
    """Immutable and hashable. `vector[origin]` of an unknown origin is 0; iteration skips zeros."""

    __slots__ = ("_sequences",)

    def __init__(self, sequences: Mapping[str, int] | None = None) -> None:
        entries = dict(sequences or {})
        if any(sequence < 0 for sequence in entries.values()):
            raise ValueError(f"negative sequence in {entries}")
        self._sequences = {origin: entries[origin] for origin in sorted(entries) if entries[origin]}

    def __getitem__(self, origin: str) -> int:
        return self._sequences.get(origin, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, origin: object) -> bool:
        return origin in self._sequences

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionVector) and self._sequences == other._sequences

    def __hash__(self) -> int:
        return hash(tuple(self._sequences.items()))

    def __repr__(self) -> str:
        return f"VersionVector({self._sequences})"

    def descends(self, other: VersionVector) -> bool:
        """At or beyond `other` for every origin."""
        return all(self[origin] >= sequence for origin, sequence in other.items())

    def dominates(self, other: VersionVector) -> bool:
        """Descends and is not equal."""
        return self != other and self.descends(other)

    def concurrent(self, other: VersionVector) -> bool:
        """Each is ahead of the other somewhere."""
        return not self.descends(other) and not other.descends(self)

    def compare(self, other: VersionVector) -> Comparison:
        if self == other:
            return Comparison.EQUAL
        if self.descends(other):
            return Comparison.DOMINATES
        return Comparison.DOMINATED if other.descends(self) else Comparison.CONCURRENT

    def merge(self, other: VersionVector) -> VersionVector:
        """Pointwise maximum: the least vector that descends both."""
        return VersionVector({origin: max(self[origin], other[origin]) for origin in {*self, *other}})

    def advance(self, origin: str, sequence: int) -> VersionVector:
        """The same with `origin` at `sequence`. Raises ValueError if that would go back."""
        if sequence < self[origin]:
            raise ValueError(f"{origin} would go back from {self[origin]} to {sequence}")
        return VersionVector({**self._sequences, origin: sequence})
