"""`omnirelay replicator run` and `check-config`."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

# First, because it decides the least TLS version before gRPC is loaded.
from omnirelay.transport.tls import TlsFiles  # isort: skip
from omnirelay import __version__
from omnirelay.api import present
from omnirelay.api.app import create_app
from omnirelay.api.server import ControlServer
from omnirelay.api.server import TlsFiles as ControlTls
from omnirelay.api.services import Services
from omnirelay.config.settings import Settings, load
from omnirelay.coordination.sqlite import SqliteCoordination
from omnirelay.daemon.certificates import check_certificates
from omnirelay.daemon.clock import SystemClock
from omnirelay.daemon.host import HostFacts
from omnirelay.errors import ConfigInvalid, OmniRelayError
from omnirelay.failover.record import Failover
from omnirelay.model.readers import Acknowledgement
from omnirelay.model.record import Record
from omnirelay.model.times import rfc3339
from omnirelay.ports.streams import ProtocolVersion
from omnirelay.runtime.observation import Observation
from omnirelay.runtime.rebuilding import Restart
from omnirelay.runtime.replicator import Replicator, World
from omnirelay.runtime.retaining import RetentionSettings
from omnirelay.runtime.tickets import TicketDuty
from omnirelay.storage.log import SqliteLog
from omnirelay.telemetry import logs, metrics
from omnirelay.tickets import open_source
from omnirelay.transport import signatures
from omnirelay.transport.dialer import GrpcDialer
from omnirelay.transport.prober import NetworkProbe
from omnirelay.transport.server import GrpcServer
from omnirelay.wire import codec

_log = logging.getLogger(__name__)

PROTOCOL = ProtocolVersion(1, 1)
STOP_SECONDS = 1.0
LEAST_MESSAGE_BYTES = 256 * 1024
"""However small batches may be, a replayed one with its provenance has room."""


def check_config(path: Path) -> Settings:
    """Everything that can be known without starting: settings, relations, certificates. Raises ConfigInvalid."""
    settings = load(path)
    check_certificates(settings.tls, settings.cluster, datetime.now(UTC))
    return settings


def run(path: Path) -> None:
    """Runs a replicator until SIGTERM or SIGINT. Raises typed errors that keep it from starting."""
    settings = check_config(path)
    logs.configure(settings.log_level.upper())
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    while await _serve_once(settings, stop):
        _log.info("starting again, with a new log")


async def _serve_once(settings: Settings, stop: asyncio.Event) -> bool:
    """Whether to serve again: the log has been given a new name, so everything is to be made anew."""
    async with AsyncExitStack() as stack:
        replicator = await _start(settings, stack)
        stopping = asyncio.ensure_future(stop.wait())
        done, _ = await asyncio.wait([replicator, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if replicator in done:
            # Anything but a restart is a defect, and better a dead replicator than one that only looks alive.
            try:
                replicator.result()
            except Restart:
                return True
        _log.info("stopping")
        return False


async def _start(settings: Settings, stack: AsyncExitStack) -> asyncio.Task[None]:
    """Starts everything; what was started is stopped by the stack, in reverse order."""
    clock = SystemClock()
    files = TlsFiles(settings.tls.ca, settings.tls.certificate, settings.tls.key)
    host = HostFacts(settings.data_dir, settings.tls.certificate)
    max_message = max(4 * settings.log.max_batch, LEAST_MESSAGE_BYTES)
    log = await SqliteLog.open(settings.data_dir, cluster=settings.cluster, decode_header=codec.decode_header)
    stack.push_async_callback(log.close)
    store = await SqliteCoordination.open(settings.coordination.path)
    stack.push_async_callback(store.close)
    world = World(
        log=log,
        store=store,
        dialer=GrpcDialer(files, max_message),
        clock=clock,
        encode_header=codec.encode_header,
        with_provenance=codec.with_provenance,
        decode_records=codec.decode_record_set,
        control_records=lambda subject: codec.encode_record_set([Record(subject.encode(), b"")]),
        sign=partial(signatures.sign, files=files),
        verify=partial(signatures.verify, trust_domain=settings.tls.trust_domain, ca=settings.tls.ca),
        host=host,
        new_id=_new_failover_id,
        tickets=_ticket_duty(settings, stack),
        probe=NetworkProbe(files),
    )
    retention = RetentionSettings(
        int(settings.log.retain_for * 1000), settings.log.retain_size, settings.log.retain_cap
    )
    replicator = Replicator(
        settings.cluster,
        world,
        settings.timing.timing(),
        _protocol(settings),
        retention,
        settings.log.max_batch,
        settings.data_dir / "audit.jsonl",
        settings.rpo.guard(),
        settings.approvals.policy(),
    )
    access = settings.access_policy()
    grpc_server = GrpcServer(replicator, settings.listen.grpc, files, settings.tls.trust_domain, access, max_message)
    observation = Observation(replicator, host.certificate_expires_ms)
    services = Services(
        cluster=settings.cluster,
        version=__version__,
        protocol=str(replicator.protocol),
        view=replicator.view,
        failovers=replicator.failovers,
        tickets=replicator.tickets,
        clusters=replicator.clusters,
        divergences=replicator.divergences,
        rebuilding=replicator.rebuilding,
        reseeding=replicator.reseeding,
        auditor=replicator.auditor,
        access=access,
        readiness=replicator.reporter.unready,
        metrics=lambda: metrics.render(observation),
    )
    control = _control_server(services, settings)
    running = asyncio.create_task(replicator.run())
    stack.push_async_callback(_stop, running, replicator)
    await _listen("listen.grpc", settings.listen.grpc, grpc_server.start())
    stack.push_async_callback(grpc_server.stop, STOP_SECONDS)
    await _listen("listen.control", settings.listen.control, control.start())
    stack.push_async_callback(control.stop)
    _log.info(
        "%s serves gRPC on %s, control API on %s", settings.cluster, settings.listen.grpc, settings.listen.control
    )
    return running


async def _stop(running: asyncio.Task[None], replicator: Replicator) -> None:
    """Gives the lease back, so that a cluster that stops in order holds nobody up for a ttl."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    try:
        await replicator.release()
    except OmniRelayError as error:
        _log.warning("the lease was not given back: %s", error.message)


async def _listen(setting: str, address: str, starting: Coroutine[Any, Any, None]) -> None:
    try:
        await starting
    except OSError as error:
        raise ConfigInvalid(f"{setting}: cannot listen on {address}: {error}", path=setting) from error


def _control_server(services: Services, settings: Settings) -> ControlServer:
    host, _, port = settings.listen.control.rpartition(":")
    tls = ControlTls(settings.tls.certificate, settings.tls.key, settings.tls.ca)
    return ControlServer(create_app(services), host.strip("[]"), int(port), tls)


def _protocol(settings: Settings) -> ProtocolVersion:
    """The highest version to speak: this program's, unless the configuration holds it back."""
    if settings.protocol_minor is None:
        return PROTOCOL
    return min(PROTOCOL, ProtocolVersion(PROTOCOL.major, settings.protocol_minor))


def _ticket_duty(settings: Settings, stack: AsyncExitStack) -> TicketDuty | None:
    if settings.tickets is None:
        return None
    source = open_source(settings.tickets)
    stack.push_async_callback(source.close)
    return TicketDuty(
        source=source,
        report=_report,
        people=settings.ticket_people(),
        poll_seconds=settings.tickets.poll,
        give_up_seconds=settings.tickets.give_up_after,
    )


def _report(failover: Failover, audit: tuple[int, int] | None, noticed: Acknowledgement | None) -> bytes:
    """In the form in which the collection saves it, so that both have the same digest."""
    content = present.evidence(failover, audit, noticed).model_dump(mode="json")
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _new_failover_id(now_ms: int) -> str:
    """`fo-20260131-030405-1a2b3c`: sorts by time and can be read out over the phone."""
    time = rfc3339(now_ms)
    return f"fo-{time[0:4]}{time[5:7]}{time[8:10]}-{time[11:13]}{time[14:16]}{time[17:19]}-{secrets.token_hex(3)}"
