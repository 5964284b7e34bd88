"""One room on one bridge: its sockets, its position in the log, and who gets which event. No I/O.

The room moves through its log one offset at a time. When it may have missed something it is stale:
its log is read, and until that reading is applied, published events wait. So every socket gets
every event once, in order, or is dropped with "resync".
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from bridge import metrics
from bridge.hub.fanout import Fanout, Socket
from bridge.hub.recent_events import RecentEvents
from bridge.protocol import (
    Encoded,
    deletes_room,
    encode_ephemeral,
    encode_event,
    removed_user,
)
from bus.errors import RetryableError
from bus.rooms.model import LOG_LENGTH, Entry, Position, Published, Reading
from bus.rooms.presence import Ephemeral, PresentUsers


class RoomBehind(RetryableError):
    """The room has to read its log before the joiner may join; that takes moments."""


class _State(Enum):
    """How a room stands to its log.

    Any → STALE: something may be missing, for the first time when its channel is subscribed to.
    STALE → READING: a reading of the log begins. READING → CURRENT: it is applied; a reading that
    began before the room became stale (again) is not. Only CURRENT delivers what is published.
    """

    OPENING = auto()
    STALE = auto()
    READING = auto()
    CURRENT = auto()


@dataclass(slots=True)
class _Joining:
    """A socket that is about to join: what it has, the room's position when its reading began,
    and the offset of its user's last removal since."""

    since: Position | None
    asked: Position | None = None
    removed_at: int = 0


class Room:
    """A room with at least one local socket.

    ``position`` is None until the first reading is applied, which sets ``opened``. ``presence`` is
    the last presence frame. ``on_change`` is called when a user joins or leaves, ``on_stale`` when
    a reading becomes due and none is due or under way: the callee reads the log, between
    ``begin_reading`` and ``finish_reading``, until ``needs_reading`` is False.
    """

    def __init__(
        self,
        room_id: uuid.UUID,
        on_stale: Callable[[Room], object],
        on_change: Callable[[uuid.UUID], object] = lambda _: None,
    ) -> None:
        self.room_id = room_id
        self.presence: Encoded | None = None
        self._on_stale = on_stale
        self._on_change = on_change
        self.position: Position | None = None
        self.opened = asyncio.Event()
        self._state = _State.OPENING
        # The position when the reading under way began.
        self._asked: Position | None = None
        # When it is full, the oldest fall out: then the room finds a gap, and becomes stale.
        self._waiting: deque[Published | Ephemeral] = deque(maxlen=LOG_LENGTH)
        self._recent = RecentEvents()
        self._fanout = Fanout()
        self._joining: dict[Socket, _Joining] = {}

    @property
    def is_empty(self) -> bool:
        return not (self._fanout.sockets or self._joining)

    @property
    def waiting(self) -> int:
        """How many events ``advance`` could deliver now."""
        return len(self._waiting) if self._state is _State.CURRENT else 0

    def users(self) -> dict[int, str]:
        """The users present: their names by id."""
        return {socket.user_id: socket.user_name for socket in self._fanout.sockets}

    # Published events

    def publish(self, published: Published | Ephemeral) -> None:
        """Takes what came on the room's channel; ``advance`` delivers it."""
        self._waiting.append(published)

    def advance(self, most: int) -> int:
        """Delivers what waits, until about ``most`` bytes are written to all sockets together.

        Returns how many were. Becomes stale at an event before which another is missing.
        """
        fanout = self._fanout
        fanout.written = 0
        current = _State.CURRENT
        while self._state is current and self._waiting and fanout.written < most:
            if not self._take(self._waiting.popleft()):
                self.mark_stale()
        fanout.flush()
        return fanout.written

    # Catching up with the log

    def mark_stale(self) -> None:
        """Something may have been missed: only a reading that begins after this call counts."""
        is_idle = self._state in (_State.OPENING, _State.CURRENT)
        self._state = _State.STALE
        if is_idle:
            self._on_stale(self)

    @property
    def needs_reading(self) -> bool:
        """Whether a reading is due or under way. A room without sockets needs none."""
        return self._state in (_State.STALE, _State.READING) and not self.is_empty

    def begin_reading(self) -> Position | None:
        """A reading of the log begins, or begins again; returns the position to read from."""
        self._state, self._asked = _State.READING, self.position
        return self._asked

    def finish_reading(self, reading: Reading) -> None:
        """Applies ``reading``, unless the room has become stale since it began."""
        if self._state is not _State.READING:
            return
        now, asked = self.position, self._asked
        if not now or not asked or _went_back(reading.position, asked):
            self._restart(reading)
        elif reading.recovered:
            self._wait_before_others(reading)
        elif not _is_older(reading.position, now):
            self._restart(reading)
        self._state = _State.CURRENT
        self.opened.set()

    def _wait_before_others(self, reading: Reading) -> None:
        """Puts what was missed before what waits: it is delivered in turns like everything else,
        since there may be hundreds."""
        epoch = reading.position.epoch
        missed = [Published(Position(epoch, e.offset), e.event) for e in reading.entries]
        # A full queue would lose its newest events, and nothing would show that they are missing.
        while self._waiting and len(self._waiting) + len(missed) > LOG_LENGTH:
            self._waiting.popleft()
        self._waiting.extendleft(reversed(missed))

    # Sockets

    def join(self, socket: Socket, since: Position | None) -> None:
        """``socket``, which has everything up to ``since``, is about to join: ``begin_join``, then
        ``admit`` or ``give_up``."""
        self.leave(socket)
        self._joining[socket] = _Joining(since)
        self._recent.start_buffering()

    def begin_join(self, socket: Socket) -> Position | None:
        """The joiner's reading begins; returns the position to read from. The room watches for
        the user's removal from ``join`` on, so that none is missed."""
        joining = self._joining.get(socket)
        if not joining:
            return self.position
        joining.asked = self.position
        return self._recent.wanted(joining.since, self.position)

    def admit(self, socket: Socket, reading: Reading) -> None:
        """Lets ``socket`` in by its ``reading`` and sends it what it lacks, or drops it.

        Raises RoomBehind when the room has to catch up first.
        """
        joining = self._joining.get(socket)
        is_whole = joining is not None and self._absorb(reading, joining.asked)
        self._joining.pop(socket, None)
        if not joining or not is_whole or not self.position:
            socket.dropped(self.room_id, "resync")
        elif joining.removed_at > reading.position.offset:
            socket.dropped(self.room_id, "removed")
        else:
            self._let_in(socket, joining.since, self.position)

    def give_up(self, socket: Socket) -> None:
        """Ends a joining that ``admit`` did not end."""
        self._joining.pop(socket, None)

    def leave(self, socket: Socket) -> None:
        self._joining.pop(socket, None)
        if self._fanout.sockets.pop(socket, None):
            self._on_change(self.room_id)

    def forget(self) -> None:
        """Frees what only serves sockets that join together."""
        self._recent.stop_buffering()

    def _absorb(self, reading: Reading, asked: Position | None) -> bool:
        """Brings the room up to a joiner's reading, which began when the room was at ``asked``.

        Returns False if the reading is of another epoch. Raises RoomBehind if a gap lies between.
        """
        now = self.position
        if now and reading.position.epoch == now.epoch:
            if not (asked and _went_back(reading.position, asked)):
                self._recent.prepend(reading, now)
                if self._deliver_newer(reading):
                    return True
            self.mark_stale()
            raise RoomBehind("the room is behind its log")
        self.mark_stale()
        return False

    def _let_in(self, socket: Socket, since: Position | None, now: Position) -> None:
        if since:
            outcome = "whole" if self._recent.can_resume(since, now) else "reset"
            metrics.RECOVERIES.labels(outcome).inc()
        socket.push(self._recent.subscribed(self.room_id, now, since))
        self._fanout.sockets[socket] = socket.push
        if self.presence:
            socket.push(self.presence)
        self._on_change(self.room_id)

    # Delivering

    def _take(self, published: Published | Ephemeral) -> bool:
        """Delivers ``published``; False if an event before it is missing."""
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
        """Delivers what the room lacks of ``reading``; False if an event before it is missing."""
        for entry in reading.entries:
            if self.position and entry.offset == self.position.offset + 1:
                self._deliver(entry)
        self._fanout.flush()
        return self.position is not None and self.position.offset >= reading.position.offset

    def _deliver(self, entry: Entry, logged_at: float | None = None) -> None:
        assert self.position
        self.position = Position(self.position.epoch, entry.offset)
        self._recent.append(entry)
        removed = removed_user(entry.event)
        if removed is not None:
            self._remove(lambda socket: socket.user_id == removed, entry.offset)
        self._fanout.add_event(encode_event(self.room_id, self.position, entry.event), logged_at)
        if deletes_room(entry.event):
            self._remove(lambda _: True, entry.offset)

    def _deliver_ephemeral(self, ephemeral: Ephemeral) -> None:
        frame = encode_ephemeral(self.room_id, ephemeral)
        if isinstance(ephemeral, PresentUsers):
            self.presence = frame
        self._fanout.add(frame)

    def _remove(self, concerns: Callable[[Socket], bool], offset: int) -> None:
        """Drops the sockets that ``concerns`` before anything later is sent."""
        self._fanout.flush()
        for socket in [socket for socket in self._fanout.sockets if concerns(socket)]:
            del self._fanout.sockets[socket]
            socket.dropped(self.room_id, "removed")
            self._on_change(self.room_id)
        for socket, joining in self._joining.items():
            if concerns(socket):
                joining.removed_at = offset

    def _restart(self, reading: Reading) -> None:
        """Starts at ``reading``. The room cannot account for the events before it, and a removal
        may be among them, so it drops all sockets; joining ones are dropped in ``admit``."""
        if self.position:
            dropped = list(self._fanout.sockets)
            self._fanout.sockets.clear()
            self._joining.clear()
            for socket in dropped:
                socket.dropped(self.room_id, "resync")
            self._on_change(self.room_id)
        self.position = reading.position
        self._recent.restart(reading)


def _went_back(position: Position, asked: Position) -> bool:
    """Whether a log has lost its end in a failover: what follows reuses offsets."""
    return position.epoch == asked.epoch and position.offset < asked.offset


def _is_older(position: Position, than: Position) -> bool:
    return position.epoch == than.epoch and position.offset <= than.offset
