"""`omnirelay demo`: a mesh on this machine, events that flow, and three failovers by the shipped playbooks: a planned
one, an emergency, and the way home."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from omnirelay.demo.emergency import compare_loss, emergency_failover, wait_returned
from omnirelay.demo.failback import fail_back
from omnirelay.demo.ledger import Ledger, judge
from omnirelay.demo.load import DOOMED, Load
from omnirelay.demo.mesh import CLIENT, REQUESTER, LocalMesh
from omnirelay.demo.narrator import Narrator, describe
from omnirelay.demo.planned import Run, planned_failover
from omnirelay.demo.report import (
    ACCEPTED_BAR_SECONDS,
    OUTAGE_BAR_SECONDS,
    PLAYBOOK_BAR_SECONDS,
    EmergencyLeg,
    Leg,
    Report,
    Tally,
    check_audit,
    emergency_leg,
    failback_leg,
    planned_leg,
    tally,
)
from omnirelay.demo.workspace import DemoFailed, Workspace
from omnirelay.errors import OmniRelayError

CLUSTERS = ("us-east", "eu-west", "ap-south", "sa-east", "ca-central", "ap-northeast", "af-south")
FEWEST_CLUSTERS = 3
FLOW_SECONDS = 15.0
"""Longest wait for the first records to flow."""


def run(args: Sequence[str]) -> int:
    """Returns the exit status: 0 when nothing was lost, doubled or reordered and every figure is within its bar."""
    options = _parser().parse_args(args)
    narrator = Narrator(sys.stderr if options.output == "json" else sys.stdout)
    try:
        with _terminable():
            workspace = Workspace.find()
            with workspace.opened(keep=options.keep):
                report = Demo(workspace, narrator, options).play()
                workspace.report.write_text(report.to_json(), encoding="utf-8")
    except KeyboardInterrupt:
        narrator.say("interrupted; everything is stopped")
        return 128 + signal.SIGINT
    except (DemoFailed, OmniRelayError, OSError) as error:
        narrator.say(f"failed: {error}")
        return 1
    if options.output == "json":
        sys.stdout.write(report.to_json())
    return _close(report, narrator, workspace)


@dataclass(frozen=True, slots=True)
class Demo:
    workspace: Workspace
    narrator: Narrator
    options: argparse.Namespace

    def play(self) -> Report:
        say = self.narrator.say
        clusters = CLUSTERS[: self.options.clusters]
        first, second, third = clusters[:FEWEST_CLUSTERS]
        say(f"starting {len(clusters)} clusters on loopback: {', '.join(clusters)}")
        with LocalMesh(self.workspace.mesh, clusters) as mesh:
            endpoints = {member.cluster: member.grpc for member in mesh.members.values()}
            rate, seed = self.options.rate, self.options.seed
            say(f"publishing {rate} events/s (seed {seed}), reading at every cluster")
            with Load(endpoints, mesh.credentials(CLIENT), rate=rate, seed=seed, doomed=DOOMED) as load:
                load.wait_flowing(FLOW_SECONDS)
                self.watch(mesh, load)
                say(f"{REQUESTER} starts the planned failover from {first} to {second}")
                planned = planned_failover(mesh, self.workspace, second, say)
                self.timeline(planned.record["journal"])
                self.watch(mesh, load)

                emergency_began = time.monotonic()
                load.wait_delivered(emergency_began)
                say(f"the links stall; then {second} dies in the middle of it")
                emergency = emergency_failover(mesh, load, self.workspace, second, third, say)
                self.timeline(emergency.run.record["journal"])
                self.watch(mesh, load)
                say(f"{second} is started again; what it alone has is fenced, and comes in quarantine")
                mesh.start(second)
                wait_returned(mesh, emergency.run.record["id"], third)
                loss = compare_loss(mesh, load, emergency.run.record["id"], third)
                say(f"cut off: {loss.cut_off} acknowledged records; the manifest names {loss.manifest_records}")

                failback_began = time.monotonic()
                say(f"{REQUESTER} starts the failback to {second}; what was cut off is replayed")
                failback = fail_back(mesh, self.workspace, emergency.run.record["id"], say)
                self.timeline(failback.record["journal"])
                self.watch(mesh, load)
                say("stopping the producers; the consumers read to the end")
                ledger = load.finish()
            say("comparing what was acknowledged with what each cluster delivered")
            return Report(
                planned=planned_leg(planned, judge(ledger, end=emergency_began), _outage(ledger, planned)),
                emergency=emergency_leg(
                    emergency,
                    judge(ledger, emergency_began, failback_began),
                    ledger.outage(emergency.killed_at, emergency.run.ended),
                    ledger.accepted_at(emergency.run.epoch_after),
                    loss,
                ),
                failback=failback_leg(failback, judge(ledger, failback_began), _outage(ledger, failback)),
                run=tally(judge(ledger)),
                audit=check_audit(mesh),
            )

    def watch(self, mesh: LocalMesh, load: Load) -> None:
        """Shows the mesh once a second while the load flows."""
        end = time.monotonic() + self.options.seconds
        with mesh.control() as client:
            while True:
                load.check()
                shown = describe(client.clusters()["clusters"])
                self.narrator.say(f"{load.ledger.acknowledged:,} acknowledged; {shown}")
                remaining = end - time.monotonic()
                if remaining <= 0:
                    return
                time.sleep(min(1.0, remaining))

    def timeline(self, journal: Sequence[dict[str, str]]) -> None:
        """Who did which part of the failover, by the control plane's journal."""
        for entry in journal:
            self.narrator.say(f"  {entry['at'][11:23]} {entry['step']:8} {entry['event']:14} {entry['actor']}")


def _outage(ledger: Ledger, run: Run) -> float:
    return ledger.outage(run.begun, run.ended)


def _close(report: Report, narrator: Narrator, workspace: Workspace) -> int:
    by = "by the producers' and consumers' own ledgers"
    home = f"limit {OUTAGE_BAR_SECONDS} s"
    narrator.table(
        f"Planned failover, {by}",
        _rows(report.planned, home, f"limit {PLAYBOOK_BAR_SECONDS} s, without the wait for approval"),
    )
    narrator.table(
        f"Emergency, {by}",
        [
            *_rows(report.emergency, "", f"limit {PLAYBOOK_BAR_SECONDS} s, started at the kill"),
            *_emergency_rows(report.emergency),
        ],
    )
    narrator.table(f"Failback, {by}", _rows(report.failback, home, "without the wait for approval"))
    run, audit = report.run, report.audit
    narrator.table(
        f"The whole run, {by}",
        [
            ("records acknowledged", f"{run.acknowledged:,}", "the replayed ones included"),
            *_counts(run),
            (
                "audit chain",
                "verified" if audit.verified else "BROKEN",
                f"{audit.entries} entries, every copy",
            ),
        ],
    )
    shortfalls = report.shortfalls()
    for shortfall in shortfalls:
        narrator.say(f"NOT GOOD ENOUGH: {shortfall}")
    narrator.say(f"report: {workspace.report}; logs: {workspace.logs}")
    return 1 if shortfalls else 0


def _rows(leg: Leg, outage: str, playbook: str) -> list[tuple[str, str, str]]:
    rows = [
        ("failover", leg.failover_id, f"epoch {leg.epoch_before} -> {leg.epoch_after}"),
        ("outage seen by producers", f"{leg.measured_outage_seconds:.3f} s", outage),
        ("playbook", f"{leg.playbook_seconds:.1f} s", playbook),
        ("records acknowledged", f"{leg.acknowledged:,}", ""),
        *_counts(leg),
        ("predicted loss", str(leg.predicted_loss), "at the most"),
    ]
    if outage:
        rows.insert(3, ("wait for approval", f"{leg.approval_wait_seconds:.1f} s", ""))
    return rows


def _emergency_rows(leg: EmergencyLeg) -> list[tuple[str, str, str]]:
    after = leg.accepted_after_seconds
    return [
        ("writes taken again", "NEVER" if after is None else f"after {after:.3f} s", f"limit {ACCEPTED_BAR_SECONDS} s"),
        ("cut off", f"{leg.cut_off:,}", "acknowledged to producers that died with their cluster"),
        ("named by the manifest", f"{leg.manifest_records:,}", f"{leg.in_doubt} of them never acknowledged"),
        ("manifest agrees", "yes" if leg.manifest_exact else "NO", "record by record"),
    ]


def _counts(part: Tally) -> list[tuple[str, str, str]]:
    return [
        ("lost", str(part.lost), ""),
        ("duplicated", str(part.duplicated), ""),
        ("reordered", str(part.reordered), ""),
        ("fenced", str(part.fenced), "read, and taken back"),
        ("same records, same order", "yes" if part.consistent else "NO", "at every cluster"),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="omnirelay demo", description=__doc__)
    parser.add_argument(
        "--clusters", type=int, default=FEWEST_CLUSTERS, choices=range(FEWEST_CLUSTERS, len(CLUSTERS) + 1),
        help="how many clusters (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--rate", type=_positive, default=1000, help="events per second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the events (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of events before and after each failover (default: %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the mesh's data in build/demo/mesh")
    parser.add_argument("--output", choices=("table", "json"), default="table", help="json: the report, on stdout")
    return parser


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


@contextmanager
def _terminable() -> Iterator[None]:
    """A request to end runs the same way out as Ctrl-C does, so that no process stays behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
