"""The rooms of this bridge's sockets: joining, leaving, delivering, and catching up."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict

from bridge import metrics
from bridge.hub.fanout import Socket
from bridge.hub.pubsub import PubSub
from bridge.hub.room import Room
from bus.errors import StoreUnavailable
from bus.events import is_own_channel
from bus.rooms.log_reader import RoomLogReader
from bus.rooms.model import Position, Published, Reading, keys_of
from bus.rooms.presence import parse_ephemeral
from bus.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

OPEN_SECONDS = 5.0
CATCH_UPS_AT_ONCE = 64
# How long a room keeps its recent events after a socket joined.
RECENT_SECONDS = 30.0
VERIFY_ROOMS = 100
VERIFY_SHARE = 6

# Bytes written to sockets for one room before it is the next room's turn, and for all rooms before
# the event loop runs everything else: some milliseconds' work.
ROOM_BYTES = 4 * 1024 * 1024
TURN_BYTES = 16 * 1024 * 1024
# Events that may wait in a room. Beyond that nothing is read from Redis, which disconnects the
# bridge when its own buffer is full.
MOST_WAITING = 500


class Hub:
    """The rooms that a socket of this bridge has joined or is joining.

    ``pubsub`` brings what is published. Whenever it may have missed something, the room is stale
    and the hub reads its log.
    """

    def __init__(self, pubsub: PubSub, reader: RoomLogReader) -> None:
        self._pubsub = pubsub
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._rooms: dict[bytes, Room] = {}
        self._stale: asyncio.Queue[Room] = asyncio.Queue()
        self._unverified: list[Room] = []
        # Rooms with something to deliver, in the order of their turns.
        self._busy: OrderedDict[Room, None] = OrderedDict()
        self._turn: asyncio.Handle | None = None
        # Rooms that keep their recent events, and when a socket last joined each.
        self._joined_at: dict[Room, float] = {}
        # Rooms that a user has joined or left, for the PresenceReporter.
        self.changed: set[uuid.UUID] = set()

    async def join(
        self, socket: Socket, room_id: uuid.UUID, since: Position | None, ticket_issued_at: float
    ) -> bool:
        """Lets ``socket`` in, with what it missed since ``since``; False if it is forbidden.

        Raises StoreUnavailable or RoomBehind when a later attempt may succeed.
        """
        room = self._room(room_id)
        room.join(socket, since)
        self._keep_recent(room)
        try:
            await self._opened(room)
            start = room.begin_join(socket)
            reading = await self._reader.read(room_id, start, socket.user_id)
            if reading.removed:
                return False
            if await self._is_older(ticket_issued_at, reading):
                socket.dropped(room_id, "resync")
            else:
                room.admit(socket, reading)
            return True
        finally:
            room.give_up(socket)
            self._close_if_empty(room)

    def __len__(self) -> int:
        return len(self._rooms)

    def get(self, room_id: uuid.UUID) -> Room | None:
        return self._rooms.get(_channel(room_id))

    def ids(self) -> list[uuid.UUID]:
        """The rooms that have presence: not users' own channels."""
        rooms = self._rooms.values()
        return [room.room_id for room in rooms if not is_own_channel(room.room_id)]

    def leave(self, socket: Socket, room_id: uuid.UUID) -> None:
        room = self._rooms.get(_channel(room_id))
        if room:
            room.leave(socket)
            self._close_if_empty(room)

    def subscribed(self, channel: bytes) -> None:
        """The channel is subscribed to, for the first time or again: earlier messages may have
        been missed."""
        room = self._rooms.get(channel)
        if room:
            room.mark_stale()

    def published(self, channel: bytes, data: bytes) -> None:
        # Messages of a room that has just been closed may still arrive.
        room = self._rooms.get(channel)
        if not room:
            return
        try:
            published = parse_ephemeral(data) or Published.parse(data)
        except ValueError:
            logger.warning("room %s: received no valid event; reading its log", room.room_id)
            room.mark_stale()
            return
        if isinstance(published, Published):
            metrics.EVENTS.inc()
            logger.debug("room %s: event at %s", room.room_id, published.position)
        room.publish(published)
        self._schedule(room)

    async def run_catch_ups(self) -> None:
        """Reads the logs of stale rooms, several at once, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CATCH_UPS_AT_ONCE):
                tasks.create_task(self._run_catch_ups())

    async def verify_periodically(self, interval: float) -> None:
        """Marks a share of the rooms stale every ``interval`` seconds, in turn, until cancelled.

        A lost message leaves no sign when it was the room's last one.
        """
        while True:
            try:
                await self._reader.intact_since()
            except StoreUnavailable as error:
                logger.debug("rooms not verified: %s", error)
            else:
                for room in self._next_rooms():
                    room.mark_stale()
            await asyncio.sleep(interval)

    def _room(self, room_id: uuid.UUID) -> Room:
        channel = _channel(room_id)
        room = self._rooms.get(channel)
        if not room:
            room = self._rooms[channel] = Room(room_id, self._stale.put_nowait, self._note_change)
            metrics.ROOMS.inc()
            self._pubsub.subscribe(channel, self)
        return room

    def _note_change(self, room_id: uuid.UUID) -> None:
        if not is_own_channel(room_id):
            self.changed.add(room_id)

    async def _opened(self, room: Room) -> None:
        if not self._pubsub.connected.is_set():
            raise StoreUnavailable("not connected to Redis")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await room.opened.wait()
        except TimeoutError as error:
            raise StoreUnavailable("Redis did not answer in time") from error

    async def _is_older(self, ticket_issued_at: float, reading: Reading) -> bool:
        """Whether Redis may have lost a removal that came after the ticket was issued."""
        return (
            reading.began > ticket_issued_at
            and await self._reader.intact_since() > ticket_issued_at
        )

    def _close_if_empty(self, room: Room) -> None:
        channel = _channel(room.room_id)
        if room.is_empty and self._rooms.get(channel) is room:
            del self._rooms[channel]
            room.forget()
            metrics.ROOMS.dec()
            self._pubsub.unsubscribe(channel)

    # Delivering

    def _schedule(self, room: Room) -> None:
        """Lets ``room`` deliver what waits, after what else arrives in this turn of the loop."""
        if not room.waiting:
            return
        if room.waiting > MOST_WAITING:
            self._pubsub.may_read.clear()
        self._busy[room] = None
        if not self._turn:
            self._turn = self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Serves the busy rooms in turn until TURN_BYTES are written, then yields to the loop."""
        self._turn = None
        written = 0
        while self._busy and written < TURN_BYTES:
            room, _ = self._busy.popitem(last=False)
            written += room.advance(ROOM_BYTES)
            if room.waiting:
                self._busy[room] = None
            self._close_if_empty(room)
        if self._busy:
            self._turn = self._loop.call_soon(self._deliver)
        else:
            self._pubsub.may_read.set()

    # Catching up

    async def _run_catch_ups(self) -> None:
        while True:
            await self._catch_up(await self._stale.get())

    async def _catch_up(self, room: Room) -> None:
        backoff = Backoff(longest=2.0)
        while room.needs_reading:
            start = room.begin_reading()
            try:
                reading = await self._reader.read(room.room_id, start)
            except StoreUnavailable as error:
                logger.debug("room %s: %s", room.room_id, error)
                await asyncio.sleep(backoff.next())
            else:
                room.finish_reading(reading)
        self._schedule(room)
        self._close_if_empty(room)

    def _next_rooms(self) -> list[Room]:
        """A share of all rooms, the next one each time."""
        if not self._unverified:
            self._unverified = list(self._rooms.values())
        count = max(VERIFY_ROOMS, len(self._rooms) // VERIFY_SHARE)
        rooms = self._unverified[-count:]
        del self._unverified[-count:]
        return rooms

    # Recent events

    def _keep_recent(self, room: Room) -> None:
        if room not in self._joined_at:
            self._loop.call_later(RECENT_SECONDS, self._forget, room)
        self._joined_at[room] = self._loop.time()

    def _forget(self, room: Room) -> None:
        left = self._joined_at[room] + RECENT_SECONDS - self._loop.time()
        if left > 0:
            self._loop.call_later(left, self._forget, room)
        else:
            del self._joined_at[room]
            room.forget()


def _channel(room_id: uuid.UUID) -> bytes:
    return keys_of(room_id).channel.encode()
