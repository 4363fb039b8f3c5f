"""Retention: drops what may go, measures what each peer holds back, and says so before it is too late (fm25)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from omnirelay.errors import OmniRelayError, ResumePointDeleted
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.clock import Clock
from omnirelay.ports.log import LogStore, Retention
from omnirelay.replication.retention_alarm import Alarm, alarm
from omnirelay.runtime.links import Links

_log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
LOOKS_TO_RETAIN = 6
"""Batches are dropped at every so many looks."""

_WORDS = {
    Alarm.NONE: (logging.INFO, "is below half of the cap again"),
    Alarm.HALF: (logging.WARNING, "has passed 50 % of the cap: look at its link before the cap is reached"),
    Alarm.HIGH: (logging.ERROR, "has passed 80 % of the cap: bring its link up, or raise log.retain_cap"),
    Alarm.BEYOND: (logging.ERROR, "is beyond the cap: it is waited for no longer, and may have to be re-seeded"),
}


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """Milliseconds and bytes; see ports.log.Retention."""

    max_age_ms: int
    max_bytes: int
    cap_bytes: int


class Retaining:
    """`peers` names the other members, None while this cluster does not see the mesh; `kept` names for each origin the
    first fenced record that is still needed."""

    def __init__(
        self,
        log: LogStore,
        links: Links,
        clock: Clock,
        settings: RetentionSettings,
        peers: Callable[[], Collection[str] | None],
        kept: Callable[[], Awaitable[Mapping[str, int]]],
    ) -> None:
        self._store = log
        self._links = links
        self._clock = clock
        self._settings = settings
        self._peers = peers
        self._kept = kept
        self._remembered: dict[str, VersionVector] = {}
        self._alarms: dict[str, Alarm] = {}

    async def run(self) -> None:
        """Until cancelled. What a peer confirmed before this process began counts until it confirms more."""
        self._remembered = dict((await self._store.load()).cursors)
        looks = 0
        while True:
            try:
                await self.look()
                looks += 1
                if looks % LOOKS_TO_RETAIN == 0:
                    await self.retain()
            except OmniRelayError as error:
                _log.warning("retention: %s", error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Measures every peer that ever confirmed anything, and tells of each threshold that is passed."""
        for peer in sorted(self._peers() or ()):
            link = self._links.of(peer)
            confirmed = self._remembered.get(peer) if link.acknowledged is None else link.acknowledged
            if confirmed is None:
                continue
            link.retention_used = await self._held_back(confirmed) / max(1, self._settings.cap_bytes)
            now = alarm(link.retention_used)
            if now is not self._alarms.get(peer, Alarm.NONE):
                level, words = _WORDS[now]
                _log.log(level, "what is retained for %s (%.0f %%) %s", peer, link.retention_used * 100, words)
            self._alarms[peer] = now

    async def _held_back(self, confirmed: VersionVector) -> int:
        """Bytes of all logs here that the peer has not confirmed; the whole cap where its next batch is gone."""
        held = 0
        for origin in self._store.heads:
            try:
                if confirmed[origin] == 0:
                    await self._store.read(origin, 0, 1)
                held += await self._store.backlog_bytes(origin, confirmed[origin])
            except ResumePointDeleted:
                held += self._settings.cap_bytes
        return held

    async def retain(self) -> None:
        """Drops what may go now. Raises StorageUnavailable."""
        limits, heads = self._settings, dict(self._store.heads)
        needed = await self._kept()
        # What has come since the look began was not looked at: it may be fenced.
        kept = {origin: min(needed.get(origin, head.sequence + 1), head.sequence + 1) for origin, head in heads.items()}
        kept |= dict.fromkeys(self._store.heads.keys() - heads.keys(), 1)
        peers = self._peers()  # while nobody can tell who they are, whoever has a cursor counts
        rule = Retention(self._clock.wall_ms(), limits.max_age_ms, limits.max_bytes, limits.cap_bytes, peers, kept)
        for origin, oldest in (await self._store.retain(rule)).items():
            _log.info("%s is retained from %d on", origin, oldest)
