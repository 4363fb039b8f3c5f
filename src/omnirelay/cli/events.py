"""`omnirelay mesh events`: JSON lines in and out, for people and scripts.

A line is {"key", "value", "headers", "event_time_ms"}; text that is not UTF-8 goes as {"base64": "…"}; a value that
is JSON and not text is published as compact JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from omnirelay.cli.session import Session, connected
from omnirelay.errors import BadRequest

if TYPE_CHECKING:
    from omnirelay.client import Delivery, Producer, Record

_GRPC = click.option(
    "--grpc-endpoint", multiple=True, metavar="HOST:PORT", help="Event service.  [default: asked of the control API]"
)


@click.group
def events() -> None:
    """Publish and read records as JSON lines."""


@events.command
@click.option("--namespace", default="default", show_default=True)
@click.option("--producer-id", help="Keep it to go on where an earlier run ended.  [default: a new one]")
@click.option("--batch", "batch_size", type=click.IntRange(1), default=1, show_default=True, help="Records in a batch.")
@_GRPC
@connected
def publish(
    session: Session, namespace: str, producer_id: str | None, batch_size: int, grpc_endpoint: tuple[str, ...]
) -> None:
    """Publish records from stdin; prints where each batch went."""
    endpoints = grpc_endpoint or _event_endpoints(session)
    asyncio.run(_publish(session, endpoints, namespace, producer_id or f"cli-{uuid.uuid4()}", batch_size))


@events.command
@click.option("--namespace", default="default", show_default=True)
@click.option("--after", metavar="EPOCH:SEQUENCE", help="Go on after this cursor.")
@click.option("--from-start", is_flag=True, help="Everything that is retained, not only what comes from now on.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many records.")
@_GRPC
@connected
def tail(
    session: Session,
    namespace: str,
    after: str | None,
    from_start: bool,
    count: int | None,
    grpc_endpoint: tuple[str, ...],
) -> None:
    """Print records as they are delivered, each with its cursor; a fence comes as a line {"fence": …}."""
    endpoints = grpc_endpoint or _event_endpoints(session)
    asyncio.run(_tail(session, endpoints, namespace, after, "earliest" if from_start else "latest", count))


async def _publish(
    session: Session, endpoints: tuple[str, ...], namespace: str, producer_id: str, batch_size: int
) -> None:
    from omnirelay.client import Producer

    async with Producer(
        endpoints, producer_id=producer_id, namespace=namespace, credentials=session.credentials
    ) as producer:
        batch: list[Record] = []
        number = 0
        while line := await asyncio.to_thread(sys.stdin.readline):
            number += 1
            if line.strip():
                batch.append(parse_record(line, number))
            if len(batch) == batch_size:
                await _send(producer, batch)
                batch = []
        if batch:
            await _send(producer, batch)


async def _send(producer: Producer, batch: list[Record]) -> None:
    result = await producer.send(batch)
    place = {"origin": result.position.origin, "sequence": result.position.sequence} if result.position else None
    click.echo(
        json.dumps(
            {
                "producer_sequence": result.producer_sequence,
                "count": result.count,
                "position": place,
                "epoch": result.epoch,
                "cluster": result.cluster,
                "duplicate": result.duplicate,
            }
        )
    )


async def _tail(
    session: Session, endpoints: tuple[str, ...], namespace: str, after: str | None, start: str, count: int | None
) -> None:
    from omnirelay.client import Consumer
    from omnirelay.client.reader import Fence

    def fenced(fence: Fence) -> None:
        cut = {"epoch": fence.cut.epoch, "sequence": fence.cut.sequence}
        click.echo(json.dumps({"fence": {"cut": cut, "epoch": fence.epoch, "rolled_back": fence.rolled_back}}))

    consumer = Consumer(
        endpoints,
        namespace=namespace,
        cursor=parse_cursor(after),
        start="earliest" if start == "earliest" else "latest",
        credentials=session.credentials,
        on_fence=fenced,
    )
    async with consumer:
        printed = 0
        async for delivery in consumer:
            click.echo(json.dumps(delivery_json(delivery), ensure_ascii=False))
            printed += 1
            if printed == count:
                return


def parse_cursor(text: str | None) -> Any:
    """Raises BadRequest."""
    from omnirelay.model.position import Cursor

    if text is None:
        return None
    epoch, _, sequence = text.partition(":")
    if not (epoch.isdecimal() and sequence.isdecimal()):
        raise BadRequest(f"{text!r} is not EPOCH:SEQUENCE")
    return Cursor(int(epoch), int(sequence))


def parse_record(line: str, number: int) -> Record:
    """Raises BadRequest, which names the line."""
    from omnirelay.model.record import Record

    try:
        values = json.loads(line)
        if unknown := values.keys() - {"key", "value", "headers", "event_time_ms"}:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        headers = tuple(_headers(values.get("headers") or {}))
        event_time_ms = values.get("event_time_ms", 0)
        if not isinstance(event_time_ms, int):
            raise TypeError("event_time_ms is not a whole number")
        return Record(_bytes(values.get("key", "")), _bytes(values.get("value", "")), headers, event_time_ms)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRequest(f"line {number} is not a record: {error}") from error


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    record = delivery.record
    return {
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
        "event_time_ms": record.event_time_ms,
        "cursor": f"{delivery.cursor.epoch}:{delivery.cursor.sequence}",
        "origin": delivery.origin,
    }


def _headers(value: Any) -> Iterator[tuple[str, bytes]]:
    """An object, or pairs where a name occurs more than once."""
    pairs: Iterable[Any] = value.items() if isinstance(value, dict) else value
    for name, content in pairs:
        yield str(name), _bytes(content)


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict) and value.keys() == {"base64"}:
        return base64.b64decode(value["base64"], validate=True)
    return value.encode() if isinstance(value, str) else json.dumps(value, separators=(",", ":")).encode()


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _event_endpoints(session: Session) -> tuple[str, ...]:
    return tuple(cluster["endpoints"]["grpc"] for cluster in session.client.clusters()["clusters"])
