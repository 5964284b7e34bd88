"""Presence and typing: what changes is gathered, and told at most once a second for each room."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections import defaultdict

from bridge.rooms import Rooms
from bus.errors import SinkUnavailable
from bus.room_asides import REFRESH_SECONDS, LocalUsers, RoomAsides, Somebody

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0
# A thousand rooms a second: Redis, which runs a script for each, and the rooms' sockets have
# something better to do than to hear all of it at once.
ROOMS_AT_ONCE = 10
PAUSE_SECONDS = 0.01
MOST_TYPING = 20


class Asides:
    """Tells who is in this bridge's rooms, and who is typing there."""

    def __init__(self, rooms: Rooms, asides: RoomAsides) -> None:
        self._rooms = rooms
        self._asides = asides
        self._typing: defaultdict[uuid.UUID, dict[int, str]] = defaultdict(dict)
        # Rooms that are still to be told of in this round, and whose turn it is now.
        self._round: list[uuid.UUID] = []

    def typing(self, room_id: uuid.UUID, user_id: int, name: str) -> None:
        users = self._typing[room_id]
        if len(users) < MOST_TYPING:
            users[user_id] = name

    async def keep_up(self) -> None:
        """Tells what has changed, every TURN_SECONDS, until cancelled."""
        while True:
            await asyncio.sleep(TURN_SECONDS)
            try:
                await self._tell_typing()
                await self._tell_present(self._changed() | self._due())
            except SinkUnavailable as error:
                logger.debug("nothing is told of presence and typing: %s", error)

    async def _tell_typing(self) -> None:
        typing, self._typing = self._typing, defaultdict(dict)
        if typing:
            await self._asides.tell_typing(
                (room_id, [Somebody(*user) for user in users.items()])
                for room_id, users in typing.items()
            )

    async def _tell_present(self, room_ids: set[uuid.UUID]) -> None:
        try:
            while room_ids:
                some = [room_ids.pop() for _ in range(min(ROOMS_AT_ONCE, len(room_ids)))]
                await self._asides.tell_present([self._local(room_id) for room_id in some])
                await asyncio.sleep(PAUSE_SECONDS)
        except SinkUnavailable:
            self._rooms.changed |= {*some, *room_ids}
            raise

    def _changed(self) -> set[uuid.UUID]:
        changed, self._rooms.changed = self._rooms.changed, set()
        return changed

    def _due(self) -> set[uuid.UUID]:
        """The share of all rooms that is to be refreshed in this turn."""
        if not self._round:
            self._round = self._rooms.ids()
        count = math.ceil(len(self._rooms) * TURN_SECONDS / REFRESH_SECONDS) or 1
        due = set(self._round[-count:])
        del self._round[-count:]
        return due

    def _local(self, room_id: uuid.UUID) -> LocalUsers:
        room = self._rooms.get(room_id)
        users = room.users() if room else {}
        listed = [Somebody(*user) for user in sorted(users.items())]
        return LocalUsers(room_id, listed, in_any_case=bool(room and not room.presence))
