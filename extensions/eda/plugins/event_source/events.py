# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens in a mesh, as events: failovers from the audit chain, alerts from what the clusters say of each other."""

from __future__ import annotations

DOCUMENTATION = r"""
---
short_description: Failovers and alerts of an OmniRelay mesh
description:
  - Reads the control API every few seconds. The audit chain numbers what happens to failovers, so its last number is a cursor. Alerts are
    conditions of links and clusters that last; each begins and ends once.
  - With O(cursor_file) a restart goes on where the source was. What happened to failovers while nobody listened is told then. An alert
    that holds before and after is the same one, and of one that is over, the end is told.
  - Each event has a C(key) that is the same whenever the same thing is told again. Without O(cursor_file) a restart forgets since when
    conditions hold, so that alerts are told again with another key; failovers keep theirs.
  - Ends with an error when the control API refuses the identity, when no endpoint has answered for O(give_up_after) seconds, when the audit
    chain ends before the cursor, and when O(cursor_file) cannot be read or written.
options:
  endpoint:
    description: Control APIs, a list or a text with commas. Any cluster can answer. Also E(OMNIRELAY_ENDPOINT).
    required: true
  ca_path:
    description: The mesh's certificate authority. Also E(OMNIRELAY_CA).
  client_cert:
    description: Certificate with the scope C(mesh.read). Also E(OMNIRELAY_CERT).
  client_key:
    description: Its key. Also E(OMNIRELAY_KEY).
  token_file:
    description: A token instead, in a file. Also E(OMNIRELAY_TOKEN_FILE).
  interval:
    description: Seconds between two readings.
    default: 5
  cursor:
    description: Number of the audit entry after which to begin, V(now) for the newest.
    default: now
  cursor_file:
    description:
      - File that keeps the cursor over restarts, written from the start on. It wins over O(cursor).
      - Beside it, the file of the same name with C(.alerts) behind it keeps since when conditions hold.
  lag_seconds:
    description: A lag longer than this is an alert.
    default: 5
  hold_seconds:
    description: A condition that lasts this long is an alert.
    default: 10
  give_up_after:
    description: Seconds without an answer after which to end.
    default: 300
"""

EXAMPLES = r"""
- name: Watch the mesh
  hosts: localhost
  sources:
    - omnirelay.mesh.events:
        endpoint: [https://control.us-east.example.net:8443, https://control.eu-west.example.net:8443]
        ca_path: /etc/omnirelay/ca.pem
        client_cert: /etc/omnirelay/eda.pem
        client_key: /etc/omnirelay/eda.key
  rules:
    - name: Tell of a failover
      condition: event.type == "failover" and event.action == "failover.promote"
      action:
        debug:
"""

import asyncio
import json
import os
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp

TIMEOUT_SECONDS = 10
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
PAGE = 500
REFUSED = (401, 403)
ENVIRONMENT = {
    "endpoint": "OMNIRELAY_ENDPOINT",
    "ca_path": "OMNIRELAY_CA",
    "client_cert": "OMNIRELAY_CERT",
    "client_key": "OMNIRELAY_KEY",
    "token_file": "OMNIRELAY_TOKEN_FILE",
}


class SourceError(Exception):
    """Ends the source: what happened and what to do."""


# --- what is an alert ------------------------------------------------------------------------------------------------


def conditions(clusters: list[dict[str, Any]], lag_seconds: float) -> dict[tuple[str, str, str], str]:
    """Alert, cluster and peer of each condition that holds now, with words for people.

    What a receiver says of a peer's log is said about that peer: it goes on being said when the peer is dead.
    """
    found = {}
    for cluster in clusters:
        name = cluster["cluster_id"]
        if not cluster["ready"]:
            found["MeshClusterNotReady", name, ""] = "%s is not ready: %s" % (name, "; ".join(cluster["problems"]))
        for peer in cluster["peers"]:
            status, lag = peer["inbound"]["status"], peer["inbound"]["lag_seconds"]
            about = (peer["peer"], name)
            words = "%s receives from %s: %s" % (name, peer["peer"], status)
            if status in ("stalled", "disconnected"):
                found[("MeshReplicationStalled", *about)] = words
            elif status == "unknown" or lag is None:
                found[("MeshReplicationLagUnknown", *about)] = words + ", lag unknown"
            elif lag > lag_seconds:
                found[("MeshReplicationLag", *about)] = "%s, %.1f s behind" % (words, lag)
    return found


class Alarms:
    """Which conditions have lasted. Each episode gives one event when it has, and one when it is over."""

    def __init__(self, lag_seconds: float, hold_seconds: float, kept: list[dict[str, Any]] | None = None) -> None:
        self._lag_seconds = lag_seconds
        self._hold_seconds = hold_seconds
        kept = kept or []
        self._since: dict[tuple[str, str, str], float] = {(k["alert"], k["cluster"], k["peer"]): float(k["since"]) for k in kept}
        self._firing = {(k["alert"], k["cluster"], k["peer"]) for k in kept if k["firing"]}

    def keep(self) -> list[dict[str, Any]]:
        """Each condition that holds, since when, and whether that was told: another process goes on with it."""
        return [
            {"alert": which[0], "cluster": which[1], "peer": which[2], "since": since, "firing": which in self._firing}
            for which, since in sorted(self._since.items())
        ]

    def look(self, clusters: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
        """The events of this reading. O(now): seconds, of one clock."""
        holding = conditions(clusters, self._lag_seconds)
        active = {each["cluster_id"] for each in clusters if each["namespaces"]}
        events = []
        for which, words in holding.items():
            since = self._since.setdefault(which, now)
            if which not in self._firing and now - since >= self._hold_seconds:
                self._firing.add(which)
                events.append(self._event(which, "firing", words, active))
        for which in [each for each in self._since if each not in holding]:
            if which in self._firing:
                events.append(self._event(which, "resolved", "it is over", active))
            self._firing.discard(which)
            del self._since[which]
        return events

    def _event(self, which: tuple[str, str, str], state: str, words: str, active: set[str]) -> dict[str, Any]:
        alert, cluster, peer = which
        return {
            "type": "alert",
            "key": "alert/%s/%d/%s" % ("/".join(which), int(self._since[which]), state),
            "alert": alert,
            "cluster": cluster,
            "peer": peer,
            "active": cluster in active,
            "state": state,
            "summary": words,
        }


def failover_event(entry: dict[str, Any]) -> dict[str, Any] | None:
    """What an entry of the audit chain says about a failover; None if it is about something else."""
    kind, dummy, failover_id = entry["subject"].partition("/")
    if kind != "failovers":
        return None
    names = ("number", "at", "actor", "action", "outcome", "change_ticket")
    return {"type": "failover", "key": "audit/" + entry["digest"], "failover_id": failover_id} | {
        name: entry[name] for name in names
    }


# --- reading ---------------------------------------------------------------------------------------------------------


class Reader:
    """The control API: any endpoint that answers will do. What is refused ends it, silence does only after a while."""

    def __init__(self, session: aiohttp.ClientSession, endpoints: list[str], tls: ssl.SSLContext, headers: dict[str, str], patience: float) -> None:
        self._session = session
        self._endpoints = endpoints
        self._tls = tls
        self._headers = headers
        self._patience = patience

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The answer of the first endpoint that gives one. Raises SourceError."""
        gives_up_at = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            why = []
            for dummy in range(len(self._endpoints)):
                try:
                    return await self._ask(self._endpoints[0] + path, query)
                except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError) as error:
                    why.append("%s: %s" % (self._endpoints[0], error or type(error).__name__))
                    self._endpoints.append(self._endpoints.pop(0))
            if time.monotonic() + pause > gives_up_at:
                message = "No control API has answered for %.0f s: %s. Check endpoint, and that replicators run." % (self._patience, " ".join(why))
                raise SourceError(message)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _ask(self, url: str, query: dict[str, Any]) -> dict[str, Any]:
        async with self._session.get(url, params=query, ssl=self._tls, headers=self._headers, allow_redirects=False) as answer:
            if answer.status in REFUSED:
                message = "%s refuses this identity (%d): it needs the scope mesh.read. Check client_cert or token_file." % (url, answer.status)
                raise SourceError(message)
            answer.raise_for_status()
            return await answer.json()


async def main(queue: asyncio.Queue, args: dict[str, Any]) -> None:
    """Puts events into the queue until it is cancelled. Raises SourceError."""
    given = dict({name: os.environ.get(variable) for name, variable in ENVIRONMENT.items()}, **{k: v for k, v in args.items() if v is not None})
    endpoints = given["endpoint"].split(",") if isinstance(given["endpoint"], str) else list(given["endpoint"] or [])
    endpoints = [each.strip().rstrip("/") for each in endpoints]
    if not endpoints or not all(each.startswith(("https://", "http://127.0.0.1:")) for each in endpoints):
        message = "endpoint: name control APIs as https://HOST:PORT; found %s." % (endpoints or "none")
        raise SourceError(message)
    kept = Kept(Path(given["cursor_file"])) if given.get("cursor_file") else None
    alarms = Alarms(float(given.get("lag_seconds", 5)), float(given.get("hold_seconds", 10)), kept.alerts() if kept else None)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        reader = Reader(session, endpoints, _tls(given), _headers(given), float(given.get("give_up_after", 300)))
        cursor = await _start(reader, given.get("cursor", "now"), kept)
        while True:
            cursor = await _failovers(reader, queue, cursor, kept)
            for event in alarms.look(await _clusters(reader), time.time()):
                await queue.put(event)
            if kept:
                await asyncio.to_thread(kept.keep_alerts, alarms.keep())
            await asyncio.sleep(float(given.get("interval", 5)))


async def _start(reader: Reader, wanted: Any, kept: Kept | None) -> int:
    """The cursor to begin with. It is kept at once: else what happens before the first event would be missed by the next start."""
    cursor = kept.cursor() if kept else None
    if cursor is None:
        cursor = await _head(reader) if wanted == "now" else _number(wanted, "cursor")
    if kept:
        await asyncio.to_thread(kept.keep_cursor, cursor)
    return cursor


async def _head(reader: Reader) -> int:
    return (await reader.get("/control/audit", limit=1))["head"]["number"]


async def _failovers(reader: Reader, queue: asyncio.Queue, cursor: int, kept: Kept | None) -> int:
    """Tells everything beyond the cursor. It is kept after what it stands for was told: twice is better than never."""
    while True:
        page = await reader.get("/control/audit", after=cursor, limit=PAGE)
        if page["head"]["number"] < cursor:
            message = (
                "The cursor is %d and the audit chain ends with %d: the cursor is another mesh's, or the chain was made anew. Check endpoint and %s; "
                "to begin with what happens from now on, remove the file or set cursor to now." % (cursor, page["head"]["number"], kept or "cursor")
            )
            raise SourceError(message)
        for entry in page["entries"]:
            event = failover_event(entry)
            if event:
                await queue.put(event)
            cursor = entry["number"]
        if kept and page["entries"]:
            await asyncio.to_thread(kept.keep_cursor, cursor)
        if len(page["entries"]) < PAGE:
            return cursor


async def _clusters(reader: Reader) -> list[dict[str, Any]]:
    found, token = [], ""
    while True:
        page = await reader.get("/control/clusters", **({"page_token": token} if token else {}))
        found += page["clusters"]
        token = page["next_page_token"]
        if not token:
            return found


# --- what is kept over restarts --------------------------------------------------------------------------------------


class Kept:
    """Two files, each replaced at once or not at all: the cursor, a number, and beside it the conditions that hold, as JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._alerts = path.with_name(path.name + ".alerts")
        self._written: list[dict[str, Any]] | None = None

    def __str__(self) -> str:
        """For messages."""
        return str(self._path)

    def cursor(self) -> int | None:
        """None if there is no file yet. Raises SourceError."""
        text = _read(self._path)
        return None if text is None else _number(text, str(self._path))

    def alerts(self) -> list[dict[str, Any]]:
        """As they were given to O(keep_alerts). Raises SourceError."""
        text = _read(self._alerts)
        try:
            kept = [] if text is None else json.loads(text)
            Alarms(0, 0, kept)
        except (ValueError, TypeError, KeyError) as error:
            message = "%s does not hold what this source has written: %r. Remove it; alerts that hold are told once more then." % (self._alerts, error)
            raise SourceError(message) from error
        return kept

    def keep_cursor(self, cursor: int) -> None:
        """Raises SourceError."""
        _replace(self._path, "%d\n" % cursor)

    def keep_alerts(self, alerts: list[dict[str, Any]]) -> None:
        """Writes what is not written already. Raises SourceError."""
        if alerts != self._written:
            _replace(self._alerts, json.dumps(alerts, indent=1) + "\n")
            self._written = alerts


def _number(text: Any, where: str) -> int:
    try:
        number = int(text)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        message = "%s: the number of an audit entry is expected, found %r. Name one, or begin with what is newest: remove the file, set cursor to now."
        raise SourceError(message % (where, text))
    return number


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        message = "%s cannot be read: %s. Check cursor_file." % (path, error)
        raise SourceError(message) from error


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("w", encoding="utf-8") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        beside.replace(path)
    except OSError as error:
        message = "%s cannot be written: %s. Check cursor_file: a file in a directory that this process may write to." % (path, error)
        raise SourceError(message) from error


# --- identity --------------------------------------------------------------------------------------------------------


def _tls(given: dict[str, Any]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=given["ca_path"])
        if given["client_cert"]:
            context.load_cert_chain(given["client_cert"], given["client_key"])
    except (OSError, ssl.SSLError) as error:
        message = "The certificates cannot be used: %s. Check ca_path, client_cert and client_key." % error
        raise SourceError(message) from error
    return context


def _headers(given: dict[str, Any]) -> dict[str, str]:
    if not given["token_file"]:
        return {}
    return {"Authorization": "Bearer " + Path(given["token_file"]).read_text(encoding="utf-8").strip()}
