"""The rooms of this bridge's sockets: opening, joining, leaving, delivering, and catching up."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict

from bridge import metrics
from bridge.hub.pubsub import PubSub
from bridge.hub.room import Room, Socket
from bus.errors import RetryableError, StoreUnavailable
from bus.rooms.log_reader import RoomLogReader
from bus.rooms.model import Position, Published, Reading, keys_of
from bus.rooms.presence import parse_ephemeral
from bus.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

OPEN_SECONDS = 5.0
CATCH_UPS_AT_ONCE = 64
# How long a room's last events are kept for those who come (back) after one another.
TAIL_SECONDS = 30.0
VERIFY_ROOMS = 100
VERIFY_SHARE = 6

# Bytes written to sockets for one room before it is the next room's turn, and for all of them
# before the loop sees to everything else: some milliseconds' work.
ROOM_BYTES = 4 * 1024 * 1024
TURN_BYTES = 16 * 1024 * 1024
# More than that is left to Redis, which tells by cutting the connection when it is too much.
MOST_WAITING = 500


class RoomBehind(RetryableError):
    """The room has not delivered yet what its log holds; it catches up within moments."""


class Hub:
    """Every room that a socket of this bridge listens to, and no other.

    The pubsub brings what is published; whenever it may have missed something, the room is doubted
    and reads its log.
    """

    def __init__(self, pubsub: PubSub, reader: RoomLogReader) -> None:
        self._pubsub = pubsub
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._rooms: dict[bytes, Room] = {}
        self._doubted: asyncio.Queue[Room] = asyncio.Queue()
        self._unverified: list[Room] = []
        # Hub with something to deliver, in the order of their turns.
        self._busy: OrderedDict[Room, None] = OrderedDict()
        self._turn: asyncio.Handle | None = None
        # Hub that keep a tail, and when a socket last came into each.
        self._tails: dict[Room, float] = {}
        # Where somebody has come or gone, for whoever tells of presence.
        self.changed: set[uuid.UUID] = set()

    async def join(
        self, socket: Socket, room_id: uuid.UUID, since: Position | None, ticket_issued_at: float
    ) -> bool:
        """Lets ``socket`` in, with what it missed since ``since``; False if it is forbidden.

        Raises StoreUnavailable or RoomBehind.
        """
        room = self._room(room_id)
        room.join(socket)
        self._remember(room)
        try:
            await self._opened(room)
            asked = room.position
            # Made after the room began to look out for the user's removal: none is missed.
            reading = await self._reader.read(room_id, room.wanted(since), socket.user_id)
            if reading.removed:
                return False
            is_older = await self._is_older(ticket_issued_at, reading)
            if is_older or not self._absorb(room, reading, asked):
                socket.dropped(room_id, "resync")
            else:
                room.admit(socket, since, reading)
            return True
        finally:
            room.give_up(socket)
            self._close_if_empty(room)

    def __len__(self) -> int:
        return len(self._rooms)

    def get(self, room_id: uuid.UUID) -> Room | None:
        return self._rooms.get(_channel(room_id))

    def ids(self) -> list[uuid.UUID]:
        return [room.room_id for room in self._rooms.values()]

    def leave(self, socket: Socket, room_id: uuid.UUID) -> None:
        room = self._rooms.get(_channel(room_id))
        if room:
            room.leave(socket)
            self._close_if_empty(room)

    def subscribed(self, channel: bytes) -> None:
        """The channel is subscribed to, for the first time or once more: read what came before."""
        room = self._rooms.get(channel)
        if room:
            self._mark_stale(room)

    def published(self, channel: bytes, data: bytes) -> None:
        # Of a room that was closed a moment ago, something may still arrive.
        room = self._rooms.get(channel)
        if not room:
            return
        try:
            published = parse_ephemeral(data) or Published.parse(data)
        except ValueError:
            logger.warning("room %s: what was published is no event; reading its log", room.room_id)
            self._mark_stale(room)
            return
        if isinstance(published, Published):
            metrics.EVENTS.inc()
            logger.debug("room %s: event at %s", room.room_id, published.position)
        room.publish(published)
        self._schedule(room)

    async def keep_up(self) -> None:
        """Reads the logs of doubted rooms, several at once, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CATCH_UPS_AT_ONCE):
                tasks.create_task(self._keep_up())

    async def verify_periodically(self, interval: float) -> None:
        """Reads some rooms' logs every ``interval`` seconds, in turn, until cancelled.

        A message that Redis lost on the way leaves no sign when it was the room's last one.
        """
        while True:
            try:
                await self._reader.intact_since()
            except StoreUnavailable as error:
                logger.debug("rooms not verified: %s", error)
            else:
                for room in self._next_rooms():
                    self._mark_stale(room)
            await asyncio.sleep(interval)

    def _room(self, room_id: uuid.UUID) -> Room:
        channel = _channel(room_id)
        room = self._rooms.get(channel)
        if not room:
            room = self._rooms[channel] = Room(room_id, self._note_change)
            metrics.ROOMS.inc()
            self._pubsub.subscribe(channel, self)
        return room

    def _note_change(self, room_id: uuid.UUID) -> None:
        self.changed.add(room_id)

    async def _opened(self, room: Room) -> None:
        if not self._pubsub.connected.is_set():
            raise StoreUnavailable("Redis is away")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await room.opened.wait()
        except TimeoutError as error:
            raise StoreUnavailable("Redis did not answer in time") from error

    async def _is_older(self, ticket_issued_at: float, reading: Reading) -> bool:
        """Whether Redis may have forgotten a removal that came after the ticket."""
        return (
            reading.began > ticket_issued_at
            and await self._reader.intact_since() > ticket_issued_at
        )

    def _absorb(self, room: Room, reading: Reading, asked: Position | None) -> bool:
        """Brings the room as far as ``reading``; False if that is of another life of the log."""
        if room.absorb(reading, asked):
            return True
        self._mark_stale(room)
        if room.position and room.position.epoch == reading.position.epoch:
            raise RoomBehind("the room is behind its log")
        return False

    def _close_if_empty(self, room: Room) -> None:
        channel = _channel(room.room_id)
        if room.is_empty and self._rooms.get(channel) is room:
            del self._rooms[channel]
            room.forget()
            metrics.ROOMS.dec()
            self._pubsub.unsubscribe(channel)

    # Delivering

    def _schedule(self, room: Room) -> None:
        """Has ``room`` deliver what waits, after what else has arrived in this turn of the loop."""
        if not room.waiting:
            return
        if room.waiting > MOST_WAITING:
            self._pubsub.may_read.clear()
        self._busy[room] = None
        if not self._turn:
            self._turn = self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """The busy rooms in turn, until TURN_BYTES are written; then the loop sees to the rest."""
        self._turn = None
        written = 0
        while self._busy and written < TURN_BYTES:
            room, _ = self._busy.popitem(last=False)
            count, in_step = room.advance(ROOM_BYTES)
            written += count
            if not in_step:
                self._mark_stale(room)
            elif room.waiting:
                self._busy[room] = None
            self._close_if_empty(room)
        if self._busy:
            self._turn = self._loop.call_soon(self._deliver)
        else:
            self._pubsub.may_read.set()

    # Catching up

    def _mark_stale(self, room: Room) -> None:
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
            asked = room.position
            try:
                reading = await self._reader.read(room.room_id, asked)
            except StoreUnavailable as error:
                logger.debug("room %s: %s", room.room_id, error)
                await asyncio.sleep(backoff.next())
                continue
            # A doubt that came during the reading asks for another: this one may be too old.
            if room.doubted:
                continue
            room.catch_up(reading, asked)
            self._schedule(room)
            self._close_if_empty(room)
            return

    def _next_rooms(self) -> list[Room]:
        """A share of all rooms, another one each time."""
        if not self._unverified:
            self._unverified = list(self._rooms.values())
        count = max(VERIFY_ROOMS, len(self._rooms) // VERIFY_SHARE)
        rooms = self._unverified[-count:]
        del self._unverified[-count:]
        return rooms

    # Tails

    def _remember(self, room: Room) -> None:
        if room not in self._tails:
            self._loop.call_later(TAIL_SECONDS, self._forget, room)
        self._tails[room] = self._loop.time()

    def _forget(self, room: Room) -> None:
        left = self._tails[room] + TAIL_SECONDS - self._loop.time()
        if left > 0:
            self._loop.call_later(left, self._forget, room)
        else:
            del self._tails[room]
            room.forget()


def _channel(room_id: uuid.UUID) -> bytes:
    return keys_of(room_id).channel.encode()
