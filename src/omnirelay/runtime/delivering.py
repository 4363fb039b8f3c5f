"""Serves one reader: the namespace's batches in their order, and a notice when some it was given became fenced."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

from omnirelay.errors import CursorAhead, NotInstalled, ResumePointDeleted
from omnirelay.model import ids
from omnirelay.model.batch import Batch, BatchKind
from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import LogStore
from omnirelay.ports.streams import FenceNotice, Progress, SubscribeRequest, Withdrawn
from omnirelay.replication.delivery import Fence, Read, end_of_dropped, next_step
from omnirelay.replication.picture import route_of
from omnirelay.runtime.readers import Readers
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.signal import Signal

READ_BYTES = 1024 * 1024
IDLE_SECONDS = 1.0
"""How often a reader with nothing to read is told so."""

ToReader = Batch | Withdrawn | FenceNotice | Progress


class Delivering:
    """Shared by all readers; `serve` runs once per reader. `announced` are the mesh's routes, also those
    that are not installed here yet; `look_again` brings them up to date."""

    def __init__(
        self,
        sequencer: Sequencer,
        log: LogStore,
        announced: Callable[[], Mapping[str, Route]],
        look_again: Callable[[], Awaitable[None]],
    ) -> None:
        self._sequencer = sequencer
        self._log = log
        self._announced = announced
        self._look_again = look_again
        self.readers = Readers()

    @property
    def vector(self) -> VersionVector:
        """What this cluster holds durably."""
        return VersionVector({origin: head.sequence for origin, head in self._log.heads.items()})

    async def serve(self, request: SubscribeRequest, principal: str = "") -> AsyncGenerator[ToReader, None]:
        """Endless. Raises UnknownNamespace, NotInstalled, CursorAhead, ResumePointDeleted, CorruptLog; and
        CoordinationUnavailable when nobody can tell whether the namespace exists."""
        namespace = ids.namespace(request.namespace)
        if namespace not in self._sequencer.routes() and namespace not in self._announced():
            await self._look_again()
        route = self._route(namespace)
        if request.after is not None and request.after.epoch > route.epoch:
            raise CursorAhead(
                f"the cursor is in epoch {request.after.epoch} of {namespace}, which is at epoch {route.epoch} here",
                namespace=namespace,
                epoch=route.epoch,
            )
        delivered = scanned = began = request.after or await self._start(route, request.latest)
        reader = self.readers.join(principal, request.consumer_id, namespace, request.epoch)
        moved = Signal()
        unlisten = self._log.listen(moved.fire)
        try:
            while True:
                seen = moved.version
                route = self._route(namespace)
                step = next_step(route, self.vector, delivered, scanned)
                if isinstance(step, Read):
                    try:
                        async for batch in self._read(namespace, step):
                            scanned = Cursor(batch.header.epoch, batch.header.last_sequence)
                            if batch.header.kind is BatchKind.DATA:
                                delivered = scanned
                                yield batch
                        scanned = max(scanned, step.end)
                    except ResumePointDeleted:
                        if request.after is not None or delivered != began:
                            raise
                        # Retention came round before the reader that named no place was given anything.
                        delivered = scanned = began = await self._start(route, request.latest)
                elif isinstance(step, Fence):
                    given_from = began if request.after is None else START
                    async for batch in self._withdrawn(route, max(step.cut, given_from), delivered):
                        yield Withdrawn(batch)
                    delivered = scanned = step.cut
                    yield FenceNotice(step.cut, step.epoch)
                else:
                    if not await moved.wait_beyond(seen, IDLE_SECONDS):
                        yield Progress(max(delivered, scanned), route.epoch)
        finally:
            unlisten()
            self.readers.leave(reader)

    async def _start(self, route: Route, latest: bool) -> Cursor:
        """Where a reader begins that names no place."""
        if latest:
            return route.unbroken_prefix(self.vector)
        name, history = route.namespace, route.history
        return end_of_dropped(route, {o.epoch: await self._log.dropped_end(name, o.epoch, o.origin) for o in history})

    async def _withdrawn(self, route: Route, cut: Cursor, delivered: Cursor) -> AsyncIterator[Batch]:
        """What of the order between the cut and `delivered` this cluster holds: exactly what a reader was given
        there, if it was given it here or the old active's log has come since."""
        # By the history that the reader went by: what was fenced already then, it was not given.
        known = Route(route.namespace, tuple(o for o in route.history if o.epoch <= delivered.epoch))
        for ownership in known.history:
            if cut.epoch <= ownership.epoch:
                after = cut.sequence if ownership.epoch == cut.epoch else 0
                end = known.valid_end(ownership.epoch)
                upto = delivered.sequence if end is None else end
                # What retention has dropped cannot be listed; the notice tells from where on.
                after = max(after, await self._log.dropped_end(route.namespace, ownership.epoch, ownership.origin))
                if upto > after:
                    async for batch in self._read(
                        route.namespace, Read(ownership.epoch, ownership.origin, after, upto)
                    ):
                        if batch.header.kind is BatchKind.DATA:
                            yield batch

    async def _read(self, namespace: str, step: Read) -> AsyncIterator[Batch]:
        after = step.after
        while True:
            batches = await self._log.read_namespace(namespace, step.epoch, step.origin, after, step.upto, READ_BYTES)
            if not batches:
                return
            for batch in batches:
                yield batch
            after = batches[-1].header.last_sequence

    def _route(self, namespace: str) -> Route:
        """By what is installed: an ownership delivers only once its epoch is durable here."""
        installed = self._sequencer.routes().get(namespace)
        if installed is None:
            route_of(self._announced(), namespace)
            raise NotInstalled(f"no epoch of {namespace} has arrived in this cluster's log yet", namespace=namespace)
        return installed
