"""One browser's socket: the conversation with it, its limits, and writing without waiting."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from bridge import protocol
from bridge.protocol import Close, Encoded, Incoming, Reason, Refused
from bridge.rooms import Rooms
from bridge.tickets import TicketDesk
from bus.errors import SinkUnavailable
from bus.room_log import Position
from bus.ticket import Ticket

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds until the first ticket, until a fresh one, without any frame, and for closing;
    bytes that may wait for a reader."""

    authenticate: float = 5.0
    refresh: float = 600.0
    silence: float = 75.0
    close: float = 5.0
    unread: int = 1024 * 1024


class Connection:
    """A socket from its handshake to its end. It is a ``bridge.room.Socket``."""

    def __init__(
        self, websocket: ServerConnection, desk: TicketDesk, rooms: Rooms, limits: Limits
    ) -> None:
        self._websocket = websocket
        self._desk = desk
        self._rooms = rooms
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self._ticket: Ticket | None = None
        self._ticket_due = self._clock() + limits.authenticate
        self._allowed: set[uuid.UUID] = set()
        self._joined: set[uuid.UUID] = set()

    @property
    def user_id(self) -> int:
        return self._ticket.user_id if self._ticket else 0

    async def run(self) -> None:
        """Talks until either side ends it."""
        refused = None
        try:
            while True:
                await self._answer(await self._receive())
        except Refused as error:
            refused = error
        except ConnectionClosed as closed:
            logger.debug("user %s: %s", self.user_id, closed)
        finally:
            self._leave(self._joined)
        if refused:
            logger.debug("user %s: closed with %s", self.user_id, refused)
            await self._close(refused)

    def send(self, frame: Encoded) -> None:
        """Writes ``frame``; a reader that lets too much pile up is cut off.

        Goes past the library's own sending, which waits for slow readers, or with its broadcast
        never drops them.
        """
        transport = self._websocket.transport
        if self._websocket.state is not State.OPEN or transport.is_closing():
            return
        transport.write(frame)
        if transport.get_write_buffer_size() > self._limits.unread:
            logger.warning("user %s: reader too slow (%d)", self.user_id, Close.TOO_SLOW)
            transport.abort()

    def dropped(self, room_id: uuid.UUID, reason: Reason) -> None:
        """The room took this socket out; only a fresh ticket lets it back in."""
        self._joined.discard(room_id)
        self._allowed.discard(room_id)
        self.send(protocol.encode(protocol.Unsubscribed(room_id, reason)))

    async def _receive(self) -> Incoming:
        """The next frame. Raises Refused, or ConnectionClosed."""
        deadline = min(self._ticket_due, self._clock() + self._limits.silence)
        try:
            async with asyncio.timeout_at(deadline):
                data = await self._websocket.recv()
        except TimeoutError as error:
            if deadline < self._ticket_due:
                reason = f"no frame within {self._limits.silence:g} s"
                raise Refused(Close.SILENT, reason) from error
            raise Refused(Close.BAD_TICKET, "no ticket came in time") from error
        if self._clock() >= self._ticket_due:
            raise Refused(Close.BAD_TICKET, "no ticket came in time")
        return protocol.decode(data)

    async def _answer(self, frame: Incoming) -> None:
        match frame:
            case protocol.Authenticate():
                await self._authenticate(frame.ticket)
            case _ if not self._ticket:
                raise Refused(Close.BAD_TICKET, "the first frame must be “authenticate”")
            case protocol.Subscribe():
                await self._subscribe(self._ticket, frame)
            case protocol.Unsubscribe():
                self._leave({frame.room_id})
                self.send(protocol.encode(protocol.Unsubscribed(frame.room_id, "requested")))
            case protocol.Ping():
                self.send(protocol.encode(protocol.Pong()))
        await self._drain()

    async def _authenticate(self, token: str) -> None:
        ticket = await self._desk.take(token)
        if self._ticket and ticket.user_id != self._ticket.user_id:
            raise Refused(Close.BAD_TICKET, "the ticket is another user's")
        self._ticket = ticket
        self._ticket_due = self._clock() + self._limits.refresh
        self._allowed = set(ticket.room_ids)
        for room_id in self._leave(self._joined - self._allowed):
            self.send(protocol.encode(protocol.Unsubscribed(room_id, "removed")))
        user = protocol.User(ticket.user_id, ticket.user_name)
        self.send(protocol.encode(protocol.Ready(user, round(self._limits.refresh))))

    async def _subscribe(self, ticket: Ticket, frame: protocol.Subscribe) -> None:
        room_id = frame.room_id
        since = Position(frame.since.epoch, frame.since.offset) if frame.since else None
        if room_id not in self._allowed:
            return self._forbid(room_id)
        self._joined.add(room_id)
        try:
            allowed = await self._rooms.join(self, room_id, since, ticket.issued_at)
        except SinkUnavailable as error:
            logger.debug("user %s: room %s: %s", self.user_id, room_id, error)
            self._joined.discard(room_id)
            message = "The room cannot be read now. Try again in a few seconds."
            return self.send(protocol.encode(protocol.Error("unavailable", message, room_id)))
        if not allowed:
            self._forbid(room_id)
        return None

    def _forbid(self, room_id: uuid.UUID) -> None:
        self._joined.discard(room_id)
        self._allowed.discard(room_id)
        message = "You are not a member of this room, or your ticket is older than your membership."
        self.send(protocol.encode(protocol.Error("forbidden", message, room_id)))

    def _leave(self, room_ids: set[uuid.UUID]) -> list[uuid.UUID]:
        """Leaves those of ``room_ids`` that were joined, and returns them."""
        left = [room_id for room_id in room_ids if room_id in self._joined]
        for room_id in left:
            self._joined.discard(room_id)
            self._rooms.leave(self, room_id)
        return left

    async def _drain(self) -> None:
        """Takes no further frame before the reader has taken the answer to the last one."""
        try:
            async with asyncio.timeout(self._limits.silence):
                await self._websocket.drain()
        except TimeoutError as error:
            raise Refused(Close.TOO_SLOW, "what was sent was not read") from error

    async def _close(self, refused: Refused) -> None:
        """Closes, by force when the browser does not take part in it."""
        try:
            async with asyncio.timeout(self._limits.close):
                await self._websocket.close(refused.code, refused.reason)
        except TimeoutError:
            self._websocket.transport.abort()
