"""Publishes fenced batches again, at the active cluster, as new records that say where they come from.

Each is published under its producer's own number where that is the next one and is known to stand for this batch: a
producer that sends it again later is then answered with a duplicate. Elsewhere it gets a producer of its own, named
after the fenced batch; so it does where the producer has come since and has not said that it may send the number again,
for then that is about to be used for other records. What has been published is recognised by its records, so a replay
that was interrupted goes on without publishing anything twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace

from omnirelay.errors import Conflict, OmniRelayError
from omnirelay.failover.divergence import (
    Decision,
    Divergence,
    Fate,
    FencedBatch,
    Resolution,
    divergence_id,
    require_comparable,
)
from omnirelay.model.batch import Batch
from omnirelay.replication.admission import Duplicate
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.divergences import Divergences, WithProvenance, replay_producer
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.publishing import Publishing
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.view import RETRY_SECONDS, MeshView

_log = logging.getLogger(__name__)


PATIENCE_SECONDS = 10.0
"""A replay begins no sooner after this cluster took the namespace over. By then every producer that lives has come, and
has said which numbers it may send again: twice its stall timeout. One that comes later has as long to send them."""


class Replay:
    def __init__(
        self,
        cluster: str,
        divergences: Divergences,
        view: MeshView,
        sequencer: Sequencer,
        ownerships: Ownerships,
        publishing: Publishing,
        with_provenance: WithProvenance,
    ) -> None:
        self._divergences = divergences
        self._view = view
        self._sequencer = sequencer
        self._ownerships = ownerships
        self._publishing = publishing
        self._with_provenance = with_provenance
        self._actor = Actor(f"cluster/{cluster}", "system")
        self._awaited: set[str] = set()
        """Producers that this replay has waited for."""

    async def run(self) -> None:
        """Carries out every replay of a namespace that this cluster owns, until cancelled."""
        while True:
            seen = self._view.changed.version
            for decision in list(self._view.divergences.values()):
                if decision.resolution is Resolution.REPLAYING and self._mine(decision.namespace):
                    try:
                        await self._carry_out(decision)
                    except OmniRelayError as error:
                        _log.warning("replay of %s.%d: %s", decision.namespace, decision.epoch, error.message)
                        await asyncio.sleep(RETRY_SECONDS)
            await self._view.changed.wait_beyond(seen)

    def _mine(self, namespace: str) -> bool:
        return namespace in self._ownerships.admitting()

    async def _carry_out(self, decision: Decision) -> None:
        await asyncio.sleep(PATIENCE_SECONDS - self._ownerships.held_seconds(decision.namespace))
        divergence = await self._divergences.get(divergence_id(decision.namespace, decision.epoch))
        if self._sequencer.log_vector()[divergence.origin] < decision.upto:
            return  # whoever decided holds more than this cluster; the rest is on its way
        open_ = {batch.first_sequence for batch in divergence.batches if _wanted(divergence, batch)}
        if open_:
            try:
                require_comparable(divergence)
            except Conflict as error:
                # Whoever decided retains more than this cluster. What is open stays open, for another decision.
                _log.warning("the replay ends: %s", error.message)
                await self._end(replace(decision, reason=f"{decision.reason} ({error.message})"), divergence)
                return
        self._awaited.clear()
        waiting = []
        async for batch in self._divergences.batches(divergence):
            if batch.header.first_sequence in open_:
                published = await self._publish(divergence.id, batch)
                waiting += [published] if published else []
        await asyncio.gather(*waiting)
        await self._end(decision, await self._divergences.get(divergence.id))

    async def _end(self, decision: Decision, settled: Divergence) -> None:
        done = replace(
            decision, resolution=Resolution.REPLAYED, replayed=settled.replayed, superseded=settled.superseded
        )
        if await self._divergences.store(done, self._actor):
            _log.info("%s: %d records replayed, %d superseded", settled.id, done.replayed, done.superseded)

    async def _publish(self, id: str, batch: Batch) -> Awaitable[object] | None:
        """Publishes the batch again. None when its producer has sent it since."""
        header, looked = batch.header, False
        records = self._with_provenance(batch.records, header)
        while True:
            await self._sequencer.room(len(records))
            ownership = self._ownerships.admit(header.namespace)
            mark = self._sequencer.picture.last_of(header.namespace, header.producer_id)
            last = mark.producer_sequence if mark else 0
            producer, number = header.producer_id, header.producer_sequence
            if last >= number and not looked:
                # Its number is taken. By now that may be its own doing, and no more than this can come: look again.
                await self._sequencer.settled()
                found = await self._divergences.get(id)
                if not any(b.first_sequence == header.first_sequence and _wanted(found, b) for b in found.batches):
                    return None
                looked = True
                continue
            if last < number and await self._arriving(header.namespace, producer):
                continue
            if number != last + 1 or self._publishing.may_send(header.namespace, producer, number):
                producer, number = replay_producer(header), 1
            losses = self._sequencer.losses
            decided = self._sequencer.publish(ownership, header.namespace, producer, number, records, header.count)
            return self._sequencer.durable(losses) if isinstance(decided, Duplicate) else decided.durable

    async def _arriving(self, namespace: str, producer: str) -> bool:
        """Leaves a producer that has just come the time to send its batches again, once. Whether it had to."""
        told = self._publishing.told_seconds(namespace, producer)
        if told is None or told >= PATIENCE_SECONDS or producer in self._awaited:
            return False
        self._awaited.add(producer)
        await asyncio.sleep(PATIENCE_SECONDS - told)
        return True


def _wanted(divergence: Divergence, batch: FencedBatch) -> bool:
    return batch.fate is Fate.OPEN and divergence.decided(batch) is Resolution.REPLAYING
