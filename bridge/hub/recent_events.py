"""The end of a room's log, kept for a while for those who come (back) to the room together."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bus.rooms.log_reader import LATEST_EVENTS, RECOVERY_BYTES, RECOVERY_EVENTS
from bus.rooms.model import Entry, Position, Reading


class RecentEvents:
    """The last events of one life of a log, without a gap, up to the room's own position.

    It grows by readings of the log at its old end, and by what the room delivers at its new one;
    beyond RECOVERY_EVENTS or RECOVERY_BYTES the oldest fall out.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._has_latest = False
        self._is_kept = False

    def keep(self) -> None:
        """Collects from now on, until ``drop``."""
        self._is_kept = True

    def drop(self) -> None:
        self._is_kept = False
        self._clear()

    def start(self, reading: Reading) -> None:
        """The room begins anew, at the end of ``reading``."""
        self._clear()
        if self._is_kept:
            self.prepend(reading, reading.position)

    def append(self, entry: Entry) -> None:
        """The next event of the log."""
        if not self._is_kept:
            return
        self._entries.append(entry)
        self._bytes += len(entry.event)
        while len(self._entries) > RECOVERY_EVENTS or self._bytes > RECOVERY_BYTES:
            self._bytes -= len(self._entries.popleft().event)

    def prepend(self, reading: Reading, position: Position) -> None:
        """Takes in the older events of ``reading``; ``position`` is the room's own."""
        first = self._first(position)
        older = [entry for entry in reading.entries if entry.offset < first]
        if older and older[-1].offset != first - 1:
            return
        self._entries.extendleft(reversed(older))
        self._bytes += sum(len(entry.event) for entry in older)
        # As many as there are, if they are fewer than those that a newcomer gets.
        self._has_latest |= not reading.recovered

    def has_after(self, offset: int, position: Position) -> bool:
        """Whether it has all that came after ``offset``, up to ``position``, the room's own."""
        return self._first(position) - 1 <= offset <= position.offset

    @property
    def has_latest(self) -> bool:
        """Whether it has what a newcomer gets."""
        return self._has_latest or len(self._entries) >= LATEST_EVENTS

    def after(self, offset: int) -> Sequence[Entry]:
        return [entry for entry in self._entries if entry.offset > offset]

    def latest(self) -> Sequence[Entry]:
        return list(self._entries)[-LATEST_EVENTS:]

    def _clear(self) -> None:
        self._entries.clear()
        self._bytes = 0
        self._has_latest = False

    def _first(self, position: Position) -> int:
        return self._entries[0].offset if self._entries else position.offset + 1
