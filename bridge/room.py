"""One room on one bridge: who listens, how far the room is, what goes to whom. No I/O.

The room moves through its log one offset at a time. Whatever arrives out of step makes it ask for
a catch-up; until that is applied, what arrives waits. So every socket gets every event once, in
order, or is told that it cannot be so.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from bridge import metrics
from bridge.protocol import Encoded, Reason, encode_event, encode_subscribed, removed_user
from bus.room_log import LOG_LENGTH, Position, Published, Reading


class Socket(Protocol):
    """A browser's socket as a room sees it. Neither method waits or raises."""

    @property
    def user_id(self) -> int: ...

    def send(self, frame: Encoded) -> None: ...

    def dropped(self, room_id: uuid.UUID, reason: Reason) -> None:
        """The room took the socket out, for ``reason``."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to the sockets; ``removes`` is the user whom it removes."""

    offset: int
    frame: Encoded
    removes: int | None


class Room:
    """A room with at least one local socket.

    ``position`` is None until the first catch-up, which sets ``opened``. While ``catching_up``,
    nothing is delivered; ``doubted`` asks for one (more) reading of the log.
    """

    def __init__(self, room_id: uuid.UUID) -> None:
        self.room_id = room_id
        self.position: Position | None = None
        self.opened = asyncio.Event()
        self.doubted = False
        self.catching_up = False
        # The oldest fall out when it is full: then there is a gap, and one more catch-up.
        self._waiting: deque[Published] = deque(maxlen=LOG_LENGTH)
        self._sockets: set[Socket] = set()
        # Sockets whose own reading is on its way, with what was delivered meanwhile.
        self._joining: dict[Socket, list[Delivery]] = {}
        # Sockets whose own reading was ahead of the room, with the offset they have.
        self._ahead: dict[Socket, int] = {}

    @property
    def is_empty(self) -> bool:
        return not (self._sockets or self._joining or self._ahead)

    def publish(self, published: Published) -> bool:
        """Takes what came on the room's channel; False if the room needs a catch-up for it."""
        if self.position is None or self.catching_up:
            self._waiting.append(published)
            return True
        return self._advance(self.position, published)

    def catch_up(self, reading: Reading) -> bool:
        """Applies the log after ``position``, then what waited; False if it needs another."""
        if self.position is None or reading.recovered:
            for entry in reading.entries if self.position else ():
                self._deliver(Position(reading.position.epoch, entry.offset), entry.event)
        else:
            self._resync()
        self.position = reading.position
        self.catching_up = False
        self.opened.set()
        while self._waiting:
            if not self._advance(self.position, self._waiting.popleft()):
                return False
        return True

    def join(self, socket: Socket) -> None:
        """From now on keeps for ``socket`` what is delivered, until ``complete``."""
        self.leave(socket)
        self._joining[socket] = []

    def complete(self, socket: Socket, reading: Reading) -> bool:
        """Ends the joining: sends ``reading``, made after ``join``, and all that followed it.

        False if the user may not come in.
        """
        held = self._joining.pop(socket, None)
        if reading.removed:
            return False
        if held is None or not self.position or self.position.epoch != reading.position.epoch:
            socket.dropped(self.room_id, "resync")
            return True
        socket.send(encode_subscribed(self.room_id, reading))
        for delivery in held:
            if delivery.offset > reading.position.offset:
                if delivery.removes == socket.user_id:
                    socket.dropped(self.room_id, "removed")
                    return True
                socket.send(delivery.frame)
        if self.position.offset < reading.position.offset:
            self._ahead[socket] = reading.position.offset
        else:
            self._sockets.add(socket)
        return True

    def leave(self, socket: Socket) -> None:
        self._sockets.discard(socket)
        self._joining.pop(socket, None)
        self._ahead.pop(socket, None)

    def _advance(self, now: Position, published: Published) -> bool:
        position = published.position
        if position.epoch != now.epoch or position.offset > now.offset + 1:
            return False
        if position.offset == now.offset + 1:
            self._deliver(position, published.event)
        return True

    def _deliver(self, position: Position, event: bytes) -> None:
        frame = encode_event(self.room_id, position, event)
        delivery = Delivery(position.offset, frame, removed_user(event))
        self.position = position
        for held in self._joining.values():
            held.append(delivery)
        if self._ahead:
            self._fall_in(position.offset)
        if delivery.removes is not None:
            self._remove(delivery.removes)
        for socket in self._sockets:
            socket.send(frame)
        metrics.FRAMES.inc(len(self._sockets))

    def _fall_in(self, offset: int) -> None:
        """Sockets that were ahead join the others as soon as they lack ``offset`` too."""
        for socket in [socket for socket, has in self._ahead.items() if has < offset]:
            del self._ahead[socket]
            self._sockets.add(socket)

    def _remove(self, user_id: int) -> None:
        """Takes the user's sockets out before anything later is sent."""
        for socket in [socket for socket in self._sockets if socket.user_id == user_id]:
            self._sockets.discard(socket)
            socket.dropped(self.room_id, "removed")

    def _resync(self) -> None:
        """A part of the log is lost to this room, and a removal may be in it: all must go.

        Joining sockets find out in ``complete``.
        """
        gone = [*self._sockets, *self._ahead]
        self._sockets.clear()
        self._ahead.clear()
        self._joining.clear()
        for socket in gone:
            socket.dropped(self.room_id, "resync")
