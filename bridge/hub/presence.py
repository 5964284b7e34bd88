"""Presence and typing: collects changes, and publishes each room at most once a second."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections import defaultdict
from itertools import islice

from bridge.hub.hub import Hub
from bus.errors import StoreUnavailable
from bus.rooms.presence import REFRESH_SECONDS, EphemeralPublisher, LocalPresence, UserRef

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0
# Rooms are published in batches with pauses between, since Redis runs a script for each. Batches
# grow with the number of rooms, so that all rooms are refreshed in time.
ROOMS_AT_ONCE = 10
MOST_BATCHES = 250
PAUSE_SECONDS = 0.01
FINISH_SECONDS = 2.0
MOST_TYPING = 20


class PresenceReporter:
    """Publishes who is present in this bridge's rooms, and who is typing there."""

    def __init__(self, hub: Hub, publisher: EphemeralPublisher) -> None:
        self._hub = hub
        self._publisher = publisher
        self._typing: defaultdict[uuid.UUID, dict[int, str]] = defaultdict(dict)
        # Rooms that are still to be refreshed in this round.
        self._round: list[uuid.UUID] = []

    def typing(self, room_id: uuid.UUID, user_id: int, name: str) -> None:
        users = self._typing[room_id]
        if len(users) < MOST_TYPING:
            users[user_id] = name

    async def run(self) -> None:
        """Publishes about every TURN_SECONDS, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_typing())
            tasks.create_task(self._run_presence())

    async def finish(self) -> None:
        """Publishes the last changes, when all sockets have gone and ``run`` has ended."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._publish_presence(self._changed(), pause=0.0)
        except (StoreUnavailable, TimeoutError) as error:
            logger.debug("not all departures were published: %s", error)

    async def _run_typing(self) -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS)
            try:
                await self._publish_typing()
            except StoreUnavailable as error:
                logger.debug("cannot publish typing: %s", error)

    async def _run_presence(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(TURN_SECONDS)
            before, passed = loop.time(), loop.time() - before
            due = self._due(passed)
            try:
                # First the refreshes, or other bridges would consider this one dead.
                await self._publish_presence(due)
                await self._publish_presence(self._changed(), until=loop.time() + TURN_SECONDS)
            except StoreUnavailable as error:
                logger.debug("cannot publish presence: %s", error)

    async def _publish_typing(self) -> None:
        typing, self._typing = self._typing, defaultdict(dict)
        if typing:
            await self._publisher.publish_typing(
                (room_id, [UserRef(*user) for user in users.items()])
                for room_id, users in typing.items()
            )

    async def _publish_presence(
        self, room_ids: set[uuid.UUID], until: float = math.inf, pause: float = PAUSE_SECONDS
    ) -> None:
        """Rooms that are not published before ``until``, a time of the loop, count as changed."""
        loop = asyncio.get_running_loop()
        at_once = max(ROOMS_AT_ONCE, len(self._hub) // MOST_BATCHES)
        try:
            while room_ids and loop.time() < until:
                some = list(islice(room_ids, at_once))
                self._hub.changed.difference_update(some)
                await self._publisher.publish_presence([self._local(room_id) for room_id in some])
                room_ids.difference_update(some)
                await asyncio.sleep(pause)
        finally:
            self._hub.changed |= room_ids

    def _changed(self) -> set[uuid.UUID]:
        changed, self._hub.changed = self._hub.changed, set()
        return changed

    def _due(self, passed: float) -> set[uuid.UUID]:
        """The share of all rooms that is due for a refresh when ``passed`` seconds have passed."""
        if not self._round:
            self._round = self._hub.ids()
        count = math.ceil(len(self._hub) * passed / REFRESH_SECONDS) or 1
        due = set(self._round[-count:])
        del self._round[-count:]
        return due

    def _local(self, room_id: uuid.UUID) -> LocalPresence:
        room = self._hub.get(room_id)
        users = room.users() if room else {}
        listed = [UserRef(*user) for user in sorted(users.items())]
        return LocalPresence(room_id, listed, in_any_case=bool(room and not room.presence))
