"""Presence and typing: what changes is gathered, and told at most once a second for each room."""

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
# Not all at once: Redis, which runs a script for each, and the rooms' sockets have something
# better to do. Of many rooms more at a time, or they would not all be refreshed in time.
ROOMS_AT_ONCE = 10
MOST_BATCHES = 250
PAUSE_SECONDS = 0.01
FINISH_SECONDS = 2.0
MOST_TYPING = 20


class PresenceReporter:
    """Tells who is in this bridge's rooms, and who is typing there."""

    def __init__(self, rooms: Hub, asides: EphemeralPublisher) -> None:
        self._rooms = rooms
        self._asides = asides
        self._typing: defaultdict[uuid.UUID, dict[int, str]] = defaultdict(dict)
        # Hub that are still to be told of in this round, and whose turn it is now.
        self._round: list[uuid.UUID] = []

    def typing(self, room_id: uuid.UUID, user_id: int, name: str) -> None:
        users = self._typing[room_id]
        if len(users) < MOST_TYPING:
            users[user_id] = name

    async def keep_up(self) -> None:
        """Tells, about every TURN_SECONDS, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_telling_typing())
            tasks.create_task(self._keep_telling_present())

    async def finish(self) -> None:
        """Tells what is left when everybody has gone, and ``keep_up`` has ended."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._tell_present(self._changed(), pause=0.0)
        except (StoreUnavailable, TimeoutError) as error:
            logger.debug("not everybody was told who has gone: %s", error)

    async def _keep_telling_typing(self) -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS)
            try:
                await self._tell_typing()
            except StoreUnavailable as error:
                logger.debug("nothing is told of typing: %s", error)

    async def _keep_telling_present(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(TURN_SECONDS)
            before, passed = loop.time(), loop.time() - before
            due = self._due(passed)
            try:
                # First, or other bridges would take this one for dead.
                await self._tell_present(due)
                await self._tell_present(self._changed(), until=loop.time() + TURN_SECONDS)
            except StoreUnavailable as error:
                logger.debug("nothing is told of presence: %s", error)

    async def _tell_typing(self) -> None:
        typing, self._typing = self._typing, defaultdict(dict)
        if typing:
            await self._asides.publish_typing(
                (room_id, [UserRef(*user) for user in users.items()])
                for room_id, users in typing.items()
            )

    async def _tell_present(
        self, room_ids: set[uuid.UUID], until: float = math.inf, pause: float = PAUSE_SECONDS
    ) -> None:
        """What it does not come to ``until`` then, a time of the loop, counts as changed."""
        loop = asyncio.get_running_loop()
        at_once = max(ROOMS_AT_ONCE, len(self._rooms) // MOST_BATCHES)
        try:
            while room_ids and loop.time() < until:
                some = list(islice(room_ids, at_once))
                self._rooms.changed.difference_update(some)
                await self._asides.publish_presence([self._local(room_id) for room_id in some])
                room_ids.difference_update(some)
                await asyncio.sleep(pause)
        finally:
            self._rooms.changed |= room_ids

    def _changed(self) -> set[uuid.UUID]:
        changed, self._rooms.changed = self._rooms.changed, set()
        return changed

    def _due(self, passed: float) -> set[uuid.UUID]:
        """The share of all rooms that is to be refreshed when ``passed`` seconds have."""
        if not self._round:
            self._round = self._rooms.ids()
        count = math.ceil(len(self._rooms) * passed / REFRESH_SECONDS) or 1
        due = set(self._round[-count:])
        del self._round[-count:]
        return due

    def _local(self, room_id: uuid.UUID) -> LocalPresence:
        room = self._rooms.get(room_id)
        users = room.users() if room else {}
        listed = [UserRef(*user) for user in sorted(users.items())]
        return LocalPresence(room_id, listed, in_any_case=bool(room and not room.presence))
