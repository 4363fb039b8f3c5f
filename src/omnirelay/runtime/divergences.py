"""Fenced batches as the API shows them, and what is decided about them.

What diverged is read from this cluster's own log; what was decided is one document per divergence in the coordination
store. A replay is an intent: the replicator of the active cluster carries it out (omnirelay.runtime.replay).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from omnirelay.errors import Conflict, NotFound, ResumePointDeleted
from omnirelay.failover.divergence import (
    Decision,
    Divergence,
    Fate,
    FencedBatch,
    Resolution,
    divergence_id,
    fenced_epochs,
    kept_from,
    parse_divergence_id,
    require_comparable,
    require_open,
)
from omnirelay.failover.record import Mode
from omnirelay.model.batch import Batch, BatchHeader, BatchKind
from omnirelay.model.record import Record
from omnirelay.model.routing import Route
from omnirelay.model.times import rfc3339
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Compare, Put
from omnirelay.runtime.audit import Actor, Auditor, Deed
from omnirelay.runtime.documents import DIVERGENCES
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.view import MeshView

READ_BYTES = 1024 * 1024

_Copy = tuple[str, str, int, bytes]
"""Namespace, producer, producer sequence, digest of the records."""

WithProvenance = Callable[[bytes, BatchHeader], bytes]
"""Records as they were stored → the same records with headers that name origin, epoch and sequence of each."""


@dataclass(frozen=True, slots=True)
class KeyDiff:
    """One key of the fenced records, and whether the key was written again since."""

    key: bytes
    fenced_records: int
    written_since: int


class Divergences:
    def __init__(
        self,
        view: MeshView,
        sequencer: Sequencer,
        auditor: Auditor,
        clock: Clock,
        with_provenance: WithProvenance,
        decode_records: Callable[[bytes], Sequence[Record]],
    ) -> None:
        self._with_provenance = with_provenance
        self._decode_records = decode_records
        self._view = view
        self._sequencer = sequencer
        self._auditor = auditor
        self._clock = clock
        self._known: dict[tuple[str, int], _Scan] = {}
        self._copies: dict[_Copy, dict[int, BatchHeader]] = {}
        """The same batch in several epochs, each fenced: its producer has sent it again. By epoch."""
        self._looking = asyncio.Lock()
        """Two scans at once would take back what either has found."""

    async def all(self) -> list[Divergence]:
        """Every divergence with fenced data, by namespace and epoch."""
        return [divergence for divergence in await self.every() if divergence.batches]

    async def every(self) -> list[Divergence]:
        """Also those of which retention has dropped all, or which hold none."""
        found = []
        for _, route in sorted(self._sequencer.routes().items()):
            for epoch, origin, end in fenced_epochs(route):
                divergence = await self._look(route, epoch, origin, end)
                found.append(replace(divergence, decision=self._view.divergences.get(divergence.id)))
        return found

    async def get(self, id: str) -> Divergence:
        """Raises NotFound."""
        namespace, epoch = parse_divergence_id(id)
        for divergence in await self.all():
            if (divergence.namespace, divergence.epoch) == (namespace, epoch):
                return divergence
        raise NotFound(f"there is no divergence {id!r} here", kind="divergence", divergence_id=id)

    async def unresolved(self) -> list[Divergence]:
        """Those with records that nobody has decided about."""
        return [divergence for divergence in await self.all() if divergence.unresolved]

    async def kept(self) -> dict[str, int]:
        """Origin → the first fenced record that retention must leave: what is open, and what is settled until the
        manifest tells of it. A target that is gone, which keeps the manifest, is not waited for."""
        failovers = self._view.failovers.values()
        emergencies = [f for f in failovers if f.request.mode is Mode.EMERGENCY and f.routing_version]
        gone = {n for f in emergencies if f.request.target not in self._view.reports for n in f.request.namespaces}
        manifests = [range_ for failover in emergencies for range_ in failover.manifest]
        kept: dict[str, int] = {}
        for divergence in await self.all():
            if divergence.namespace in gone and not divergence.unresolved:
                continue
            first = kept_from(divergence, manifests)
            if first is not None:
                kept[divergence.origin] = min(kept.get(divergence.origin, first), first)
        return kept

    async def batches(self, divergence: Divergence) -> AsyncIterator[Batch]:
        """The fenced batches of data, in order, as far as they are retained: what is open is."""
        end = self._sequencer.routes()[divergence.namespace].valid_end(divergence.epoch) or 0
        upto, origin = self._sequencer.log_vector()[divergence.origin], divergence.origin
        found = self._retained(divergence.namespace, divergence.epoch, origin, end, upto, lambda dropped: None)
        async for batch in found:
            if batch.header.kind is BatchKind.DATA:
                yield batch

    async def valid_since(self, divergence: Divergence) -> AsyncIterator[Batch]:
        """The valid batches of data of every later epoch: what the mesh went on with, as far as it is retained."""
        route, vector = self._sequencer.routes()[divergence.namespace], self._sequencer.log_vector()
        for ownership in route.history:
            if ownership.epoch > divergence.epoch:
                end, origin = route.valid_end(ownership.epoch), ownership.origin
                upto = vector[origin] if end is None else end
                batches = self._retained(divergence.namespace, ownership.epoch, origin, 0, upto, lambda dropped: None)
                async for batch in batches:
                    if batch.header.kind is BatchKind.DATA:
                        yield batch

    def records(self, batch: Batch) -> Sequence[Record]:
        return self._decode_records(batch.records)

    async def diff(self, divergence: Divergence) -> list[KeyDiff]:
        """Per key of the open fenced records, most fenced first: how many there are, and how often the key was written
        since. Reads everything that the mesh went on with."""
        open_ = {batch.first_sequence for batch in divergence.batches if divergence.is_open(batch)}
        fenced: dict[bytes, int] = {}
        async for batch in self.batches(divergence):
            if batch.header.first_sequence in open_:
                for record in self.records(batch):
                    fenced[record.key] = fenced.get(record.key, 0) + 1
        since = dict.fromkeys(fenced, 0)
        async for batch in self.valid_since(divergence):
            for record in self.records(batch):
                if record.key in since:
                    since[record.key] += 1
        return [KeyDiff(key, fenced[key], since[key]) for key in sorted(fenced, key=lambda k: (-fenced[k], k))]

    # --- deciding ----------------------------------------------------------------------------------------------

    async def decide(
        self, id: str, resolution: Resolution, actor: Actor, reason: str, dry_run: bool, upto: int | None = None
    ) -> Divergence:
        """Records the decision about everything that is open now, or up to `upto` where the caller has seen no more.
        The same decision again changes nothing."""
        for _ in range(5):
            await self._view.refresh()
            divergence = await self.get(id)
            before = divergence.decision
            end = divergence.last_sequence if upto is None else upto
            if before is not None and before.upto >= end and _same(before.resolution, resolution, divergence):
                return divergence
            require_open(divergence)
            if resolution is Resolution.REPLAYING:
                require_comparable(divergence)
            if before is not None and before.resolution is Resolution.REPLAYING:
                raise Conflict(f"divergence {id} is being replayed", divergence_id=id)
            now = rfc3339(self._clock.wall_ms())
            decision = Decision(
                divergence.namespace,
                divergence.epoch,
                resolution,
                end,
                actor.principal,
                now,
                reason,
                earlier=divergence.settled,
            )
            decided = replace(divergence, decision=decision)
            if dry_run or await self.store(decision, actor):
                return decided
        raise Conflict(f"divergence {id} was changed by others all the time", divergence_id=id)

    async def store(self, decision: Decision, actor: Actor) -> bool:
        """Writes the decision over the one that the view shows."""
        id = divergence_id(decision.namespace, decision.epoch)
        before = self._view.divergences.get(id)
        deed = Deed(
            action=f"divergence.{decision.resolution}",
            subject=f"divergence/{id}",
            why=decision.reason,
            before={"resolution": before.resolution, "upto": before.upto} if before else None,
            after={"resolution": decision.resolution, "upto": decision.upto},
        )
        compare = Compare(DIVERGENCES.key(id), self._view.divergence_revisions.get(id, 0))
        done = await self._auditor.commit(
            [compare], [Put(DIVERGENCES.key(id), DIVERGENCES.encode(decision))], actor, deed
        )
        await self._view.refresh()
        return done

    # --- looking -----------------------------------------------------------------------------------------------

    async def _look(self, route: Route, epoch: int, origin: str, end: int) -> Divergence:
        """Scans what has come since the last look; fates are looked for again while any is open."""
        async with self._looking:
            return await self._scan(route, epoch, origin, end)

    async def _scan(self, route: Route, epoch: int, origin: str, end: int) -> Divergence:
        scan = self._known.get((route.namespace, epoch))
        if scan is None or scan.end != end:
            scan = self._known[route.namespace, epoch] = _Scan(end, self._with_provenance)
        vector = self._sequencer.log_vector()
        if vector[origin] > scan.upto:
            async for batch in self._retained(route.namespace, epoch, origin, scan.upto, vector[origin], scan.lacks):
                if batch.header.kind is BatchKind.DATA:
                    self._add(scan, batch)
            scan.upto = vector[origin]
        for later in route.history:
            if later.epoch <= epoch or not scan.open:
                continue
            after, upto = scan.compared.get(later.epoch, 0), vector[later.origin]
            async for batch in self._retained(
                route.namespace, later.epoch, later.origin, after, upto, scan.cannot_compare
            ):
                if batch.header.kind is BatchKind.DATA:
                    scan.compare(batch)
                scan.compared[later.epoch] = batch.header.last_sequence
        batches = tuple(scan.batches.values())
        return Divergence(route.namespace, epoch, origin, batches, dropped_to=scan.dropped_to, blind=scan.blind)

    def _add(self, scan: _Scan, batch: Batch) -> None:
        """What is fenced in several epochs is one record: where any copy of it was replayed, the later ones are settled
        by that, too, although the replay names another place."""
        header = batch.header
        scan.add(batch)
        copy = (header.namespace, header.producer_id, header.producer_sequence, sha256(batch.records).digest())
        copies = self._copies.setdefault(copy, {})
        copies[header.epoch] = header
        for epoch, earlier in copies.items():
            for later in copies:
                known = self._known.get((header.namespace, later))
                if epoch < later and known is not None:
                    known.also(batch.records, earlier)

    async def _retained(
        self, namespace: str, epoch: int, origin: str, after: int, upto: int, dropped: Callable[[int], None]
    ) -> AsyncIterator[Batch]:
        """As `_read`, from what retention has left on; `dropped` hears up to where it has not."""
        while True:
            try:
                async for batch in self._read(namespace, epoch, origin, after, upto):
                    yield batch
                    after = batch.header.last_sequence
            except ResumePointDeleted as error:
                after = int(error.details["oldest"]) - 1
                dropped(after)
            else:
                return

    async def _read(self, namespace: str, epoch: int, origin: str, after: int, upto: int) -> AsyncIterator[Batch]:
        log = self._sequencer.log
        while batches := await log.read_namespace(namespace, epoch, origin, after, upto, READ_BYTES):
            for batch in batches:
                yield batch
            after = batches[-1].header.last_sequence


class _Scan:
    """What has been read of one divergence so far.

    A fenced batch is superseded by one of a later epoch with the same producer, number and records. Equal numbers alone
    do not prove it: a producer that kept nothing numbers new records from where the new active told it to.
    """

    def __init__(self, end: int, with_provenance: WithProvenance) -> None:
        self.end = end
        self.upto = end
        self.batches: dict[int, FencedBatch] = {}
        self.dropped_to = end
        self.blind = False
        self.compared: dict[int, int] = {}
        """Later epoch → sequence up to which its batches have been compared with all of these."""
        self._wanted: dict[tuple[str, int], dict[bytes, tuple[int, Fate]]] = {}
        """Producer and number → digest of the records that settle it → first sequence of the fenced batch, its fate."""
        self._with_provenance = with_provenance

    @property
    def open(self) -> bool:
        return any(batch.fate is Fate.OPEN for batch in self.batches.values())

    def add(self, batch: Batch) -> None:
        header = batch.header
        first = header.first_sequence
        self.batches[first] = FencedBatch(first, header.last_sequence, header.producer_id, header.producer_sequence)
        again = sha256(batch.records).digest()
        replayed = sha256(self._with_provenance(batch.records, header)).digest()
        own = self._wanted.setdefault((header.producer_id, header.producer_sequence), {})
        own[again], own[replayed] = (first, Fate.SUPERSEDED), (first, Fate.REPLAYED)
        self._wanted.setdefault((replay_producer(header), 1), {})[replayed] = (first, Fate.REPLAYED)
        self.compared = {}

    def lacks(self, upto: int) -> None:
        """Retention has dropped what was fenced up to there: it was settled, or beyond the cap."""
        self.dropped_to = max(self.dropped_to, upto)

    def cannot_compare(self, upto: int) -> None:
        """It has dropped a part of what the mesh went on with."""
        self.blind = True

    def also(self, records: bytes, original: BatchHeader) -> None:
        """A batch of this scan is the one that was fenced before as `original`."""
        own = self._wanted.get((original.producer_id, original.producer_sequence), {})
        found = own.get(sha256(records).digest())
        if found is None:
            return
        replayed = sha256(self._with_provenance(records, original)).digest()
        own[replayed] = self._wanted.setdefault((replay_producer(original), 1), {})[replayed] = (
            found[0],
            Fate.REPLAYED,
        )
        self.compared = {}

    def compare(self, batch: Batch) -> None:
        fates = self._wanted.get((batch.header.producer_id, batch.header.producer_sequence))
        found = fates.get(sha256(batch.records).digest()) if fates else None
        if found is not None:
            first, fate = found
            self.batches[first] = replace(self.batches[first], fate=fate)


def _same(before: Resolution, asked: Resolution, divergence: Divergence) -> bool:
    """A replay that has been carried out is what a replay asks for."""
    done = (before, asked) == (Resolution.REPLAYED, Resolution.REPLAYING) and not divergence.unresolved
    return before is asked or done


def replay_producer(header: BatchHeader) -> str:
    """The producer id under which a fenced batch is replayed when its own number is taken."""
    return f"replay/{header.origin}/{header.first_sequence}"
