"""The conversation with one browser: its ticket, its rooms, and its frames in order."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from typing import assert_never

from bridge import metrics, protocol
from bridge.client.tickets import LOGGED_OUT, UNCHECKED, TicketVerifier
from bridge.client.transport import SocketTransport
from bridge.hub.hub import Hub
from bridge.hub.presence import PresenceReporter
from bridge.hub.registry import ConnectionRegistry
from bridge.hub.room import RoomBehind
from bridge.limits import Limits
from bridge.protocol import Close, ErrorCode, FromBrowser, Reason, SocketRefused
from bus.errors import StoreUnavailable
from bus.rooms.model import Position
from bus.rooms.presence import UserRef
from bus.rooms.redis_client import ANSWER_SECONDS
from bus.ticket import Ticket

logger = logging.getLogger(__name__)

# For the check of a ticket: longer than the timeout of Redis.
CHECKING_SECONDS = 2 * ANSWER_SECONDS
# Frames that may wait for the answer to an earlier one before reading pauses.
MOST_WAITING = 16

NO_MEMBER = "You are not a member of this room, or your ticket is older than your membership."
NOT_SUBSCRIBED = "You have not subscribed to this room."
NO_TICKET = SocketRefused(Close.BAD_TICKET, "no ticket came in time")
UNAVAILABLE = "The room cannot be read now. Try again in a few seconds."


class Connection:
    """A ``TransportHandler`` for its transport, a ``bridge.hub.fanout.Socket`` for its rooms, and a
    ``bridge.hub.registry.Client`` for the registry."""

    __slots__ = (
        "_allowed",
        "_hub",
        "_joined",
        "_limits",
        "_presence",
        "_registry",
        "_task",
        "_ticket",
        "_transport",
        "_verifier",
        "_waiting",
        "push",
    )

    def __init__(
        self,
        transport: SocketTransport,
        *,
        verifier: TicketVerifier,
        hub: Hub,
        presence: PresenceReporter,
        registry: ConnectionRegistry,
        limits: Limits,
    ) -> None:
        self.push = transport.push
        self._transport = transport
        self._verifier = verifier
        self._hub = hub
        self._presence = presence
        self._registry = registry
        self._limits = limits
        self._ticket: Ticket | None = None
        self._allowed: set[uuid.UUID] = set()
        self._joined: set[uuid.UUID] = set()
        # Answers a frame that needs Redis; later frames wait for it.
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[FromBrowser] = deque()
        self._expire_in(limits.authenticate, NO_TICKET)
        metrics.SOCKETS.inc()

    def __str__(self) -> str:
        return f"user {self.user_id} at {self._transport.address}"

    @property
    def user_id(self) -> int:
        return self._ticket.user_id if self._ticket else 0

    @property
    def user_name(self) -> str:
        return self._ticket.user_name if self._ticket else ""

    def received(self, message: str) -> None:
        """Answers now, or when the frames before it are answered. Raises SocketRefused."""
        frame = protocol.decode(message)
        if self._task:
            self._waiting.append(frame)
            if len(self._waiting) == MOST_WAITING:
                self._transport.pause_reading()
        elif isinstance(frame, protocol.Authenticate | protocol.Subscribe):
            self._waiting.append(frame)
            self._task = asyncio.create_task(self._answer_waiting())
        else:
            self._answer_at_once(frame)

    def closed(self) -> None:
        if self._task:
            self._task.cancel()
        self._leave(self._joined)
        if self._ticket:
            self._registry.remove_client(self)
        metrics.SOCKETS.dec()

    def end_session(self, session: str) -> None:
        if self._ticket and self._ticket.session == session:
            self._transport.close(SocketRefused(Close.BAD_TICKET, LOGGED_OUT))

    def dropped(self, room_id: uuid.UUID, reason: Reason) -> None:
        """The room dropped this socket; it needs a fresh ticket to join again."""
        self._joined.discard(room_id)
        self._allowed.discard(room_id)
        self._transport.send(protocol.encode(protocol.Unsubscribed(room_id, reason)))

    async def _answer_waiting(self) -> None:
        try:
            while self._waiting:
                await self._answer(self._waiting.popleft())
        except SocketRefused as refused:
            self._transport.close(refused)
        except Exception:
            logger.exception("%s: cannot answer a frame", self)
            self._transport.close(SocketRefused(Close.BROKEN, "a server error"))
        self._task = None
        self._transport.resume_reading()

    async def _answer(self, frame: FromBrowser) -> None:
        match frame:
            case protocol.Authenticate():
                await self._authenticate(frame.ticket)
            case protocol.Subscribe():
                await self._subscribe(self._ticket_or_refuse(), frame)
            case _:
                self._answer_at_once(frame)

    def _answer_at_once(
        self, frame: protocol.Unsubscribe | protocol.Typing | protocol.Ping
    ) -> None:
        ticket = self._ticket_or_refuse()
        match frame:
            case protocol.Unsubscribe():
                self._leave({frame.room_id})
                self._transport.send(
                    protocol.encode(protocol.Unsubscribed(frame.room_id, "requested"))
                )
            case protocol.Typing() if frame.room_id in self._joined:
                self._presence.typing(frame.room_id, ticket.user_id, ticket.user_name)
            case protocol.Typing():
                self._refuse_room("forbidden", NOT_SUBSCRIBED, frame.room_id)
            case protocol.Ping():
                self._transport.send(PONG)
            case _:
                assert_never(frame)

    def _ticket_or_refuse(self) -> Ticket:
        if not self._ticket:
            raise SocketRefused(Close.BAD_TICKET, "the first frame must be “authenticate”")
        return self._ticket

    async def _authenticate(self, token: str) -> None:
        if not self._ticket:
            # The ticket came in time; if Redis is slow, the browser may try again.
            self._expire_in(CHECKING_SECONDS, SocketRefused(Close.TRY_LATER, UNCHECKED))
        ticket = await self._verifier.redeem(token)
        if self._ticket and ticket.user_id != self._ticket.user_id:
            raise SocketRefused(Close.BAD_TICKET, "the ticket is for another user")
        if self._registry.has_ended(ticket.session):
            raise SocketRefused(Close.BAD_TICKET, f"ticket refused: {LOGGED_OUT}")
        if not self._ticket:
            self._log_in(ticket)
        if ticket.issued_at >= self._issued_at:
            self._renew(ticket)
        user = UserRef(ticket.user_id, ticket.user_name)
        self._transport.send(protocol.encode(protocol.Ready(user, round(self._limits.refresh))))

    @property
    def _issued_at(self) -> float:
        return self._ticket.issued_at if self._ticket else 0.0

    def _renew(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._expire_in(self._limits.refresh, NO_TICKET)
        self._allowed = set(ticket.room_ids)
        for room_id in self._leave(self._joined - self._allowed):
            self._transport.send(protocol.encode(protocol.Unsubscribed(room_id, "removed")))

    def _log_in(self, ticket: Ticket) -> None:
        most = self._limits.sockets_per_user
        if len(self._registry.clients_of(ticket.user_id)) >= most:
            raise SocketRefused(Close.TOO_MANY, f"{most} sockets of this user are open")
        self._ticket = ticket
        self._registry.add_client(self)

    def _expire_in(self, seconds: float, refusal: SocketRefused) -> None:
        self._transport.expire(asyncio.get_running_loop().time() + seconds, refusal)

    async def _subscribe(self, ticket: Ticket, frame: protocol.Subscribe) -> None:
        room_id = frame.room_id
        since = Position(frame.since.epoch, frame.since.offset) if frame.since else None
        if room_id not in self._allowed:
            return self._forbid(room_id)
        self._joined.add(room_id)
        try:
            allowed = await self._hub.join(self, room_id, since, ticket.issued_at)
        except (StoreUnavailable, RoomBehind) as error:
            logger.debug("%s: room %s: %s", self, room_id, error)
            self._joined.discard(room_id)
            return self._refuse_room("unavailable", UNAVAILABLE, room_id)
        if not allowed:
            self._forbid(room_id)
        return None

    def _forbid(self, room_id: uuid.UUID) -> None:
        self._joined.discard(room_id)
        self._allowed.discard(room_id)
        self._refuse_room("forbidden", NO_MEMBER, room_id)

    def _refuse_room(self, code: ErrorCode, message: str, room_id: uuid.UUID) -> None:
        self._transport.send(protocol.encode(protocol.Error(code, message, room_id)))

    def _leave(self, room_ids: set[uuid.UUID]) -> list[uuid.UUID]:
        """Leaves those of ``room_ids`` that were joined, and returns them."""
        left = [room_id for room_id in room_ids if room_id in self._joined]
        for room_id in left:
            self._joined.discard(room_id)
            self._hub.leave(self, room_id)
        return left


PONG = protocol.encode(protocol.Pong())
