"""/control/divergence: what a later ownership fenced, and what is to become of it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from omnirelay.api import present, schemas
from omnirelay.api.guard import Calling, DryRun, GuardedRoute, Serving, needs
from omnirelay.failover.divergence import Divergence, Resolution
from omnirelay.model.access import Scope
from omnirelay.runtime.divergences import Divergences

router = APIRouter(prefix="/control/divergence", tags=["divergence"], route_class=GuardedRoute)


class Lines(StreamingResponse):
    media_type = "application/x-ndjson"


@router.get("", operation_id="listDivergence")
@needs(Scope.READ)
async def list_divergence(services: Serving) -> schemas.DivergenceList:
    """Fenced data as far as this cluster holds it, with what was decided about it."""
    return schemas.DivergenceList(divergences=[present.divergence(each) for each in await services.divergences.all()])


@router.get("/{divergence_id}", operation_id="getDivergence")
@needs(Scope.READ)
async def get_divergence(services: Serving, divergence_id: schemas.Name) -> schemas.DivergenceDetail:
    """One divergence: its fenced ranges, and per key what was fenced and whether the key was written since."""
    found = await services.divergences.get(divergence_id)
    ranges = present.divergence_ranges(found)
    diff = [
        schemas.KeyDiffModel(
            key=_text(entry.key), fenced_records=entry.fenced_records, written_since=entry.written_since
        )
        for entry in await services.divergences.diff(found)
    ]
    return schemas.DivergenceDetail(divergence=present.divergence(found), ranges=ranges, keys=diff)


@router.post("/{divergence_id}/discard", operation_id="discardDivergence")
@needs(Scope.ADMIN, "divergence.discard")
async def discard(
    services: Serving, caller: Calling, divergence_id: schemas.Name, dry_run: DryRun, body: schemas.StepBody
) -> schemas.DivergenceModel:
    """Decides that the open records are not to be delivered. They stay in the log until retention."""
    decided = await services.divergences.decide(divergence_id, Resolution.DISCARDED, caller.actor, body.reason, dry_run)
    return present.divergence(decided)


@router.post("/{divergence_id}/replay", operation_id="replayDivergence")
@needs(Scope.OPERATE, "divergence.replay")
async def replay(
    services: Serving, caller: Calling, divergence_id: schemas.Name, dry_run: DryRun, body: schemas.StepBody
) -> schemas.DivergenceModel:
    """Asks the active cluster to publish the open records again, with headers that name where they come from."""
    decided = await services.divergences.decide(divergence_id, Resolution.REPLAYING, caller.actor, body.reason, dry_run)
    return present.divergence(decided)


@router.post("/{divergence_id}/export", operation_id="exportDivergence", response_class=Lines)
@needs(Scope.OPERATE, "divergence.export")
async def export(
    services: Serving,
    caller: Calling,
    request: Request,
    divergence_id: schemas.Name,
    dry_run: DryRun,
    body: schemas.StepBody,
) -> Lines:
    """The fenced records as JSON lines, keys and values in base64. They count as exported once the last line has gone
    out."""
    divergences = services.divergences
    found = await divergences.get(divergence_id)
    decides, end = bool(found.unresolved) and not dry_run, found.last_sequence

    async def decide(dry_run: bool) -> None:
        await divergences.decide(divergence_id, Resolution.EXPORTED, caller.actor, body.reason, dry_run, end)

    async def lines() -> AsyncIterator[bytes]:
        async for line in _lines(divergences, found):
            yield line
        if decides:
            await decide(dry_run=False)

    if decides:
        # What would refuse the decision is told before the first line, not after the last.
        await decide(dry_run=True)

    return Lines(lines())


async def _lines(divergences: Divergences, found: Divergence) -> AsyncIterator[bytes]:
    fates = {batch.first_sequence: batch.fate for batch in found.batches}
    async for batch in divergences.batches(found):
        header = batch.header
        if header.last_sequence > found.last_sequence:
            return
        for index, record in enumerate(divergences.records(batch)):
            line = {
                "namespace": header.namespace,
                "origin": header.origin,
                "epoch": header.epoch,
                "sequence": header.first_sequence + index,
                "producer_id": header.producer_id,
                "producer_sequence": header.producer_sequence,
                "commit_time_ms": header.commit_time_ms,
                "fate": fates.get(header.first_sequence, "open"),
                "key": base64.b64encode(record.key).decode(),
                "value": base64.b64encode(record.value).decode(),
                "headers": [[name, base64.b64encode(value).decode()] for name, value in record.headers],
                "event_time_ms": record.event_time_ms,
            }
            yield json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _text(key: bytes) -> str:
    """As text where it is text, else as `base64:…`."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(key).decode()
