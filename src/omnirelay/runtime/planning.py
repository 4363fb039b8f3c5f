"""Turning a request into a plan: which source, which checks, which prediction. Judged by mode; stores nothing."""

from __future__ import annotations

from dataclasses import replace

from omnirelay.errors import BadRequest, FailbackRefused, NotFound, UnknownNamespace
from omnirelay.failover import emergency, emergency_preflight, failback, loss, planned, preflight, workflow
from omnirelay.failover.evidence import Probe
from omnirelay.failover.lease import Timing
from omnirelay.failover.modes import is_open
from omnirelay.failover.record import Check, Failover, LossPrediction, Mode, Request, State
from omnirelay.failover.ticket_check import TicketReading
from omnirelay.model.descriptor import ClusterDescriptor
from omnirelay.model.times import rfc3339
from omnirelay.ports.clock import Clock
from omnirelay.ports.probing import EndpointProbe
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.view import MeshView

MAX_NAMESPACES = 60
"""A failover takes all its locks in one transaction: two operations for each, of the 128 that a store takes."""
PROBED_SECONDS = 1.0


class Planner:
    """`probe` looks at a target's endpoints; without one the preflight says that nobody has."""

    def __init__(self, view: MeshView, clock: Clock, timing: Timing, probe: EndpointProbe | None = None) -> None:
        self._probe = probe
        self._probed: dict[str, tuple[ClusterDescriptor, float, Probe]] = {}
        self._view = view
        self._clock = clock
        self._timing = timing

    def resolve(self, request: Request) -> tuple[str, Request]:
        """The source, and the request with target and namespaces spelt out. Raises typed errors for what cannot be."""
        request = self.spelt_out(request)
        if request.mode is Mode.FAILBACK:
            self._require_completed(request.reverses)
        routes = self._view.routing.routes
        unknown = [name for name in request.namespaces if name not in routes]
        if unknown:
            known = ", ".join(sorted(routes)) or "none"
            raise UnknownNamespace(f"there is no namespace {unknown[0]!r}", namespace=unknown[0], known=known)
        names = tuple(sorted(set(request.namespaces))) or tuple(
            sorted(name for name, route in routes.items() if route.active != request.target)
        )
        if not names:
            raise BadRequest(f"{request.target} owns every namespace already", target=request.target)
        sources = {routes[name].active for name in names}
        if len(sources) > 1:
            raise BadRequest(
                f"the namespaces are active in different clusters ({', '.join(sorted(sources))}); move them one by one",
                sources=sorted(sources),
            )
        (source,) = sources
        if source == request.target:
            raise BadRequest(f"{request.target} owns {', '.join(names)} already", target=request.target)
        if len(names) > MAX_NAMESPACES:
            raise BadRequest(
                f"{len(names)} namespaces would move, at most {MAX_NAMESPACES} can in one failover; name them in parts",
                path="namespaces",
                most=MAX_NAMESPACES,
            )
        if request.target not in self._view.clusters:
            raise NotFound(f"there is no cluster {request.target!r}", kind="clusters", cluster=request.target)
        return source, replace(request, namespaces=names)

    def spelt_out(self, request: Request) -> Request:
        """A failback goes to the source of the failover that it reverses, with that one's namespaces."""
        if request.mode is not Mode.FAILBACK:
            return request
        reversed_ = self._reversed(request.reverses)
        if request.target not in ("", reversed_.source):
            raise BadRequest(
                f"{reversed_.id} is reversed by going back to {reversed_.source}, not to {request.target}",
                path="target",
                target=reversed_.source,
            )
        return replace(request, target=reversed_.source, namespaces=request.namespaces or reversed_.request.namespaces)

    def _reversed(self, failover_id: str) -> Failover:
        found = self._view.failovers.get(failover_id)
        if found is None:
            raise NotFound(f"there is no failover {failover_id!r}", kind="failovers", failover_id=failover_id)
        return found

    def _require_completed(self, failover_id: str) -> None:
        reversed_ = self._reversed(failover_id)
        if reversed_.state is State.COMPLETED:
            return
        verb = "resume" if is_open(reversed_) else "report"
        raise FailbackRefused(
            f"failover {reversed_.id} is {reversed_.state}, not completed",
            failover_id=reversed_.id,
            command=f"omnirelay mesh failovers {verb} {reversed_.id}",
        )

    async def checks(self, request: Request, source: str, reading: TicketReading) -> tuple[Check, ...]:
        """The preflight of the request's mode, on what is known now."""
        probes = await self._probes(request.target)
        evidence = replace(self._view.evidence(), probes=probes, ticket=reading)
        if request.mode is Mode.EMERGENCY:
            return emergency_preflight.preflight(evidence, request, source, self._timing.lease_ttl)
        if request.mode is Mode.FAILBACK:
            return failback.preflight(evidence, request, source)
        return preflight.preflight(evidence, request, source)

    async def _probes(self, target: str) -> dict[str, Probe]:
        """Looked at once a second at the most: many failovers to one target would be many handshakes."""
        descriptor, now = self._view.clusters.get(target), self._clock.monotonic()
        if self._probe is None or descriptor is None:
            return {}
        known = self._probed.get(target)
        if known is None or known[0] != descriptor or now - known[1] > PROBED_SECONDS:
            known = self._probed[target] = (descriptor, now, await self._probe.probe(descriptor))
        return {target: known[2]}

    def predictions(self, request: Request, source: str) -> tuple[LossPrediction, ...]:
        """Empty unless something may be lost."""
        if request.mode is not Mode.EMERGENCY:
            return ()
        return loss.predict(self._view.evidence(), request, source, self._timing.lease_ttl)

    def last_heard(self, source: str) -> str:
        """RFC 3339; empty if nobody ever heard of it."""
        heard = loss.last_heard_ms(self._view.evidence(), source)
        return rfc3339(heard) if heard is not None else ""

    def make(
        self, id: str, request: Request, source: str, checks: tuple[Check, ...], actor: Actor, run_url: str
    ) -> Failover:
        """The plan as a record."""
        limits, now_ms = request.limits, self._clock.wall_ms()
        if request.mode is Mode.EMERGENCY:
            steps = emergency.plan_steps(source, request.target, self._timing.lease_ttl)
            outage = self._timing.lease_ttl + limits.gather_timeout_seconds
        else:
            steps = planned.plan_steps(source, request.target, limits.drain_timeout_seconds)
            outage = workflow.PREDICTED_OUTAGE_SECONDS
        return workflow.make(
            id,
            request,
            self._view.routing,
            source,
            steps,
            self.predictions(request, source),
            outage,
            checks,
            actor.principal,
            run_url,
            rfc3339(now_ms),
            rfc3339(now_ms + int(limits.plan_valid_seconds * 1000)),
        )
