"""One room on one bridge: who listens, how far the room is, what goes to whom. No I/O.

The room moves through its log one offset at a time. Whatever arrives out of step makes it ask for
a catch-up; until that is applied, what arrives waits. So every socket gets every event once, in
order, or is told that it cannot be so.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Protocol

from bridge import metrics
from bridge.hub.recent_events import RecentEvents
from bridge.protocol import (
    Encoded,
    Reason,
    encode_ephemeral,
    encode_event,
    encode_subscribed,
    removed_user,
)
from bus.rooms.model import LOG_LENGTH, Entry, Position, Published, Reading
from bus.rooms.presence import Ephemeral, PresentUsers


class Socket(Protocol):
    """A browser's socket as a room sees it. No method waits or raises."""

    @property
    def user_id(self) -> int: ...

    @property
    def user_name(self) -> str: ...

    @property
    def push(self) -> Callable[[Encoded], object]:
        """Writes one frame or several. The room keeps it: looking it up for every socket and
        event would cost as much as it does."""
        ...

    def dropped(self, room_id: uuid.UUID, reason: Reason) -> None:
        """The room took the socket out, for ``reason``."""
        ...


class Room:
    """A room with at least one local socket.

    ``position`` is None until the first catch-up, which sets ``opened``. While ``catching_up``,
    nothing that is published is delivered; ``doubted`` asks for one (more) reading of the log.
    ``presence`` is what was told last of who is there. ``on_change`` is called when somebody has
    come or gone.
    """

    def __init__(
        self, room_id: uuid.UUID, on_change: Callable[[uuid.UUID], object] = lambda _: None
    ) -> None:
        self.room_id = room_id
        self.presence: Encoded | None = None
        self._on_change = on_change
        self.position: Position | None = None
        self.opened = asyncio.Event()
        self.doubted = False
        self.catching_up = False
        # The oldest fall out when it is full: then there is a gap, and one more catch-up.
        self._waiting: deque[Published | Ephemeral] = deque(maxlen=LOG_LENGTH)
        self._tail = RecentEvents()
        self._sockets: dict[Socket, Callable[[Encoded], object]] = {}
        # Sockets that are about to come in, with the offset of their user's last removal.
        self._joining: dict[Socket, int] = {}
        # Delivered, but not yet written; empty between the calls of this class.
        self._frames: list[Encoded] = []
        self._events = 0
        self._oldest: float | None = None
        self._written = 0
        # The last answer to a joining, for others who come from the same position.
        self._answer: tuple[int | None, Encoded] | None = None

    @property
    def is_empty(self) -> bool:
        return not (self._sockets or self._joining)

    @property
    def waiting(self) -> int:
        """How many events ``advance`` could deliver now."""
        return 0 if self.catching_up or not self.position else len(self._waiting)

    def users(self) -> dict[int, str]:
        """Who is there, by id, and their names."""
        return {socket.user_id: socket.user_name for socket in self._sockets}

    def publish(self, published: Published | Ephemeral) -> None:
        """Takes what came on the room's channel; ``advance`` delivers it."""
        self._waiting.append(published)

    def advance(self, most: int) -> tuple[int, bool]:
        """Delivers what waits, until about ``most`` bytes have been written to all sockets.

        Returns how many were, and False if the room needs a catch-up before it can go on.
        """
        self._written = 0
        in_step = True
        while self.waiting and in_step and self._written < most:
            in_step = self._take(self._waiting.popleft())
        self._write()
        return self._written, in_step

    def catch_up(self, reading: Reading, asked: Position | None) -> None:
        """Applies a reading of the log after ``asked``, the position when it was asked for."""
        now = self.position
        if not now or not asked or _went_back(reading.position, asked):
            self._start_anew(reading)
        elif reading.recovered:
            # To be delivered by turns like all others: there may be hundreds.
            epoch = reading.position.epoch
            newer = [Published(Position(epoch, e.offset), e.event) for e in reading.entries]
            self._waiting.extendleft(reversed(newer))
        elif not _is_older(reading.position, now):
            self._start_anew(reading)
        self.catching_up = False
        self.opened.set()

    def join(self, socket: Socket) -> None:
        """``socket`` is about to come in, by a reading that is made after this call."""
        self.leave(socket)
        self._joining[socket] = 0
        self._tail.keep()

    def wanted(self, since: Position | None) -> Position | None:
        """From where to read for a joiner at ``since``: what the room has need not be read."""
        if self._can_resume(since):
            return self.position
        now = self.position
        if since and now and since.epoch == now.epoch:
            return since if since.offset < now.offset else now
        return now if self._tail.has_latest else None

    def absorb(self, reading: Reading, asked: Position | None) -> bool:
        """Takes in a joiner's reading, so that the room is as far as it; False if it cannot.

        ``asked`` is how far the room was when it was asked for.
        """
        now = self.position
        if not now or reading.position.epoch != now.epoch:
            return False
        if asked and _went_back(reading.position, asked):
            return False
        self._tail.prepend(reading, now)
        return self._deliver_newer(reading)

    def admit(self, socket: Socket, since: Position | None, reading: Reading) -> None:
        """Lets ``socket`` in, after ``absorb`` of ``reading``, and sends it what it lacks."""
        removal = self._joining.pop(socket, None)
        if removal is None or not self.position:
            socket.dropped(self.room_id, "resync")
        elif removal > reading.position.offset:
            socket.dropped(self.room_id, "removed")
        else:
            if since:
                outcome = "whole" if self._can_resume(since) else "reset"
                metrics.RECOVERIES.labels(outcome).inc()
            socket.push(self._subscribed(self.position, since))
            self._sockets[socket] = socket.push
            if self.presence:
                socket.push(self.presence)
            self._on_change(self.room_id)

    def give_up(self, socket: Socket) -> None:
        """Ends a joining that ``admit`` did not end."""
        self._joining.pop(socket, None)

    def leave(self, socket: Socket) -> None:
        self._joining.pop(socket, None)
        if self._sockets.pop(socket, None):
            self._on_change(self.room_id)

    def forget(self) -> None:
        """Frees what is only of use to several who come together."""
        self._tail.drop()
        self._answer = None

    def _take(self, published: Published | Ephemeral) -> bool:
        """Delivers ``published``; False if something before it is missing."""
        if not isinstance(published, Published):
            self._deliver_ephemeral(published)
            return True
        now, position = self.position, published.position
        if not now or position.epoch != now.epoch or position.offset > now.offset + 1:
            return False
        if position.offset == now.offset + 1:
            self._deliver(Entry(position.offset, published.event), published.logged_at)
        return True

    def _deliver_newer(self, reading: Reading) -> bool:
        """Delivers what the room lacks of ``reading``; False if something before it is missing."""
        for entry in reading.entries:
            if self.position and entry.offset == self.position.offset + 1:
                self._deliver(entry)
        self._write()
        return self.position is not None and self.position.offset >= reading.position.offset

    def _deliver(self, entry: Entry, logged_at: float | None = None) -> None:
        assert self.position
        self.position = Position(self.position.epoch, entry.offset)
        self._tail.append(entry)
        self._answer = None
        removed = removed_user(entry.event)
        if removed is not None:
            self._remove(removed, entry.offset)
        frame = encode_event(self.room_id, self.position, entry.event)
        self._oldest = self._oldest or logged_at
        self._frames.append(frame)
        self._events += 1
        self._written += len(frame) * len(self._sockets)

    def _deliver_ephemeral(self, ephemeral: Ephemeral) -> None:
        frame = encode_ephemeral(self.room_id, ephemeral)
        if isinstance(ephemeral, PresentUsers):
            self.presence = frame
        self._frames.append(frame)
        self._written += len(frame) * len(self._sockets)

    def _write(self) -> None:
        if not self._frames:
            return
        frames = Encoded(b"".join(self._frames))
        metrics.FRAMES.inc(self._events * len(self._sockets))
        self._events = 0
        if self._oldest:
            metrics.LAG_SECONDS.observe(max(0.0, time.time() - self._oldest))
        self._frames.clear()
        self._oldest = None
        for push in self._sockets.values():
            push(frames)

    def _remove(self, user_id: int, offset: int) -> None:
        """Takes the user's sockets out before anything later is sent."""
        self._write()
        for socket in [socket for socket in self._sockets if socket.user_id == user_id]:
            del self._sockets[socket]
            socket.dropped(self.room_id, "removed")
            self._on_change(self.room_id)
        for socket in self._joining:
            if socket.user_id == user_id:
                self._joining[socket] = offset

    def _start_anew(self, reading: Reading) -> None:
        """Begins at ``reading``. What lies between is lost to this room, and a removal may be in
        it: all must go. Joining sockets find out in ``admit``."""
        if self.position:
            gone = list(self._sockets)
            self._sockets.clear()
            self._joining.clear()
            for socket in gone:
                socket.dropped(self.room_id, "resync")
            self._on_change(self.room_id)
        self.position = reading.position
        self._answer = None
        self._tail.start(reading)

    def _can_resume(self, since: Position | None) -> bool:
        now = self.position
        if not since or not now or since.epoch != now.epoch:
            return False
        return self._tail.has_after(since.offset, now)

    def _subscribed(self, now: Position, since: Position | None) -> Encoded:
        """The answer to a joiner who has everything up to ``since``."""
        start = since.offset if since and self._can_resume(since) else None
        if not self._answer or self._answer[0] != start:
            entries = self._tail.latest() if start is None else self._tail.after(start)
            frame = encode_subscribed(self.room_id, now, entries, recovered=start is not None)
            self._answer = start, frame
        return self._answer[1]


def _went_back(position: Position, asked: Position) -> bool:
    """Whether a log has lost its end: a failover took it back. What follows has offsets that were
    used before."""
    return position.epoch == asked.epoch and position.offset < asked.offset


def _is_older(position: Position, than: Position) -> bool:
    return position.epoch == than.epoch and position.offset <= than.offset
