"""A seeded stream of events shaped like those of a mesh that hands out leases on sharded resources.

The shape, which `tests/package/unit/demo/test_workload.py` pins:

- Kinds: 87 % leases renewed, 5 % granted, 5 % released, 2 % shards moved to another owner, 1 % membership changes.
  Renewals dominate because a holder renews several times per lease; grants and releases balance, so the number of
  leases held stays about level. A renewal or a release always names a lease that is held; a resource is leased once.
- Keys: 512 shards, drawn from a Zipf distribution with exponent 1.1: the hottest takes about a fifth of the traffic,
  the hottest tenth about three quarters. Leases are keyed by shard and resource, moves by shard, membership by node.
- Values: compact JSON. Renewals and releases are 80 to 135 bytes, three renewals in ten carry their holder's figures;
  grants are 200 to 380 bytes, moves 380 to 800, and membership changes carry the whole view of 8 to 40 nodes, 0.8 to
  4 KiB. Half of all values are below 100 bytes, one in twenty is above 200, one in a hundred above 700.
- Headers: CloudEvents' `ce_id`, `ce_type` and `ce_source`; the id is the producer's name and a serial number from 0, by
  which a ledger recognises the record wherever it is delivered.
- Batches of 5 to 20 records, as a client that flushes every few milliseconds makes them.
- Event time is the caller's clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from itertools import accumulate
from random import Random
from typing import Any, TypeAlias

from omnirelay.model.record import Record

SHARDS = 512
ZIPF_EXPONENT = 1.1
BATCH_RECORDS = (5, 20)
"""Fewest and most records of a batch."""
STATS_SHARE = 0.3
"""Of the renewals that carry the holder's figures along."""
HELD_AT_FIRST = 8
"""Leases of each shard, granted before the stream begins."""
NODES = 40
ID_HEADER = "ce_id"
_REGIONS = ("us-east-1", "eu-west-1", "ap-south-1")
_REASONS = ("rebalance", "node drained", "hot shard split", "operator request", "node lost")

Json: TypeAlias = dict[str, Any]


class Kind(StrEnum):
    RENEWED = "mesh.lease.renewed"
    GRANTED = "mesh.lease.granted"
    RELEASED = "mesh.lease.released"
    MOVED = "mesh.shard.moved"
    MEMBERSHIP = "mesh.membership.changed"


SHARES = {Kind.RENEWED: 0.87, Kind.GRANTED: 0.05, Kind.RELEASED: 0.05, Kind.MOVED: 0.02, Kind.MEMBERSHIP: 0.01}


class Workload:
    """The events of one producer. Equal seeds, producers and times make equal records."""

    def __init__(self, seed: int, producer: str) -> None:
        # Chance for a demonstration, not for secrets; a text seeds the same way in every process.
        self._random = Random(f"{seed}/{producer}")  # noqa: S311
        self._producer = producer
        self._serial = 0
        self._zipf = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, SHARDS + 1)))
        self._held = [list(range(HELD_AT_FIRST)) for _ in range(SHARDS)]
        """The resources of each shard that are leased."""
        self._resources = [HELD_AT_FIRST] * SHARDS
        """How many of each shard have ever been leased."""
        self._epoch = [1] * SHARDS
        self._view = 1
        self._make: dict[Kind, Callable[[int, int], tuple[str, Json]]] = {
            Kind.RENEWED: self._renewed,
            Kind.GRANTED: self._granted,
            Kind.RELEASED: self._released,
            Kind.MOVED: self._moved,
            Kind.MEMBERSHIP: self._membership,
        }

    def batch(self, now_ms: int) -> list[Record]:
        return [self.record(now_ms) for _ in range(self._random.randint(*BATCH_RECORDS))]

    def record(self, now_ms: int) -> Record:
        """The next event, happening at `now_ms` (milliseconds since the Unix epoch)."""
        kind = self._random.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        shard = self._random.choices(range(SHARDS), cum_weights=self._zipf)[0]
        if kind in (Kind.RENEWED, Kind.RELEASED) and not self._held[shard]:
            kind = Kind.GRANTED
        key, value = self._make[kind](shard, now_ms)
        headers = (
            (ID_HEADER, f"{self._producer}/{self._serial}".encode()),
            ("ce_type", kind.encode()),
            ("ce_source", f"/mesh/shards/{shard}".encode()),
        )
        self._serial += 1
        return Record(key.encode(), json.dumps(value, separators=(",", ":")).encode(), headers, now_ms)

    # --- kinds: key and value ------------------------------------------------------------------------------------

    def _lease(self, shard: int, resource: int) -> tuple[str, Json]:
        name = f"s{shard:03}/r{resource:04}"
        return f"lease/{name}", {"lease": name, "holder": self._node(shard), "epoch": self._epoch[shard]}

    def _renewed(self, shard: int, now_ms: int) -> tuple[str, Json]:
        key, lease = self._lease(shard, self._random.choice(self._held[shard]))
        renewal = lease | {"until": now_ms + 10_000, "n": self._random.randint(1, 5_000)}
        if self._random.random() < STATS_SHARE:
            renewal["stats"] = {"ops": self._random.randrange(10**6), "p99_us": self._random.randrange(10**5)}
        return key, renewal

    def _granted(self, shard: int, now_ms: int) -> tuple[str, Json]:
        resource = self._resources[shard]
        self._resources[shard] += 1
        self._held[shard].append(resource)
        key, lease = self._lease(shard, resource)
        labels = {f"label{index}": self._hex(8) for index in range(self._random.randint(0, 8))}
        terms = {"ttl_ms": 10_000, "until": now_ms + 10_000, "mode": "exclusive", "token": self._hex(32)}
        return key, lease | terms | {"client": f"{self._node(shard)}.{self._hex(12)}", "labels": labels}

    def _released(self, shard: int, now_ms: int) -> tuple[str, Json]:
        held = self._held[shard]
        key, lease = self._lease(shard, held.pop(self._random.randrange(len(held))))
        return key, lease | {"at": now_ms, "why": self._random.choice(("done", "expired", "revoked"))}

    def _moved(self, shard: int, now_ms: int) -> tuple[str, Json]:
        before = {"owner": self._node(shard), "epoch": self._epoch[shard]}
        self._epoch[shard] += 1
        after = {"owner": self._node(shard), "epoch": self._epoch[shard]}
        replicas = [
            {
                "node": f"n{self._random.randrange(NODES):02}",
                "role": "follower",
                "applied": self._random.randrange(10**9),
            }
            for _ in range(self._random.randint(3, 10))
        ]
        bounds = [self._hex(16), self._hex(16)]
        reason = self._random.choice(_REASONS)
        return f"shard/s{shard:03}", {
            "shard": f"s{shard:03}", "from": before, "to": after, "range": bounds, "at": now_ms, "reason": reason,
            "plan": self._hex(32), "replicas": replicas,
        }  # fmt: skip

    def _membership(self, shard: int, now_ms: int) -> tuple[str, Json]:
        self._view += 1
        members = [
            {"node": f"n{index:02}", "region": _REGIONS[index % 3], "addr": f"10.{index % 3}.0.{index + 10}:7946",
             "status": self._random.choices(("alive", "suspect", "left"), (96, 3, 1))[0], "incarnation": shard + index}
            for index in range(self._random.randint(8, NODES))
        ]  # fmt: skip
        changed = self._random.choice(members)["node"]
        return f"member/{changed}", {"view": self._view, "at": now_ms, "changed": changed, "members": members}

    def _node(self, shard: int) -> str:
        node = (shard * 7 + self._epoch[shard]) % NODES
        return f"n{node:02}.{_REGIONS[node % 3]}"

    def _hex(self, digits: int) -> str:
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"


def identity(record: Record) -> tuple[str, int]:
    """Producer and serial number of a record of a Workload. Raises ValueError for any other record."""
    for name, value in record.headers:
        if name == ID_HEADER:
            producer, _, serial = value.decode().rpartition("/")
            return producer, int(serial)
    raise ValueError(f"a record without {ID_HEADER}: key {record.key!r}")
