"""A transition table, and nothing else: illegal events raise and leave the state unchanged.

The shape is h11's: the table is data in one place, tests walk every state and event, and the diagram in the docs
is generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from omnirelay.errors import IllegalTransition

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class Machine(Generic[S, E]):
    def __init__(self, name: str, table: Mapping[S, Mapping[E, S]]) -> None:
        self.name = name
        self.table = table

    def step(self, state: S, event: E, **details: str) -> S:
        """The state after `event`. Raises IllegalTransition, which names what is possible now."""
        after = self.table.get(state, {}).get(event)
        if after is None:
            allowed = ", ".join(self.table.get(state, {})) or "nothing; it is final"
            raise IllegalTransition(
                f"a {self.name} failover that is {state} takes no {event}",
                state=str(state),
                event=str(event),
                allowed=allowed,
                **details,
            )
        return after

    def allows(self, state: S, event: E) -> bool:
        return event in self.table.get(state, {})

    def final(self, state: S) -> bool:
        return not self.table.get(state)

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram."""
        lines = ["stateDiagram-v2"]
        for state, row in self.table.items():
            lines += [f"    {state} --> {after}: {event}" for event, after in row.items()]
        lines += [f"    {state} --> [*]" for state in self.table if self.final(state)]
        return "\n".join(lines) + "\n"
