"""`omnirelay demo`: a mesh on this machine, events that flow, and a planned failover by the shipped playbook."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from omnirelay.demo.ledger import judge
from omnirelay.demo.load import Load
from omnirelay.demo.mesh import CLIENT, REQUESTER, LocalMesh
from omnirelay.demo.narrator import Narrator, describe
from omnirelay.demo.planned import planned_failover
from omnirelay.demo.report import OUTAGE_BAR_SECONDS, PLAYBOOK_BAR_SECONDS, Report, check_audit, planned_leg
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
        say(f"starting {len(clusters)} clusters on loopback: {', '.join(clusters)}")
        with LocalMesh(self.workspace.mesh, clusters) as mesh:
            endpoints = {member.cluster: member.grpc for member in mesh.members.values()}
            rate, seed = self.options.rate, self.options.seed
            say(f"publishing {rate} events/s (seed {seed}), reading at every cluster")
            with Load(endpoints, mesh.credentials(CLIENT), rate=rate, seed=seed) as load:
                load.wait_flowing(FLOW_SECONDS)
                self.watch(mesh, load)
                say(f"{REQUESTER} starts the planned failover to {clusters[1]}")
                run = planned_failover(mesh, self.workspace, clusters[1], say)
                self.timeline(run.record["journal"])
                self.watch(mesh, load)
                say("stopping the producers; the consumers read to the end")
                ledger = load.finish()
            say("comparing what was acknowledged with what each cluster delivered")
            return Report(
                planned=planned_leg(run, judge(ledger), ledger.outage(run.begun, run.ended)), audit=check_audit(mesh)
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


def _close(report: Report, narrator: Narrator, workspace: Workspace) -> int:
    leg, audit = report.planned, report.audit
    rows = [
        ("failover", leg.failover_id, f"epoch {leg.epoch_before} -> {leg.epoch_after}"),
        ("outage seen by producers", f"{leg.measured_outage_seconds:.3f} s", f"limit {OUTAGE_BAR_SECONDS} s"),
        ("playbook", f"{leg.playbook_seconds:.1f} s", f"limit {PLAYBOOK_BAR_SECONDS} s, without the wait for approval"),
        ("wait for approval", f"{leg.approval_wait_seconds:.1f} s", ""),
        ("records acknowledged", f"{leg.acknowledged:,}", ""),
        ("lost", str(leg.lost), f"{leg.predicted_loss} were predicted"),
        ("duplicated", str(leg.duplicated), ""),
        ("reordered", str(leg.reordered), ""),
        ("fenced", str(leg.fenced), ""),
        ("same records, same order", "yes" if leg.consistent else "NO", "at every cluster"),
        ("audit chain", "verified" if audit.verified else "BROKEN", f"{audit.entries} entries, every cluster's copy"),
    ]
    narrator.table("Planned failover, by the producers' and consumers' own ledgers", rows)
    shortfalls = report.shortfalls()
    for shortfall in shortfalls:
        narrator.say(f"NOT GOOD ENOUGH: {shortfall}")
    narrator.say(f"report: {workspace.report}; logs: {workspace.logs}")
    return 1 if shortfalls else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="omnirelay demo", description=__doc__)
    parser.add_argument(
        "--clusters", type=int, default=FEWEST_CLUSTERS, choices=range(FEWEST_CLUSTERS, len(CLUSTERS) + 1),
        help="how many clusters (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--rate", type=_positive, default=1000, help="events per second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the events (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of events before and after the failover (default: %(default)s)"
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
