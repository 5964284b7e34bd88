"""The rooms of this bridge's sockets: opening, joining, leaving, and catching up with the log."""

from __future__ import annotations

import asyncio
import logging
import uuid

from bridge import metrics
from bridge.feed import Feed
from bridge.room import Room, Socket
from bus.backoff import Backoff
from bus.errors import SinkUnavailable
from bus.room_log import Position, Published, RoomLogReader, keys_of

logger = logging.getLogger(__name__)

OPEN_SECONDS = 5.0
CATCH_UPS_AT_ONCE = 8
ROOMS_PER_PATROL = 100


class Rooms:
    """Every room that a socket of this bridge listens to, and no other.

    The feed brings what is published; whenever it may have missed something, the room is doubted
    and reads its log.
    """

    def __init__(self, feed: Feed, reader: RoomLogReader) -> None:
        self._feed = feed
        self._reader = reader
        self._rooms: dict[bytes, Room] = {}
        self._doubted: asyncio.Queue[Room] = asyncio.Queue()
        self._patrolled: list[Room] = []

    async def join(
        self, socket: Socket, room_id: uuid.UUID, since: Position | None, ticket_issued_at: float
    ) -> bool:
        """Lets ``socket`` in, with what it missed since ``since``; False if it is forbidden.

        Raises SinkUnavailable.
        """
        room = self._room(room_id)
        room.join(socket)
        joined = False
        try:
            await self._opened(room)
            # The channel is subscribed to and the room keeps what comes: nothing can be missed
            # between this reading and what is delivered after it.
            reading = await self._reader.read(room_id, since, socket.user_id)
            if (
                reading.began > ticket_issued_at
                and await self._reader.intact_since() > ticket_issued_at
            ):
                socket.dropped(room_id, "resync")
                return True
            if room.position and room.position.epoch != reading.position.epoch:
                self._doubt(room)
            joined = room.complete(socket, reading)
            return joined
        finally:
            if not joined:
                room.leave(socket)
            self._close_if_empty(room)

    def leave(self, socket: Socket, room_id: uuid.UUID) -> None:
        room = self._rooms.get(_channel(room_id))
        if room:
            room.leave(socket)
            self._close_if_empty(room)

    def subscribed(self, channel: bytes) -> None:
        """The channel is subscribed to, for the first time or once more: read what came before."""
        room = self._rooms.get(channel)
        if room:
            self._doubt(room)

    def published(self, channel: bytes, data: bytes) -> None:
        # Of a room that was closed a moment ago, something may still arrive.
        room = self._rooms.get(channel)
        if not room:
            return
        metrics.EVENTS.inc()
        try:
            published = Published.parse(data)
        except ValueError:
            logger.warning("room %s: what was published is no event; reading its log", room.room_id)
            self._doubt(room)
            return
        logger.debug("room %s: event at %s", room.room_id, published.position)
        if not room.publish(published):
            self._doubt(room)
        self._close_if_empty(room)

    async def keep_up(self) -> None:
        """Reads the logs of doubted rooms, several at once, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CATCH_UPS_AT_ONCE):
                tasks.create_task(self._keep_up())

    async def patrol(self, interval: float) -> None:
        """Reads some rooms' logs every ``interval`` seconds, in turn, until cancelled.

        A message that Redis lost on the way leaves no sign when it was the room's last one.
        """
        while True:
            try:
                await self._reader.intact_since()
            except SinkUnavailable as error:
                logger.debug("no patrol: %s", error)
            else:
                for room in self._next_rooms():
                    self._doubt(room)
            await asyncio.sleep(interval)

    def _room(self, room_id: uuid.UUID) -> Room:
        channel = _channel(room_id)
        room = self._rooms.get(channel)
        if not room:
            room = self._rooms[channel] = Room(room_id)
            metrics.ROOMS.inc()
            self._feed.subscribe(channel)
        return room

    async def _opened(self, room: Room) -> None:
        if not self._feed.connected.is_set():
            raise SinkUnavailable("Redis is away")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await room.opened.wait()
        except TimeoutError as error:
            raise SinkUnavailable("Redis did not answer in time") from error

    def _close_if_empty(self, room: Room) -> None:
        channel = _channel(room.room_id)
        if room.is_empty and self._rooms.get(channel) is room:
            del self._rooms[channel]
            metrics.ROOMS.dec()
            self._feed.unsubscribe(channel)

    def _doubt(self, room: Room) -> None:
        room.doubted = True
        if not room.catching_up:
            room.catching_up = True
            self._doubted.put_nowait(room)

    async def _keep_up(self) -> None:
        while True:
            await self._catch_up(await self._doubted.get())

    async def _catch_up(self, room: Room) -> None:
        backoff = Backoff(longest=2.0)
        while not room.is_empty:
            room.doubted = False
            try:
                reading = await self._reader.read(room.room_id, room.position)
            except SinkUnavailable as error:
                logger.debug("room %s: %s", room.room_id, error)
                await asyncio.sleep(backoff.next())
                continue
            # A doubt that came during the reading asks for another: this one may be too old.
            if room.doubted:
                continue
            if not room.catch_up(reading):
                self._doubt(room)
            self._close_if_empty(room)
            return

    def _next_rooms(self) -> list[Room]:
        if not self._patrolled:
            self._patrolled = list(self._rooms.values())
        rooms = self._patrolled[-ROOMS_PER_PATROL:]
        del self._patrolled[-ROOMS_PER_PATROL:]
        return rooms


def _channel(room_id: uuid.UUID) -> bytes:
    return keys_of(room_id).channel.encode()
