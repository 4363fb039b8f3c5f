"""Which namespaces this cluster may admit writes for, at this moment.

Three things must agree: the routing names this cluster in an epoch that is durable here (I2), the claim of that epoch
stands in the coordination store by a lease, and the lease has not ended by this process's own monotonic clock. A
namespace that is being drained is closed on top of that. The lease narrows the overlap between two actives; the epoch
is the fence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from omnirelay.errors import CoordinationUnavailable, Draining, LogRebuilt, NotActive, OmniRelayError, UnknownNamespace
from omnirelay.failover.emergency import SOURCE_BARRED
from omnirelay.failover.evidence import LeaseClaim
from omnirelay.failover.lease import Lease, Timing
from omnirelay.failover.modes import HOLDS_LOCK
from omnirelay.failover.rebuild import lost_log
from omnirelay.model.routing import Ownership, Route
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Compare, CoordinationStore, Put, Write
from omnirelay.runtime.documents import LEASES, LOCKS, ROUTING
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.signal import Signal, first_of
from omnirelay.runtime.view import RETRY_SECONDS, MeshView

_log = logging.getLogger(__name__)

DRAIN_RETRY_SECONDS = 0.05
"""What producers are told to wait while ownership moves."""
ARRIVAL_SECONDS = 1.0
"""How long a producer that asks the target of a failover is kept waiting for it. Shorter than clients wait for the
answer to their opening."""
CLAIMS_AT_ONCE = 40
"""In one transaction, well below what the store takes."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A namespace held in `epoch`, written at `revision` of the store."""

    epoch: int
    revision: int
    confirmed_at: float
    """Monotonic time at which the renewal was sent after which the key was last seen to stand. A claim that somebody
    deleted thus ends within a ttl, also for a holder whose watch hangs."""
    claimed_at: float
    """Monotonic time."""


class Ownerships:
    def __init__(
        self, cluster: str, store: CoordinationStore, view: MeshView, sequencer: Sequencer, clock: Clock, timing: Timing
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._view = view
        self._sequencer = sequencer
        self._clock = clock
        self._timing = timing
        self._lease: Lease | None = None
        self._claims: dict[str, Claim] = {}
        self._closed: dict[str, str] = {}
        self.changed = Signal()

    # --- asking ------------------------------------------------------------------------------------------------

    def admit(self, namespace: str) -> Ownership:
        """The ownership under which a write may be admitted now. Raises UnknownNamespace, Draining, NotActive."""
        route = self._route(namespace)
        if namespace in self._closed:
            raise self._draining(route, self._closed[namespace])
        self._require_active(route)
        return route.current

    async def admit_or_await(self, namespace: str) -> Ownership:
        """Like `admit`, but a namespace that is not known is looked for in the store, and where a failover is bringing
        the namespace here the caller waits for its arrival: a drain sends producers on to the target before the target
        is active, and asking again and again would take longer."""
        end = self._clock.monotonic() + ARRIVAL_SECONDS
        if namespace not in self._view.routing.routes:
            await self._view.look_again()
        while True:
            seen, mine = self._view.changed.version, self.changed.version
            try:
                return self.admit(namespace)
            except NotActive:
                left = end - self._clock.monotonic()
                if left <= 0 or not self._arriving(namespace):
                    raise
            await first_of(self._view.changed.wait_beyond(seen, left), self.changed.wait_beyond(mine, left))

    def _arriving(self, namespace: str) -> bool:
        return any(
            failover.state in HOLDS_LOCK
            and failover.request.target == self._cluster
            and namespace in failover.request.namespaces
            for failover in self._view.failovers.values()
        )

    def still(self, namespace: str, epoch: int) -> None:
        """Asked again before an acknowledgement: a process that was paused since the append must not acknowledge what
        may have been fenced meanwhile. Raises NotActive."""
        route = self._route(namespace)
        self._require_active(route)
        if route.epoch != epoch:
            raise self._not_active(route)

    async def told(self, namespace: str, refusal: NotActive) -> NotActive:
        """What to tell a producer that was refused. A view that names this very cluster may be from before it was
        paused or cut off, so the store is asked once; while that does not answer, nobody is named."""
        if refusal.details.get("cluster") != self._cluster:
            return refusal
        try:
            await self._view.look_again()
        except CoordinationUnavailable as error:
            why = f"{self._cluster} holds no lease of {namespace}, and which cluster does is not known: {error.message}"
            return NotActive(why, **{**refusal.details, "cluster": "", "endpoint": ""})
        return self._not_active(self._route(namespace))

    def admitting(self) -> dict[str, int]:
        """namespace → epoch, where writes are admitted now."""
        return {name: route.epoch for name, route in self._view.routing.routes.items() if self._admits(name)}

    def held_seconds(self, namespace: str) -> float:
        """For how long this process has claimed the namespace; 0 where it does not."""
        claim = self._claims.get(namespace)
        return self._clock.monotonic() - claim.claimed_at if claim else 0.0

    def lease_id(self) -> int:
        """The lease of this process; 0 while it has none."""
        return self._lease.id if self._lease else 0

    def lease_remaining(self) -> float:
        """Seconds for which this process may go on admitting without a further renewal; 0 without a lease."""
        if self._lease is None:
            return 0.0
        return max(0.0, self._lease.admits_until(self._timing) - self._clock.monotonic())

    def _admits(self, namespace: str) -> bool:
        try:
            self.admit(namespace)
        except OmniRelayError:
            return False
        return True

    def _route(self, namespace: str) -> Route:
        """The newest that is known; only an installed one can be owned."""
        seen = self._view.routing.routes.get(namespace)
        if seen is not None:
            return seen
        known = ", ".join(sorted(self._view.routing.routes)) or "none"
        raise UnknownNamespace(f"there is no namespace {namespace!r}", namespace=namespace, known=known)

    def _require_active(self, route: Route) -> None:
        current = route.current
        rebuilt = self.rebuilt()
        if rebuilt is not None:
            raise rebuilt
        installed = self._sequencer.routes().get(route.namespace)
        claim = self._claims.get(route.namespace)
        if (
            current.cluster != self._cluster
            or current.origin != self._sequencer.origin
            or installed is None
            or installed.epoch != current.epoch
            or claim is None
            or claim.epoch != current.epoch
            or self._lease is None
            or not self._lease.admits(self._clock.monotonic(), self._timing)
            or not Lease(self._lease.id, claim.confirmed_at).admits(self._clock.monotonic(), self._timing)
        ):
            raise self._not_active(route)

    def rebuilt(self) -> LogRebuilt | None:
        """Why this cluster may not write its own log: others hold more of it than it does itself, so it was lost or
        rebuilt, and its next sequences would be used twice (I3)."""
        origin = self._sequencer.origin
        head = self._sequencer.log.heads.get(origin)
        held = head.sequence if head else 0
        lost = lost_log(origin, held, self._view.reports.values())
        if lost is None:
            return None
        return LogRebuilt(
            f"{lost.holder} holds {origin} up to {lost.known}, this cluster itself up to {held}",
            origin=origin,
            held=held,
            cluster=self._cluster,
        )

    def _not_active(self, route: Route) -> NotActive:
        if route.active == self._cluster:
            why = f"{self._cluster} owns {route.namespace} but holds no lease at the moment"
        else:
            why = f"{route.namespace} is active in {route.active}, not in {self._cluster}"
        return NotActive(why, **self._where(route.active, route.epoch))

    def _draining(self, route: Route, target: str) -> Draining:
        return Draining(
            f"{route.namespace} is being handed over to {target}",
            # The epoch that is: a producer never forgets one, and an undone drain does not come to the next.
            **self._where(target, route.epoch),
            retry_after_seconds=DRAIN_RETRY_SECONDS,
        )

    def _where(self, cluster: str, epoch: int) -> dict[str, str | int]:
        descriptor = self._view.clusters.get(cluster)
        return {"cluster": cluster, "epoch": epoch, "endpoint": descriptor.endpoints.grpc if descriptor else ""}

    # --- draining ----------------------------------------------------------------------------------------------

    def close(self, namespace: str, target: str) -> None:
        """From this call on nothing is admitted, until `reopen`."""
        self._closed[namespace] = target

    def reopen(self, namespace: str) -> None:
        if self._closed.pop(namespace, None) is not None:
            _log.info("%s admits writes again", namespace)
            self.changed.fire()

    def renounce(self, namespace: str) -> None:
        """From this call on nothing is acknowledged or called remote either, as if the lease had ended: another may be
        promoted before this cluster hears of it. The claim may be made again once no emergency bars it."""
        if self._claims.pop(namespace, None) is not None:
            self.changed.fire()

    def surrender(self) -> int:
        """Goes by no lease any more, and answers which one it was; 0 if there was none."""
        lease = self.lease_id()
        self._lease = None
        self._claims.clear()
        self.changed.fire()
        return lease

    @property
    def closed(self) -> frozenset[str]:
        return frozenset(self._closed)

    # --- keeping -----------------------------------------------------------------------------------------------

    async def run_lease(self) -> None:
        """Grants and renews this process's lease until cancelled."""
        while True:
            pause = self._timing.renew_interval
            try:
                await self._renew()
            except CoordinationUnavailable as error:
                _log.warning("the lease was not renewed: %s", error.message)
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _renew(self) -> None:
        # Counted from before the call: the store's own count can only begin later.
        sent = self._clock.monotonic()
        if self._lease is not None and await self._store.keep_alive(self._lease.id):
            self._lease = replace(self._lease, renewed_at=sent)
            await self._confirm(sent)
        else:
            if self._lease is not None:
                _log.warning("the lease ended; claiming again")
            self._claims = {}
            self._lease = Lease(await self._store.grant_lease(self._timing.lease_ttl), sent)
            self.changed.fire()
        self._view.answered()

    async def _confirm(self, sent: float) -> None:
        """Claims whose keys still stand as they were written are good for another ttl."""
        snapshot = await self._store.list(LEASES.prefix)
        standing = {LEASES.name(entry.key): entry.revision for entry in snapshot.entries}
        for namespace, claim in self._claims.items():
            if standing.get(namespace) == claim.revision:
                self._claims[namespace] = replace(claim, confirmed_at=sent)

    async def run_claims(self) -> None:
        """Installs new epochs and claims what this cluster owns, whenever the view changes, until cancelled."""
        while True:
            seen, mine = self._view.changed.version, self.changed.version
            try:
                shown = self._view.revision
                if not await self._follow() and await self._view.refresh() > shown:
                    continue  # others' failovers move the routing all the time when there are many at once
            except OmniRelayError as error:
                _log.warning("ownership was not taken up: %s", error.message)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self.changed.version == mine:
                await self._view.changed.wait_beyond(seen, RETRY_SECONDS)

    async def _follow(self) -> bool:
        """False when the store had moved on from what the view shows, and a claim was not made."""
        await self._sequencer.install(self._view.routing.routes)
        for namespace, claim in list(self._claims.items()):
            if not self._stands(namespace, claim):
                _log.info("the claim of %s in epoch %d ended", namespace, claim.epoch)
                del self._claims[namespace]
                self.changed.fire()
        if self._lease is None:
            return True
        wanted = [route for route in self._view.routing.routes.values() if self._claimable(route)]
        claimed = [
            await self._claim(wanted[start : start + CLAIMS_AT_ONCE], self._lease)
            for start in range(0, len(wanted), CLAIMS_AT_ONCE)
        ]
        return all(claimed)

    def _claimable(self, route: Route) -> bool:
        """Whether this cluster owns the namespace without having claimed it, and nobody's lease or emergency stands
        against it. A claim of this cluster's former process is taken over: the log's lock proves that it is gone."""
        if route.active != self._cluster or route.current.origin != self._sequencer.origin:
            return False
        held = self._view.leases.get(route.namespace)
        foreign = held is not None and held.cluster != self._cluster
        return not (route.namespace in self._claims or foreign or self._barred(route.namespace) or self.rebuilt())

    def _stands(self, namespace: str, claim: Claim) -> bool:
        route = self._view.routing.routes.get(namespace)
        if route is None or route.active != self._cluster or route.epoch != claim.epoch:
            return False
        # The view may not show our own write yet; once it does, the key must still be ours.
        held = self._view.leases.get(namespace)
        return self._view.revision < claim.revision or (
            held is not None and held.cluster == self._cluster and not held.revoked
        )

    def _barred(self, namespace: str) -> bool:
        """An emergency is taking the namespace away from this cluster."""
        return any(
            failover.state in SOURCE_BARRED
            and failover.source == self._cluster
            and namespace in failover.request.namespaces
            for failover in self._view.failovers.values()
        )

    async def _claim(self, routes: Sequence[Route], lease: Lease) -> bool:
        """Puts this cluster's name on all the namespaces, unless a lease, a lock or the routing has moved meanwhile."""
        sent = self._clock.monotonic()
        compares, writes = [Compare(ROUTING, self._view.routing_revision)], list[Write]()
        for route in routes:
            key, lock = LEASES.key(route.namespace), LOCKS.key(route.namespace)
            compares += [
                Compare(key, self._view.lease_revisions.get(route.namespace, 0)),
                # An emergency that begins meanwhile takes the lock, and then this claim must not come back.
                Compare(lock, self._view.lock_revisions.get(route.namespace, 0)),
            ]
            writes.append(Put(key, LEASES.encode(LeaseClaim(self._cluster, route.epoch)), lease.id))
        outcome = await self._store.transact(compares, writes)
        if outcome.succeeded:
            for route in routes:
                self._claims[route.namespace] = Claim(route.epoch, outcome.revision, sent, sent)
                _log.info("%s claimed in epoch %d", route.namespace, route.epoch)
            self.changed.fire()
        return outcome.succeeded
