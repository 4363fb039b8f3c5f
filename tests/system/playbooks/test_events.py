"""The event source and its rulebook, run by ansible-rulebook on a mesh: evidence and a plan, and nothing that moves."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.system.support.driving import Driver, request
from tests.system.support.playbooks import BIN, CHECKOUT, Playbooks, active, passive
from tests.system.support.waiting import until, until_async

from omnirelay.demo.mesh import CLIENT, REQUESTER, LocalMesh

pytestmark = pytest.mark.timeout(240)  # Java, and a playbook that it starts

RULEBOOK = CHECKOUT / "extensions/eda/rulebooks/alerts.yml"


@pytest.fixture(scope="module")
def source() -> ModuleType:
    """As ansible-rulebook loads it: a file, not a member of any package."""
    path = CHECKOUT / "extensions/eda/plugins/event_source/events.py"
    spec = importlib.util.spec_from_file_location("events", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- what is an alert -----------------------------------------------------------------------------------------------


def clusters(status: str = "streaming", lag: float | None = 0.0, ready: bool = True) -> list[dict[str, Any]]:
    """us-east is active; eu-west says how it receives from there."""
    link = {"status": "streaming", "lag_seconds": 0.0}
    return [
        {
            "cluster_id": name,
            "ready": ready or name != "us-east",
            "problems": ["disk is full"],
            "namespaces": [{"namespace": "default"}] if name == "us-east" else [],
            "peers": [{"peer": peer, "inbound": {"status": status, "lag_seconds": lag} if name == "eu-west" else link}],
        }
        for name, peer in (("us-east", "eu-west"), ("eu-west", "us-east"))
    ]


@pytest.mark.parametrize(
    ("seen", "alert"),
    [
        (clusters("stalled"), "MeshReplicationStalled"),
        (clusters("disconnected", None), "MeshReplicationStalled"),
        (clusters("unknown", None), "MeshReplicationLagUnknown"),
        (clusters("streaming", None), "MeshReplicationLagUnknown"),
        (clusters("catching_up", 6.0), "MeshReplicationLag"),
        (clusters(ready=False), "MeshClusterNotReady"),
    ],
)
def test_a_condition_that_lasts_begins_once_and_ends_once(source: ModuleType, seen: Any, alert: str) -> None:
    alarms = source.Alarms(lag_seconds=5, hold_seconds=10)
    assert alarms.look(seen, 100.0) == []
    assert alarms.look(seen, 109.0) == []
    (fired,) = alarms.look(seen, 110.0)
    assert (fired["alert"], fired["cluster"], fired["active"], fired["state"]) == (alert, "us-east", True, "firing")
    assert alarms.look(seen, 120.0) == []
    (resolved,) = alarms.look(clusters(), 130.0)
    assert resolved["state"] == "resolved"
    assert resolved["key"] != fired["key"]
    assert alarms.look(clusters(), 140.0) == []
    alarms.look(seen, 150.0)
    (again,) = alarms.look(seen, 160.0)
    assert again["key"] != fired["key"], "another episode is another event"


def test_what_does_not_last_is_no_alert(source: ModuleType) -> None:
    alarms = source.Alarms(lag_seconds=5, hold_seconds=10)
    for now in range(100, 200, 5):
        assert alarms.look(clusters("stalled") if now % 10 else clusters(), float(now)) == []


@pytest.mark.parametrize("hold", [5, 10])
def test_an_alert_over_a_restart_is_the_same_one(source: ModuleType, hold: int) -> None:
    """At the restart a condition has been told, or is about to be."""
    seen = clusters("stalled")
    stayed, left = (source.Alarms(lag_seconds=5, hold_seconds=hold) for _ in range(2))
    before = [alarms.look(seen, 100.0) + alarms.look(seen, 106.0) for alarms in (stayed, left)]
    assert before[0] == before[1]
    restarted = source.Alarms(lag_seconds=5, hold_seconds=hold, kept=json.loads(json.dumps(left.keep())))
    for later, now in ((seen, 112.0), (clusters(), 130.0), (seen, 140.0), (seen, 150.0)):
        assert stayed.look(later, now) == restarted.look(later, now)
    assert stayed.keep() == restarted.keep() != []


# --- reading --------------------------------------------------------------------------------------------------------


def arguments(mesh: LocalMesh, name: str = REQUESTER, **others: Any) -> dict[str, Any]:
    return {
        "endpoint": [member.control_url for member in mesh.members.values()],
        "ca_path": str(mesh.pki / "ca.crt"),
        "client_cert": str(mesh.pki / f"{name}.crt"),
        "client_key": str(mesh.pki / f"{name}.key"),
        "interval": 0.1,
        **others,
    }


@asynccontextmanager
async def listening(source: ModuleType, args: dict[str, Any]) -> AsyncIterator[Callable[[], Awaitable[dict[str, Any]]]]:
    """Yields what awaits the next event. In the end the source is cancelled, as a rulebook that ends does, and leaves
    no connection open."""
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    before = open_sockets()
    running = asyncio.create_task(source.main(queue, args))

    async def following() -> dict[str, Any]:
        getting = asyncio.create_task(queue.get())
        await asyncio.wait([running, getting], return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            getting.cancel()
            running.result()
        return getting.result()

    try:
        async with asyncio.timeout(30):
            yield following
    finally:
        running.cancel()
        await asyncio.wait([running])
        await until_async(lambda: open_sockets() <= before, "its connections are closed")


async def told(source: ModuleType, args: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The first events."""
    async with listening(source, args) as following:
        return [await following() for _ in range(count)]


def open_sockets() -> set[str]:
    """Of this process."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(descriptor.readlink()))
    return {each for each in found if each.startswith("socket:")}


def plan(mesh: LocalMesh, reason: str) -> str:
    """Planned and withdrawn: two entries of the audit chain about one failover."""
    asked = {**request(passive(mesh)), "reason": reason}
    failover_id = str(Driver(mesh, active(mesh)).plan(asked)["id"])
    with mesh.control() as client:
        client.step(failover_id, "abort", reason="the test is over")
    return failover_id


async def test_nothing_is_missed_and_a_repeated_event_has_the_same_key(
    source: ModuleType, mesh: LocalMesh, tmp_path: Path
) -> None:
    kept = tmp_path / "cursor"
    first = await asyncio.to_thread(plan, mesh, "first")
    with mesh.control() as client:
        begun = client.audit(limit=1)["head"]["number"] - 2
    async with listening(source, arguments(mesh, cursor=begun, cursor_file=str(kept))) as following:
        everything = [await following() for _ in range(2)]
        await until_async(lambda: int(kept.read_text()) == everything[-1]["number"], "the cursor is kept")
    assert [(event["failover_id"], event["action"]) for event in everything] == [
        (first, "failover.plan"), (first, "failover.abort"),
    ]  # fmt: skip
    again = await told(source, arguments(mesh, cursor=begun), 2)
    assert [event["key"] for event in again] == [event["key"] for event in everything]
    second = await asyncio.to_thread(plan, mesh, "while nobody listens")
    later = await told(source, arguments(mesh, cursor=0, cursor_file=str(kept)), 2)
    assert [event["failover_id"] for event in later] == [second] * 2


async def test_what_happens_after_a_source_that_saw_nothing_is_not_missed(
    source: ModuleType, mesh: LocalMesh, tmp_path: Path
) -> None:
    kept = tmp_path / "cursor"
    async with listening(source, arguments(mesh, cursor_file=str(kept))):
        await until_async(kept.exists, "it keeps where it begins")
    failover_id = await asyncio.to_thread(plan, mesh, "while nobody listens")
    later = await told(source, arguments(mesh, cursor_file=str(kept)), 2)
    assert [event["failover_id"] for event in later] == [failover_id] * 2


async def test_an_alert_of_a_mesh_goes_on_over_a_restart(source: ModuleType, mesh: LocalMesh, tmp_path: Path) -> None:
    """Every lag is beyond the limit, until the limit is beyond every lag."""
    args = arguments(mesh, cursor_file=str(tmp_path / "cursor"), hold_seconds=0)
    alerts = tmp_path / "cursor.alerts"
    async with listening(source, {**args, "lag_seconds": -1}) as following:
        fired = await following()
        await until_async(
            lambda: alerts.exists() and any(each["firing"] for each in json.loads(alerts.read_text())), "it is kept"
        )
    async with listening(source, {**args, "lag_seconds": 3600}) as following:
        over = await following()
        while (over["alert"], over["cluster"], over["peer"]) != (fired["alert"], fired["cluster"], fired["peer"]):
            over = await following()
    assert fired["alert"] == "MeshReplicationLag"
    assert (over["state"], over["key"]) == ("resolved", fired["key"].removesuffix("firing") + "resolved")


@pytest.mark.parametrize("from_file", [True, False])
async def test_a_cursor_beyond_the_chain_ends_it(
    source: ModuleType, mesh: LocalMesh, tmp_path: Path, from_file: bool
) -> None:
    """It waited for entries that nobody would ever write."""
    kept = tmp_path / "cursor"
    with mesh.control() as client:
        beyond = client.audit(limit=1)["head"]["number"] + 1_000
    if from_file:
        kept.write_text(f"{beyond}\n")
    args = arguments(mesh, cursor_file=str(kept)) if from_file else arguments(mesh, cursor=beyond)
    with pytest.raises(source.SourceError, match=f"cursor is {beyond} and the audit chain ends with") as ended:
        await told(source, args, 1)
    assert (str(kept) if from_file else "set cursor to now") in str(ended.value)


@pytest.mark.parametrize(
    ("files", "cursor", "why"),
    [
        ({"cursor": ""}, "now", "the number of an audit entry is expected"),
        ({"cursor": "many"}, "now", "the number of an audit entry is expected"),
        ({"cursor": "-1"}, "now", "the number of an audit entry is expected"),
        ({}, "yesterday", "the number of an audit entry is expected"),
        ({"cursor": "0", "cursor.alerts": '{"a'}, "now", "does not hold what this source has written"),
        ({"cursor": "0", "cursor.alerts": '[{"alert": "x"}]'}, "now", "does not hold what this source has written"),
    ],
)
async def test_what_was_kept_and_cannot_be_meant_is_refused(
    source: ModuleType, mesh: LocalMesh, tmp_path: Path, files: dict[str, str], cursor: str, why: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(source.SourceError, match=why):
        await told(source, arguments(mesh, cursor=cursor, cursor_file=str(tmp_path / "cursor")), 1)


async def test_a_cursor_that_cannot_be_kept_is_found_at_the_start(
    source: ModuleType, mesh: LocalMesh, tmp_path: Path
) -> None:
    with pytest.raises(source.SourceError, match="cannot be written"):
        await told(source, arguments(mesh, cursor_file=str(tmp_path / "missing/cursor")), 1)


async def test_an_identity_that_is_refused_ends_it(source: ModuleType, mesh: LocalMesh) -> None:
    with pytest.raises(source.SourceError, match=r"needs the scope mesh\.read"):
        await told(source, arguments(mesh, CLIENT), 1)


async def test_silence_ends_it_after_a_while(source: ModuleType, mesh: LocalMesh) -> None:
    with pytest.raises(source.SourceError, match="No control API has answered"):
        await told(source, arguments(mesh, endpoint="https://127.0.0.1:9", give_up_after=1), 1)


async def test_one_endpoint_that_is_gone_is_passed_over(source: ModuleType, mesh: LocalMesh) -> None:
    failover_id = await asyncio.to_thread(plan, mesh, "one is gone")
    endpoints = ["https://127.0.0.1:9", *(member.control_url for member in mesh.members.values())]
    with mesh.control() as client:
        number = client.audit(limit=1)["head"]["number"]
    events = await told(source, arguments(mesh, endpoint=",".join(endpoints), cursor=number - 2), 2)
    assert failover_id in {event["failover_id"] for event in events}


@pytest.mark.parametrize("endpoint", ["http://mesh.example:7401", "", []])
async def test_credentials_never_travel_unencrypted(source: ModuleType, endpoint: Any) -> None:
    with pytest.raises(source.SourceError, match="https://HOST:PORT"):
        await source.main(asyncio.Queue(), {"endpoint": endpoint})


# --- the rulebook ---------------------------------------------------------------------------------------------------


@contextmanager
def rulebook(playbooks: Playbooks, **variables: Any) -> Iterator[Path]:
    """ansible-rulebook on the shipped rulebook; yields its output."""
    directory = playbooks.directory
    (directory / "inventory.yml").write_text(
        yaml.safe_dump({"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}})
    )
    (directory / "variables.yml").write_text(yaml.safe_dump({"interval": 1, "hold_seconds": 2, **variables}))
    environment = playbooks.environment()
    collection = Path(environment["ANSIBLE_COLLECTIONS_PATH"]) / "ansible_collections/omnirelay/mesh"
    if not (collection / "extensions").exists():
        (collection / "extensions").symlink_to(CHECKOUT / "extensions")
    output = directory / "rulebook.log"
    command = [
        str(BIN / "ansible-rulebook"),
        "--rulebook",
        str(RULEBOOK),
        "-i",
        "inventory.yml",
        "--vars",
        "variables.yml",
        "--verbose",
    ]
    with output.open("w") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield output
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_dead_active_gives_evidence_and_a_plan_that_waits(own_mesh: LocalMesh, tmp_path: Path) -> None:
    playbooks = Playbooks(tmp_path, own_mesh)
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    with rulebook(playbooks, evidence_directory=str(evidence), change_ticket="INC-1") as output:
        own_mesh.kill("us-east")

        def prepared() -> list[dict[str, Any]]:
            with own_mesh.control(clusters=["eu-west", "ap-south"]) as client:
                return list(client.failovers())

        (found,) = until(prepared, "a plan is prepared", 120)
        assert (found["mode"], found["source"], found["state"]) == ("emergency", "us-east", "awaiting_approval"), (
            output.read_text()
        )
        assert found["approvals_required"] == 1
        assert found["accept_data_loss"] is not None
        until(lambda: list(evidence.glob("alert-us-east-*.json")), "the evidence is kept")
    (kept,) = evidence.glob("alert-us-east-*.json")
    assert json.loads(kept.read_text())["heard"] is False
    with own_mesh.control(clusters=["eu-west"]) as client:
        (still,) = client.failovers()
        assert still["state"] == "awaiting_approval"
        assert client.routing().body["namespaces"]["default"]["epoch"] == 1


def test_an_alert_about_a_cluster_that_lives_prepares_a_planned_failover(playbooks: Playbooks) -> None:
    mesh = playbooks.mesh
    given = {"mesh_alert_cluster": active(mesh), "mesh_reason": "disk", "mesh_change_ticket": "INC-2"}
    done = playbooks.run("omnirelay.mesh.alert_response", **given)
    assert done.status == 0, done.output
    with mesh.control() as client:
        open_ = [each for each in client.failovers() if each["state"] == "awaiting_approval"]
    (found,) = open_
    assert (found["mode"], found["source"]) == ("planned", active(mesh))
    again = playbooks.run("omnirelay.mesh.alert_response", **given)
    assert again.status == 0, again.output
    with mesh.control() as client:
        assert [each["id"] for each in client.failovers() if each["state"] == "awaiting_approval"] == [found["id"]]
        client.step(found["id"], "abort", reason="the test is over")


def test_the_rulebook_starts_nothing_that_moves_anything() -> None:
    (ruleset,) = yaml.safe_load(RULEBOOK.read_text())
    started = {
        action["run_playbook"]["name"]
        for rule in ruleset["rules"]
        for action in [rule["action"]]
        if "run_playbook" in action
    }
    assert started == {"omnirelay.mesh.alert_response"}
    tasks = (CHECKOUT / "playbooks/alert_response.yml").read_text()
    for name in ("failover_step", "failover_approval", "omnirelay.mesh.approval", "include_role", "import_playbook"):
        assert name not in tasks
