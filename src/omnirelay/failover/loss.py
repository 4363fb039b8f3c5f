"""What an emergency would lose, as far as anyone knows, and what it did cut off.

Nothing can be known of what the source admitted after it was last heard. That part is bounded in time, by the end of
its claim once that is gone, and estimated at the rate last seen; it is shown apart from what is known. What was known
once stays known: a report that ends with its cluster's lease takes nothing of it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil

from omnirelay.errors import LossNotAccepted, LossUnknown
from omnirelay.failover.divergence import Divergence, exact_ranges
from omnirelay.failover.evidence import ClusterReport, Evidence, PeerReport
from omnirelay.failover.record import Failover, Grade, LossPrediction, LossRange, Request
from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Route, RoutingDocument
from omnirelay.model.version_vector import VersionVector


def in_reach(evidence: Evidence, source: str) -> dict[str, ClusterReport]:
    """The clusters whose data and testimony count: those that report now, never the source. Maintenance bars a cluster
    from being promoted, not from handing over what it holds."""
    return {
        cluster: report
        for cluster in evidence.clusters
        if cluster != source and (report := evidence.fresh_report(cluster)) is not None
    }


def best_prefix(route: Route, reports: Mapping[str, ClusterReport]) -> tuple[Cursor, str]:
    """The longest unbroken prefix among the clusters, and who holds it: the first by name among equals, nobody ("") if
    there are none."""
    ends = {cluster: route.unbroken_prefix(VersionVector(report.vector)) for cluster, report in reports.items()}
    best = max(sorted(ends), key=lambda cluster: ends[cluster], default="")
    return ends.get(best, START), best


@dataclass(frozen=True, slots=True)
class Tail:
    """What of one epoch lies beyond a cut: the sequences of its log after `after`, up to the last that is valid without
    the cut, or without an end that is known."""

    epoch: int
    origin: str
    after: int
    upto: int | None


def cut_off(route: Route, cut: Cursor) -> Iterator[Tail]:
    """What an ownership with this cut, added to the route, fences. A cut in an earlier epoch fences all later ones."""
    ends: dict[str, int] = {}
    for ownership in route.history:
        after, upto = ends.get(ownership.origin, 0), route.valid_end(ownership.epoch)
        ends[ownership.origin] = max(after, upto or 0)
        if ownership.epoch == cut.epoch:
            after = max(after, cut.sequence)
        if ownership.epoch >= cut.epoch and (upto is None or upto > after):
            yield Tail(ownership.epoch, ownership.origin, after, upto)


# --- before --------------------------------------------------------------------------------------------------------


def predict(evidence: Evidence, request: Request, source: str, lease_ttl_seconds: float) -> tuple[LossPrediction, ...]:
    """One prediction for each log that would end early, and for each that the namespaces' current epochs are in."""
    witnesses = _Witnesses(evidence, request, source, lease_ttl_seconds)
    tails: dict[str, list[Tail]] = {}
    for namespace in request.namespaces:
        route = evidence.routing.routes[namespace]
        best, _ = best_prefix(route, witnesses.reports)
        for tail in cut_off(route, best):
            tails.setdefault(tail.origin, []).append(tail)
    return tuple(witnesses.predict(origin, tails[origin]) for origin in sorted(tails))


class _Witnesses:
    """Everybody who can say something of the source's log."""

    def __init__(self, evidence: Evidence, request: Request, source: str, lease_ttl_seconds: float) -> None:
        self.reports = in_reach(evidence, source)
        self._lease_ttl_seconds = lease_ttl_seconds
        self._claimed = any(n in evidence.leases and evidence.leases[n].cluster == source for n in request.namespaces)
        own = evidence.last_reports.get(source)
        self._all = [*self.reports.values(), *([own.report] if own is not None else [])]
        self._views = {c: report.peers[source] for c, report in self.reports.items() if source in report.peers}
        self._told = evidence.heard
        self._unclaimed_seconds = min(evidence.unclaimed_seconds.get(name, 0.0) for name in request.namespaces)
        silences = [
            silent + evidence.report_age_seconds[cluster]
            for cluster, view in self._views.items()
            if (silent := _silent_seconds(self.reports[cluster], view)) is not None
        ]
        last = own.age_seconds if own is not None else None
        self._silence = min([*silences, *([last] if last is not None else [])], default=None)
        self._heard_of = own is not None or any(view.heard is not None for view in self._views.values())

    def predict(self, origin: str, tails: list[Tail]) -> LossPrediction:
        held, open_ended = min(tail.after for tail in tails), any(tail.upto is None for tail in tails)
        heard = max([held, *(tail.upto or 0 for tail in tails), *(self._heard(origin) if open_ended else ())])
        unheard = self._unheard_seconds() if open_ended else 0.0
        rates = [view.heard_rate for view in self._views.values() if view.heard_rate is not None]
        return LossPrediction(
            origin=origin,
            held=held,
            heard=heard,
            known_records=heard - held,
            known_bytes=self._bytes(origin, held, heard),
            unheard_seconds=round(unheard, 3),
            unheard_records=ceil(max(rates, default=0.0) * unheard),
            # A source that was heard of only once may have admitted anything since.
            bounded=not open_ended or (self._heard_of and (bool(rates) or unheard == 0.0)),
        )

    def _heard(self, origin: str) -> Iterator[int]:
        yield self._told.get(origin, 0)
        yield from (report.vector.get(origin, 0) for report in self._all)
        yield from (view.heard or 0 for view in self._views.values())

    def _unheard_seconds(self) -> float:
        """From its last word until its claim was seen to have ended: by its own clock it has stopped before that."""
        silence = self._lease_ttl_seconds if self._silence is None else self._silence
        return max(0.0, silence if self._claimed else silence - self._unclaimed_seconds)

    def _bytes(self, origin: str, held: int, heard: int) -> int | None:
        if held == heard:
            return 0
        sizes = {report.vector[origin]: report.sizes.get(origin) for report in self._all if origin in report.vector}
        views: Iterable[PeerReport] = self._views.values()
        sizes = {view.heard: view.heard_bytes for view in views if view.heard is not None} | sizes
        start, end = sizes.get(held) if held else 0, sizes.get(heard)
        return None if start is None or end is None else max(0, end - start)


def _silent_seconds(report: ClusterReport, view: PeerReport) -> float | None:
    """When the reporting cluster had last heard of the peer; by its wall clock where it is of a version that does not
    say for how long."""
    if view.silent_seconds is not None:
        return view.silent_seconds
    return (report.at_ms - view.last_contact_ms) / 1000 if view.last_contact_ms is not None else None


def require_acceptance(request: Request, predictions: tuple[LossPrediction, ...]) -> None:
    """Raises LossNotAccepted unless the loss is accepted in writing or the glass is broken; LossUnknown where
    nobody can say what is to be accepted."""
    if request.break_glass:
        return
    records, seen = sum(p.records for p in predictions), [asdict(p) for p in predictions]
    unknown = [p.origin for p in predictions if not p.bounded]
    if unknown:
        raise LossUnknown(
            f"what may be lost is unknown: nobody in reach has heard of the log of {', '.join(unknown)}, "
            "or not for long enough to say how fast it grows",
            predicted_loss_records=records,
            accepted=request.accept_data_loss,
            predictions=seen,
        )
    if request.accept_data_loss is not None and request.accept_data_loss >= records:
        return
    accepted = "nothing" if request.accept_data_loss is None else f"{request.accept_data_loss} records"
    raise LossNotAccepted(
        f"up to {records} records may be lost, and {accepted} was accepted",
        predicted_loss_records=records,
        accepted=request.accept_data_loss,
        predictions=seen,
    )


def never_less(predictions: Iterable[LossPrediction], earlier: Iterable[LossPrediction]) -> tuple[LossPrediction, ...]:
    """The predictions, with all that an earlier look had heard of: whoever looks now may have started since."""
    known = {prediction.origin: prediction for prediction in earlier}
    return tuple(_with_heard(prediction, known.get(prediction.origin)) for prediction in predictions)


def _with_heard(prediction: LossPrediction, earlier: LossPrediction | None) -> LossPrediction:
    if earlier is None or earlier.heard <= prediction.heard:
        return prediction
    known_bytes = earlier.known_bytes if earlier.held == prediction.held else None
    known_records = earlier.heard - prediction.held
    return replace(prediction, heard=earlier.heard, known_records=known_records, known_bytes=known_bytes)


def last_heard_ms(evidence: Evidence, source: str) -> int | None:
    """When any cluster, or the coordination store, last had a word of the source; by their own wall clocks."""
    words = [view.last_contact_ms for r in in_reach(evidence, source).values() if (view := r.peers.get(source))]
    own = evidence.last_reports.get(source)
    return max([ms for ms in [*words, own.report.at_ms if own else None] if ms is not None], default=None)


# --- after ---------------------------------------------------------------------------------------------------------

MAX_RANGES = 4_000
"""In one manifest before they are widened; the failover's document has to fit into a transaction."""


def manifest(
    failover: Failover,
    routing: RoutingDocument,
    held: VersionVector = VersionVector(),  # noqa: B008  (immutable)
    divergences: Iterable[Divergence] = (),
) -> tuple[LossRange, ...]:
    """What this emergency cut off, and no other one: exact as far as `held`, of which `divergences` tell; beyond it
    what was heard of. `routing` holds the new epochs."""
    heard = dict(failover.heard)
    for prediction in failover.plan.loss:
        heard[prediction.origin] = max(prediction.heard, heard.get(prediction.origin, 0))
    found = {(divergence.namespace, divergence.epoch): divergence for divergence in divergences}
    ranges: list[LossRange] = []
    for namespace, epoch in sorted(failover.expected_epochs.items()):
        route, cut = routing.routes[namespace], failover.cuts.get(namespace)
        if cut is None:
            continue
        before = Route(namespace, tuple(ownership for ownership in route.history if ownership.epoch <= epoch))
        for tail in cut_off(before, cut):
            divergence = found.get((namespace, tail.epoch))
            known: list[LossRange] = []
            if divergence:
                looked_at = exact_ranges(divergence, tail.after, tail.upto, failover.manifest)
                known = sorted([*_remembered(failover, divergence, tail.after), *looked_at], key=lambda r: r.first)
            ranges += known
            first = max([tail.after, held[tail.origin], *(r.last for r in known)]) + 1
            last = heard.get(tail.origin, 0) if tail.upto is None else tail.upto
            if last >= first:
                lost, count = Grade.PRESUMED_LOST, last - first + 1
                ranges.append(LossRange(namespace, tail.origin, tail.epoch, first, last, count, False, lost))
    if len(ranges) > MAX_RANGES:
        ranges = _widened(ranges, {d.place: d.dropped_to for d in found.values()})
    return tuple(ranges)


def _remembered(failover: Failover, divergence: Divergence, after: int) -> Iterator[LossRange]:
    """What the manifest says of records that retention has dropped since: there is nothing more to find out. What it
    presumed lost, and was dropped before anybody here could look at it, stays so."""
    before = [range_ for range_ in failover.manifest if range_.place == divergence.place]
    dropped_to, batches = divergence.dropped_to, divergence.batches
    # What a scan has found once it still knows, whatever retention does.
    edge = min(dropped_to, batches[0].first_sequence - 1) if batches else dropped_to
    known = after
    for range_ in before:
        if range_.exact and range_.first <= edge:
            kept = _up_to(range_, edge, divergence)
            known = max(known, kept.last)
            if kept.records:
                yield kept
    looked = max((b.last_sequence for b in batches if b.last_sequence <= dropped_to), default=dropped_to)
    for range_ in before:
        for beyond, upto in ((known, edge), (looked, dropped_to)):
            first, last = max(range_.first, beyond + 1), min(range_.last, upto)
            if not range_.exact and first <= last:
                yield replace(range_, first=first, last=last, records=last - first + 1)


def _up_to(range_: LossRange, edge: int, divergence: Divergence) -> LossRange:
    if range_.last <= edge:
        return range_
    beyond = (b for b in divergence.batches if edge < b.first_sequence and b.last_sequence <= range_.last)
    records = range_.records - sum(batch.records for batch in beyond)
    return replace(range_, last=edge, records=max(0, min(records, edge - range_.first + 1)))


def _widened(ranges: Iterable[LossRange], dropped_to: Mapping[tuple[str, str, int], int]) -> list[LossRange]:
    """Fewer ranges: they go on over the records of other namespaces, but not over what nobody has looked at."""
    wide: list[LossRange] = []
    for range_ in ranges:
        last = wide[-1] if wide else None
        if (
            last is not None
            and (last.place, last.grade, last.exact) == (range_.place, range_.grade, True)
            and range_.exact
            and not last.last < dropped_to.get(range_.place, 0) < range_.first
        ):
            wide[-1] = replace(last, last=range_.last, records=last.records + range_.records)
        else:
            wide.append(range_)
    return wide
