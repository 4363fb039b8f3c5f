"""Every command of every runbook, run as it is written by whoever the page says, in the order of the page, against a
mesh that is in the situation the page says; and what the page says will be seen, is.

A comment before each block of commands holds this together:

    <!-- in: SITUATION; as: PERSON; types: WORDS; exit: STATUS; shows: TEXT; shows: TEXT -->

`in` names a function of SITUATIONS below, `as` is alice where it is left out, `types` answers what is asked at the
terminal, `exit` is 0 where it is left out. A block without its comment fails, and so does a page without its parts.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect
import pytest
import yaml
from tests.system.support import rpc
from tests.system.support.deployments import Deployment
from tests.system.support.disasters import emergency, promote, unresolved, why_not_home
from tests.system.support.driving import Driver, fail_over, request
from tests.system.support.meshes import ProxiedMesh
from tests.system.support.playbooks import BIN, CHECKOUT, Playbooks, active, passive
from tests.system.support.terminals import ENTER, terminal
from tests.system.support.waiting import until

from omnirelay import __version__
from omnirelay.demo.mesh import APPROVER, CLIENT, REGIONS, REQUESTER, LocalMesh
from omnirelay.demo.planned import approve
from omnirelay.errors import OmniRelayError

pytestmark = pytest.mark.timeout(600)  # a page is a whole story

PAGES = sorted((CHECKOUT / "runbooks").glob("*.md"))
BLOCK = re.compile(r"(?:^<!-- (?P<comment>in: [^\n]*) -->\n)?^```sh\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)
FAILOVER_ID = re.compile(r"\bfo-\d{8}-\d{6}-[0-9a-f]{4}\b")
DIVERGENCE_ID = re.compile(r"\bdefault\.1\b")
NAMESPACES = ("default", "orders", "payments")
CAP_BYTES = 64 << 10
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "replica_reseed": {"log": {"retain_size": "0B", "retain_cap": f"{CAP_BYTES >> 10}KiB"}},
}
"""Page → what its mesh is configured with beside the defaults."""
COMMAND_SECONDS = 300.0
"""Far beyond what a command takes that restarts three replicators."""
RETENTION_SECONDS = 150.0
"""A replicator looks once a minute at what may go."""


@dataclass(slots=True)
class Story:
    """A mesh, and what the ids that a page uses stand for at the moment."""

    mesh: ProxiedMesh
    directory: Path
    """Where the commands run."""
    after: ExitStack
    deployment: Deployment | None = None
    started: Mapping[str, int] = field(default_factory=dict)
    """Cluster → the process that ran before anything was deployed."""
    failover: str = ""
    divergence: str = ""

    @property
    def at(self) -> str:
        """A cluster that lives."""
        return next(name for name, member in self.mesh.members.items() if member.running)

    def requested(self) -> dict[str, object]:
        return request(passive(self.mesh), NAMESPACES)


# --- situations -------------------------------------------------------------------------------------------------------


def all_is_well(story: Story) -> None:
    story.mesh.wait_level()


def a_plan_waits(story: Story) -> None:
    story.failover = Driver(story.mesh, story.at).plan(story.requested())["id"]


def a_run_was_interrupted(story: Story) -> None:
    """After its approval, with nobody writing."""
    driver = Driver(story.mesh, story.at)
    story.failover = driver.plan(story.requested())["id"]
    driver.carry_on(story.failover, until_state="drained")


def a_failover_is_completed(story: Story) -> None:
    story.failover = fail_over(story.mesh, passive(story.mesh), story.at, NAMESPACES)["id"]


def a_failback_waits(story: Story) -> None:
    a_failover_is_completed(story)
    asked = {"mode": "failback", "reverses": story.failover, "reason": "home", "change_ticket": "CHG-1"}
    story.failover = Driver(story.mesh, story.at).plan({**asked, "target": ""})["id"]


def the_active_is_gone(story: Story) -> None:
    """With records that nobody else has heard of."""
    mesh, source, others = story.mesh, active(story.mesh), [c for c in story.mesh.clusters if c != active(story.mesh)]
    mesh.proxies[source].admit_only([])
    for namespace in NAMESPACES:
        publish(mesh, source, namespace, [b"one", b"two"])
    mesh.kill(source)
    # As soon as its silence counts.
    Driver(mesh, others[0]).plan(emergency(others[0], NAMESPACES, dry_run=True))


def still_so(story: Story) -> None:
    """As the block before has left it."""


def an_emergency_was_interrupted(story: Story) -> None:
    """Before its promotion: planned, and its target stopped."""
    target = next(c for c in story.mesh.clusters if story.mesh.members[c].running and c != active(story.mesh))
    broken = {"break_glass": True, "accept_data_loss": None}
    story.failover = Driver(story.mesh, target).plan(emergency(target, NAMESPACES, **broken))["id"]


def the_new_active_died_unverified(story: Story) -> None:
    """By a failover that was promoted, and nothing more."""
    mesh, source = story.mesh, active(story.mesh)
    target = next(c for c in mesh.clusters if mesh.members[c].running and c != source)
    driver = Driver(mesh, source)
    story.failover = driver.plan(emergency(target, NAMESPACES, break_glass=True, accept_data_loss=None))["id"]
    with driver.client() as client:
        until(lambda: client.step(story.failover, "promote").done, f"{target} is promoted")
    mesh.kill(target)


def the_old_active_is_back(story: Story) -> None:
    """After an emergency, with what was cut off."""
    source, target = active(story.mesh), passive(story.mesh)
    the_active_is_gone(story)
    story.failover = promote(story.mesh, target, namespaces=NAMESPACES)["id"]
    story.mesh.mend(source)
    story.mesh.start(source)
    until(lambda: why_not_home(story.mesh, target, story.failover) <= {"divergence_resolved"}, f"{source} is back")
    something_is_open(story)


def something_is_open(story: Story) -> None:
    story.divergence = until(lambda: unresolved(story.mesh, story.at), "something is open")[0]["id"]


def the_active_has_lost_its_log(story: Story) -> None:
    """Its replicator runs again, on an empty disk, after its peers have received all that it wrote."""
    mesh, source = story.mesh, active(story.mesh)
    publish(mesh, source, "default", [b"one", b"two"])
    mesh.wait_level()
    mesh.kill(source)
    shutil.rmtree(mesh.directory / source)
    mesh.start(source)
    until(lambda: "this cluster itself up to 0" in " ".join(seen(story, source)["problems"]), "its loss is noticed")


def the_new_log_is_level(story: Story) -> None:
    until(lambda: any("~" in str(seen(story, name)["origin"]) for name in story.mesh.clusters), "it has a new name")
    story.mesh.wait_level()


def a_replica_fell_behind_retention(story: Story) -> None:
    """eu-west: away while more is written than is kept for it."""
    mesh, source, away = story.mesh, active(story.mesh), passive(story.mesh)
    mesh.kill(away)
    for number in range(4):
        publish(mesh, source, "default", [bytes(CAP_BYTES // 2)], producer=f"p{number}")
    for name in mesh.clusters:
        if name != away:
            until(lambda name=name: dropped(mesh, name, source), f"{name} has dropped it", RETENTION_SECONDS)
    mesh.start(away)
    until(lambda: "retention has dropped" in " ".join(seen(story, away)["problems"]), "it says that it cannot go on")


def the_replica_is_level(story: Story) -> None:
    with story.mesh.control() as client:
        until(lambda: "cluster.reseeded" in [entry["action"] for entry in client.audit()["entries"]], "it is proven")
    story.mesh.wait_level()


def the_hosts_have_a_new_release(story: Story) -> None:
    """Beside the one that they run."""
    deployment = story.deployment = Deployment(story.mesh, story.directory)
    story.after.callback(deployment.stop)
    story.started = deployment.processes()
    for version in {"1.0.0", "1.1.0"} - {__version__}:
        deployment.add_release(version)


def nobody_was_restarted(story: Story) -> None:
    assert story.deployment is not None
    assert story.deployment.processes() == story.started


def only_the_passive_clusters_run(version: str) -> Callable[[Story], None]:
    def look(story: Story) -> None:
        assert story.deployment is not None
        owner, now = active(story.mesh), story.deployment.processes()
        until(lambda: versions(story, but=owner) == {version}, f"the passive clusters run {version}")
        assert {name for name in now if now[name] == story.started[name]} == {owner}

    return look


def all_clusters_run(version: str) -> Callable[[Story], None]:
    def look(story: Story) -> None:
        until(lambda: versions(story) == {version}, f"all clusters run {version}")

    return look


def versions(story: Story, but: str = "") -> set[object]:
    with story.mesh.control() as client:
        return {c["version"] for c in client.clusters()["clusters"] if c["cluster_id"] != but}


def publish(mesh: LocalMesh, at: str, namespace: str, values: Sequence[bytes], producer: str = "probe") -> None:
    messages = [rpc.open_message(namespace, producer), rpc.batch_message(1, rpc.record_set(*values))]
    answer = rpc.publish(mesh.members[at].grpc, mesh.credentials(CLIENT), messages)
    assert answer.code == "", answer


def seen(story: Story, cluster: str) -> Mapping[str, Any]:
    """What the mesh shows of a cluster; nothing while the one that is asked starts again."""
    try:
        with story.mesh.control() as client:
            return client.cluster(cluster).body
    except OmniRelayError:
        return {"problems": (), "origin": ""}


def dropped(mesh: LocalMesh, cluster: str, origin: str) -> bool:
    """Whether the cluster has told that the beginning of that log is gone."""
    return f"{origin} is retained from " in mesh.members[cluster].log.read_text(encoding="utf-8")


SITUATIONS: Mapping[str, Callable[[Story], None]] = {
    "all is well": all_is_well,
    "a plan waits": a_plan_waits,
    "a run was interrupted": a_run_was_interrupted,
    "a failover is completed": a_failover_is_completed,
    "a failback waits": a_failback_waits,
    "the active is gone": the_active_is_gone,
    "still so": still_so,
    "an emergency was interrupted": an_emergency_was_interrupted,
    "the new active died unverified": the_new_active_died_unverified,
    "the old active is back": the_old_active_is_back,
    "something is open": something_is_open,
    "the active has lost its log": the_active_has_lost_its_log,
    "the new log is level": the_new_log_is_level,
    "a replica fell behind retention": a_replica_fell_behind_retention,
    "the replica is level": the_replica_is_level,
    "the hosts have a new release": the_hosts_have_a_new_release,
    "nobody was restarted": nobody_was_restarted,
    "only the passive clusters run 1.1.0": only_the_passive_clusters_run("1.1.0"),
    "all clusters run 1.1.0": all_clusters_run("1.1.0"),
    "all clusters run 1.0.0": all_clusters_run("1.0.0"),
}


# --- pages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    commands: str
    situation: str = ""
    person: str = REQUESTER
    types: Sequence[str] = ("",)
    """One answer for each question; the last goes for all that follow."""
    status: int = 0
    shows: Sequence[str] = field(default_factory=tuple)


def blocks(page: Path) -> Iterator[Block]:
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        said = [part.split(": ", 1) for part in (found["comment"] or "").split("; ") if part]
        single = dict(said)
        shows = tuple(value for name, value in said if name == "shows")
        types = tuple(value for name, value in said if name == "types") or ("",)
        person = single.get("as", REQUESTER)
        status = int(single.get("exit", "0"))
        yield Block(found["commands"], single.get("in", ""), person, types, status, shows)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_has_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in ("**When.** ", "**Who.** "):
        assert part in text, part
    chapters = re.findall(r"^## (.*)$", text, re.MULTILINE)
    wanted = ["Before", "Do it", "What you will see", "Decide", "Roll back", "Picture"]
    assert [chapter for chapter in chapters if chapter in wanted] == wanted
    picture = text.partition("## Picture\n")[2]
    assert f"]({page.stem}.svg)" in picture
    assert "```mermaid\n" in picture
    assert (page.parent / f"{page.stem}.svg").is_file()
    for name, anchor in re.findall(r"\]\(([a-z_]+\.md)(?:#([a-z-]+))?\)", text):
        headings = re.findall(r"^## (.*)$", (page.parent / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], (name, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_block_of_commands_says_where_it_runs_and_what_it_shows(page: Path) -> None:
    found = list(blocks(page))
    fences = re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fences) <= {"sh", "yaml", "mermaid"}, "commands are fenced as sh, so that they are run"
    assert len(found) == page.read_text(encoding="utf-8").count("```sh\n") > 0
    for block in found:
        assert block.situation in SITUATIONS, block
        assert block.shows, block


def test_the_inventory_of_the_deployment_sets_what_the_role_takes() -> None:
    text = (CHECKOUT / "runbooks/deploy.md").read_text(encoding="utf-8")
    (inventory,) = (
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    )
    specs = yaml.safe_load((CHECKOUT / "roles/replicator/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    given = inventory["replicators"]["vars"]
    assert given.keys() <= options.keys()
    assert given.keys() >= {name for name, option in options.items() if option.get("required")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    settings = SETTINGS.get(page.stem, {})
    mesh = ProxiedMesh(tmp_path / "m", namespaces=NAMESPACES, proxied=tuple(REGIONS), settings=settings)
    with mesh, ExitStack() as after:
        story = Story(mesh, tmp_path, after)
        for block in blocks(page):
            SITUATIONS[block.situation](story)
            status, output = run(story, block)
            assert status == block.status, (block, output)
            shown = " ".join(output.split())
            for text in block.shows:
                assert text in shown, (block, output)


def run(story: Story, block: Block) -> tuple[int, str]:
    """At a terminal, in one shell that stops at the first command that fails; the second person approves elsewhere."""
    mesh, directory = story.mesh, story.directory
    commands = DIVERGENCE_ID.sub(story.divergence, FAILOVER_ID.sub(story.failover, block.commands))
    env = Playbooks(directory, mesh).environment() | {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "OMNIRELAY_CERT": str(mesh.credentials(block.person).cert),
        "OMNIRELAY_KEY": str(mesh.credentials(block.person).key),
    }
    with terminal(["bash", "-euc", commands], directory, env) as shown:
        answers = list(block.types)
        while True:
            question = r"to approve: |\[y/N\]: |to go on: "
            met = shown.child.expect([question, "waits for approval", pexpect.EOF], COMMAND_SECONDS)
            if met == 0:
                if "approve: " in shown.child.after:
                    shown.until_it_reads()
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                shown.type(DIVERGENCE_ID.sub(story.divergence, answer) + ENTER)
            elif met == 1:
                approve(mesh, newest_open(mesh, story.at))
            else:
                return shown.finish()


def newest_open(mesh: LocalMesh, at: str) -> str:
    with mesh.control(APPROVER, clusters=[at]) as client:
        waiting = [failover for failover in client.failovers() if failover["state"] == "awaiting_approval"]
    return str(max(waiting, key=lambda failover: failover["created_at"])["id"])
