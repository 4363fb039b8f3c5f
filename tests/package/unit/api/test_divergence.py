"""Fenced data through the API: what is shown, what may be decided by whom, and what an export holds."""

import base64
import json

import pytest

from omnirelay.failover.divergence import Resolution
from omnirelay.model.position import Cursor
from omnirelay.model.record import Record
from omnirelay.model.routing import Ownership, Route
from omnirelay.runtime.audit import Actor
from omnirelay.testing.batches import Chain
from omnirelay.wire.codec import encode_record_set

ROUTE = Route("default", (Ownership(1, "eu-west", "eu-west"), Ownership(2, "us-east", "us-east", Cursor(1, 1))))
ID = "default.1"
PATH = f"/control/divergence/{ID}"


def records(*keys, headers=()):
    return encode_record_set([Record(key, b"value of " + key, headers, 7) for key in keys])


@pytest.fixture
async def diverged(mesh):
    """Epoch 1, eu-west's, ends at 1; 2 and 3 to 4 are fenced. us-east went on, and wrote `x` again."""
    chain = Chain("eu-west")
    await mesh.sequencer.install({"default": ROUTE})
    for batch in (
        chain.next(records=records(b"w")),
        chain.next(records=records(b"x", headers=(("trace", b"\x01"),))),
        chain.next(records=records(b"y", b"\xff"), count=2),
    ):
        await mesh.log.append(batch)
    mesh.eu_west = chain
    await mesh.log.append(Chain("us-east").next(records=records(b"x"), epoch=2, producer="q"))
    return mesh


async def post(mesh, name, decision, **query):
    return await mesh.call(name, "POST", f"{PATH}/{decision}", params=query, json={"reason": "told so"})


async def shown(mesh, name="reader"):
    [found] = (await mesh.call(name, "GET", "/control/divergence")).json()["divergences"]
    return found


def lines(answer):
    return [json.loads(line) for line in answer.text.splitlines()]


class TestReading:
    async def test_a_mesh_without_divergence_shows_none(self, mesh):
        assert (await mesh.call("reader", "GET", "/control/divergence")).json() == {"divergences": []}

    async def test_the_list_counts(self, diverged):
        assert await shown(diverged) == {
            "id": ID,
            "namespace": "default",
            "epoch": 1,
            "origin": "eu-west",
            "first_sequence": 2,
            "last_sequence": 4,
            "records": 3,
            "superseded": 0,
            "replayed": 0,
            "unresolved": 3,
            "resolution": None,
            "decided_by": "",
            "decided_at": "",
        }

    async def test_the_detail_shows_ranges_and_what_happened_to_each_key_since(self, diverged):
        detail = (await diverged.call("reader", "GET", PATH)).json()
        assert [(r["first"], r["last"], r["records"], r["exact"], r["grade"]) for r in detail["ranges"]] == [
            (2, 4, 3, True, "fenced")
        ]
        assert detail["keys"] == [
            {"key": "x", "fenced_records": 1, "written_since": 1},
            {"key": "y", "fenced_records": 1, "written_since": 0},
            {"key": "base64:/w==", "fenced_records": 1, "written_since": 0},
        ]

    @pytest.mark.parametrize("id", ["default.2", "default.9", "mars.1", "default", "default.one"])
    async def test_what_does_not_exist(self, diverged, id):
        answer = await diverged.call("reader", "GET", f"/control/divergence/{id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    async def test_reading_needs_a_scope(self, diverged):
        for path in ("/control/divergence", PATH):
            assert (await diverged.call("nobody", "GET", path)).status_code == 403


class TestDeciding:
    @pytest.mark.parametrize(
        ("decision", "may", "may_not"),
        [("discard", "root", "alice"), ("replay", "alice", "bob"), ("export", "alice", "reader")],
    )
    async def test_who_may(self, diverged, decision, may, may_not):
        """A discard gives records up for good, so it takes the admin's scope."""
        refused = await post(diverged, may_not, decision)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
        assert (await shown(diverged))["unresolved"] == 3
        entries = (await diverged.call("reader", "GET", "/control/audit")).json()["entries"]
        assert (entries[-1]["action"], entries[-1]["outcome"]) == (f"divergence.{decision}", "refused")
        assert (await post(diverged, may, decision)).status_code == 200

    async def test_a_discard(self, diverged):
        decided = (await post(diverged, "root", "discard")).json()
        assert (decided["resolution"], decided["unresolved"], decided["decided_by"]) == ("discarded", 0, "token/root")
        assert decided["decided_at"]
        detail = (await diverged.call("reader", "GET", PATH)).json()
        assert [r["grade"] for r in detail["ranges"]] == ["discarded"]
        assert detail["keys"] == [], "nothing is open"

    async def test_a_replay_is_an_intent(self, diverged):
        asked = (await post(diverged, "alice", "replay")).json()
        assert (asked["resolution"], asked["unresolved"]) == ("replaying", 3)
        refused = await post(diverged, "root", "discard")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")

    @pytest.mark.parametrize(("decision", "name"), [("discard", "root"), ("replay", "alice")])
    async def test_the_same_decision_again_is_the_same(self, diverged, decision, name):
        once = (await post(diverged, name, decision)).json()
        assert (await post(diverged, name, decision)).json() == once

    async def test_what_is_settled_stays_settled(self, diverged):
        await post(diverged, "root", "discard")
        refused = await post(diverged, "alice", "replay")
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_argument")
        assert "no open records: discarded" in refused.json()["detail"]

    @pytest.mark.parametrize(("decision", "name"), [("discard", "root"), ("replay", "alice"), ("export", "alice")])
    async def test_a_dry_run_takes_the_same_way_and_decides_nothing(self, diverged, decision, name):
        before = (await diverged.call("reader", "GET", "/control/audit")).json()["head"]
        assert (await post(diverged, name, decision, dry_run=True)).status_code == 200
        assert (await shown(diverged))["resolution"] is None
        assert (await diverged.call("reader", "GET", "/control/audit")).json()["head"] == before

    async def test_decisions_are_audited_with_their_reason(self, diverged):
        await post(diverged, "root", "discard")
        entries = (await diverged.call("reader", "GET", "/control/audit")).json()["entries"]
        entry = entries[-1]
        assert (entry["action"], entry["subject"], entry["why"]) == (
            "divergence.discarded",
            f"divergence/{ID}",
            "told so",
        )
        assert entry["after"] == {"resolution": "discarded", "upto": 4}

    async def test_unknown_fields_are_refused(self, diverged):
        answer = await diverged.call("root", "POST", f"{PATH}/discard", json={"force": True})
        assert (answer.status_code, answer.json()["details"]["path"]) == (400, "force")


class TestExport:
    async def test_every_fenced_record_is_a_line_with_its_place_and_bytes(self, diverged):
        answer = await post(diverged, "alice", "export")
        assert answer.headers["Content-Type"].startswith("application/x-ndjson")
        exported = lines(answer)
        assert [line["sequence"] for line in exported] == [2, 3, 4]
        assert exported[0] == {
            "namespace": "default",
            "origin": "eu-west",
            "epoch": 1,
            "sequence": 2,
            "producer_id": "p",
            "producer_sequence": 2,
            "commit_time_ms": 1000,
            "fate": "open",
            "key": base64.b64encode(b"x").decode(),
            "value": base64.b64encode(b"value of x").decode(),
            "headers": [["trace", base64.b64encode(b"\x01").decode()]],
            "event_time_ms": 7,
        }
        assert base64.b64decode(exported[2]["key"]) == b"\xff"

    async def test_afterwards_it_counts_as_exported_and_can_be_fetched_again(self, diverged):
        first = await post(diverged, "alice", "export")
        assert ((await shown(diverged))["resolution"], (await shown(diverged))["unresolved"]) == ("exported", 0)
        again = await post(diverged, "alice", "export")
        assert (again.status_code, again.text) == (200, first.text)

    async def test_what_arrives_while_it_streams_is_in_neither_the_file_nor_the_decision(self, diverged):
        """The decision reaches as far as the lines do."""
        divergences, reads = diverged.divergences, diverged.divergences.batches

        async def and_then_one_more(found):
            async for batch in reads(found):
                yield batch
            await diverged.log.append(diverged.eu_west.next(records=records(b"late")))

        divergences.batches = and_then_one_more
        exported = lines(await post(diverged, "alice", "export"))
        divergences.batches = reads
        assert [line["sequence"] for line in exported] == [2, 3, 4]
        found = await shown(diverged)
        assert (found["last_sequence"], found["unresolved"]) == (5, 1)

    async def test_a_later_part_is_exported_without_the_first_one_being_decided_again(self, diverged):
        await post(diverged, "root", "discard")
        await diverged.log.append(diverged.eu_west.next(records=records(b"late")))
        assert (await shown(diverged))["unresolved"] == 1
        exported = lines(await post(diverged, "alice", "export"))
        assert [line["sequence"] for line in exported] == [2, 3, 4, 5], "a file holds all that diverged"
        detail = (await diverged.call("reader", "GET", PATH)).json()
        assert [(r["first"], r["last"], r["grade"]) for r in detail["ranges"]] == [
            (2, 4, "discarded"),
            (5, 5, "exported"),
        ]

    async def test_a_refusal_comes_before_the_first_line(self, diverged):
        await diverged.divergences.decide(ID, Resolution.REPLAYING, Actor("token/alice", "token"), "", False)
        answer = await post(diverged, "alice", "export")
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
