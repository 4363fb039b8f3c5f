"""Every command of every runbook, run as it is written by whoever the page says, in the order of the page, against a
mesh that is in the situation the page says; and what the page says will be seen, is.

A comment before each block of commands holds this together:

    <!-- in: SITUATION; as: PERSON; types: WORDS; exit: STATUS; shows: TEXT; shows: TEXT -->

`in` names a function of SITUATIONS below, `as` is alice where it is left out, `types` answers what is asked at the
terminal, `exit` is 0 where it is left out. A block without its comment fails, and so does a page without its parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pexpect
import pytest
from tests.system.support import rpc
from tests.system.support.disasters import emergency, promote, unresolved, why_not_home
from tests.system.support.driving import Driver, fail_over, request
from tests.system.support.meshes import ProxiedMesh
from tests.system.support.playbooks import BIN, CHECKOUT, Playbooks, active, passive
from tests.system.support.terminals import ENTER, terminal
from tests.system.support.waiting import until

from omnirelay.demo.mesh import APPROVER, CLIENT, REGIONS, REQUESTER, LocalMesh
from omnirelay.demo.planned import approve

pytestmark = pytest.mark.timeout(300)  # a page is a whole story

PAGES = sorted((CHECKOUT / "runbooks").glob("*.md"))
BLOCK = re.compile(r"(?:^<!-- (?P<comment>in: [^\n]*) -->\n)?^```sh\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)
FAILOVER_ID = re.compile(r"\bfo-\d{8}-\d{6}-[0-9a-f]{4}\b")
DIVERGENCE_ID = re.compile(r"\bdefault\.1\b")
NAMESPACES = ("default", "orders", "payments")


@dataclass(slots=True)
class Story:
    """A mesh, and what the ids that a page uses stand for at the moment."""

    mesh: ProxiedMesh
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
        messages = [rpc.open_message(namespace), rpc.batch_message(1, rpc.record_set(b"one", b"two"))]
        answer = rpc.publish(mesh.members[source].grpc, mesh.credentials(CLIENT), messages)
        assert answer.code == "", answer
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


SITUATIONS: Mapping[str, Callable[[Story], None]] = {
    "all is well": all_is_well,
    "a plan waits": a_plan_waits,
    "a run was interrupted": a_run_was_interrupted,
    "a failover is completed": a_failover_is_completed,
    "a failback waits": a_failback_waits,
    "the active is gone": the_active_is_gone,
    "still so": still_so,
    "an emergency was interrupted": an_emergency_was_interrupted,
    "the old active is back": the_old_active_is_back,
    "something is open": something_is_open,
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
    assert len(found) == page.read_text(encoding="utf-8").count("```sh\n") > 0
    for block in found:
        assert block.situation in SITUATIONS, block
        assert block.shows, block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    with ProxiedMesh(tmp_path / "m", namespaces=NAMESPACES, proxied=tuple(REGIONS)) as mesh:
        story = Story(mesh)
        for block in blocks(page):
            SITUATIONS[block.situation](story)
            status, output = run(story, block, tmp_path)
            assert status == block.status, (block, output)
            seen = " ".join(output.split())
            for text in block.shows:
                assert text in seen, (block, output)


def run(story: Story, block: Block, directory: Path) -> tuple[int, str]:
    """At a terminal, in one shell that stops at the first command that fails; the second person approves elsewhere."""
    mesh = story.mesh
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
            met = shown.child.expect([question, "waits for approval", pexpect.EOF])
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
