"""A room's recent events, kept for a while for sockets that join (again) together."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Sequence

from bridge.protocol import Encoded, encode_subscribed
from bus.rooms.log_reader import LATEST_EVENTS, RECOVERY_BYTES, RECOVERY_EVENTS
from bus.rooms.model import Entry, Position, Reading


class RecentEvents:
    """The last events of one life of a log, without a gap, up to the room's position.

    Readings of the log extend it at its old end, deliveries at its new end; beyond RECOVERY_EVENTS
    or RECOVERY_BYTES the oldest fall out.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._has_latest = False
        self._is_buffering = False
        # The last answer to a joiner, for others who join from the same offset.
        self._answer: tuple[int | None, Encoded] | None = None

    def start_buffering(self) -> None:
        """Keeps events from now on, until ``stop_buffering``."""
        self._is_buffering = True

    def stop_buffering(self) -> None:
        self._is_buffering = False
        self._clear()

    def restart(self, reading: Reading) -> None:
        """The room starts again, at the end of ``reading``."""
        self._clear()
        self.prepend(reading, reading.position)

    def append(self, entry: Entry) -> None:
        """The next event of the log."""
        self._answer = None
        if not self._is_buffering:
            return
        self._entries.append(entry)
        self._bytes += len(entry.event)
        while len(self._entries) > RECOVERY_EVENTS or self._bytes > RECOVERY_BYTES:
            self._bytes -= len(self._entries.popleft().event)

    def prepend(self, reading: Reading, position: Position) -> None:
        """Adds the older events of ``reading``; ``position`` is the room's.

        Does nothing when it is not buffering: what is delivered next would be missing behind them.
        """
        if not self._is_buffering:
            return
        first = self._first(position)
        older = [entry for entry in reading.entries if entry.offset < first]
        if older and older[-1].offset != first - 1:
            return
        self._entries.extendleft(reversed(older))
        self._bytes += sum(len(entry.event) for entry in older)
        # As many as there are, if they are fewer than those that a new joiner gets.
        self._has_latest |= not reading.recovered

    def can_resume(self, since: Position | None, position: Position | None) -> bool:
        """Whether it has all that came after ``since`` up to ``position``, the room's."""
        if not since or not position or since.epoch != position.epoch:
            return False
        return self._first(position) - 1 <= since.offset <= position.offset

    def wanted(self, since: Position | None, position: Position | None) -> Position | None:
        """Where the reading for a joiner at ``since`` starts: what is here need not be read."""
        if self.can_resume(since, position):
            return position
        if since and position and since.epoch == position.epoch:
            return since if since.offset < position.offset else position
        has_latest = self._has_latest or len(self._entries) >= LATEST_EVENTS
        return position if has_latest else None

    def subscribed(self, room_id: uuid.UUID, position: Position, since: Position | None) -> Encoded:
        """The answer to a joiner who has everything up to ``since``."""
        start = since.offset if since and self.can_resume(since, position) else None
        if not self._answer or self._answer[0] != start:
            entries = self._latest() if start is None else self._after(start)
            frame = encode_subscribed(room_id, position, entries, recovered=start is not None)
            self._answer = start, frame
        return self._answer[1]

    def _after(self, offset: int) -> Sequence[Entry]:
        return [entry for entry in self._entries if entry.offset > offset]

    def _latest(self) -> Sequence[Entry]:
        return list(self._entries)[-LATEST_EVENTS:]

    def _clear(self) -> None:
        self._entries.clear()
        self._bytes = 0
        self._has_latest = False
        self._answer = None

    def _first(self, position: Position) -> int:
        return self._entries[0].offset if self._entries else position.offset + 1
