"""Message ids of imported lines: the same in every run, and in the order of the file.

A line is identified by its room, its time to the millisecond, its user, its body, and the number
of equal lines before it in the file. Its id is a UUIDv7 (RFC 9562, section 5.7)::

    48 bits  milliseconds since 1970; a finer time is cut off, never rounded up
    26 bits  place: orders the lines of one room and millisecond
    48 bits  fingerprint: a hash of room, user and body, plus the number of equal lines before

The lines of one room and millisecond have the places GAP, 2 * GAP, 3 * GAP and so on. So the ids
depend on the file alone, and a line that was published but not yet stored gets the same id again.
A line whose identity the history has is known, whatever its place: lines put in the middle of a
file, or taken out of it, make no known line new. A new line between known ones gets a place in the
gap between them.

Bounds, each for one room and one millisecond. Beyond PLACES / GAP lines (1,048,576), and beyond
GAP - 1 lines (63) put between two known ones, every line is still stored, but the order is not
kept. Lines put in the middle while later lines of that millisecond are published and not yet
stored give those other ids, so that they are stored twice: change a file only when its import has
ended with status 0 or 3.

Earlier versions put a number of 12 bits before a hash of 62 bits, whose last 48 bits are the
fingerprint. Their ids are known, too, except where the time was rounded up to the next
millisecond.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable

PLACES = 1 << 26
GAP = 1 << 6
_FINGERPRINTS = 1 << 48
_RAND_A = 0xFFF << 62
_RAND_B = (1 << 62) - 1


def message_id(milliseconds: int, place: int, fingerprint: int) -> uuid.UUID:
    """The UUIDv7 of these parts."""
    tail = place << 48 | fingerprint % _FINGERPRINTS
    rand_a, rand_b = (tail & _RAND_A) << 2, tail & _RAND_B
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | rand_a | 0b10 << 62 | rand_b)


def parts_of(event_id: uuid.UUID) -> tuple[int, int, int]:
    """The milliseconds, place and fingerprint that ``message_id`` put together."""
    tail = event_id.int >> 2 & _RAND_A | event_id.int & _RAND_B
    return event_id.int >> 80, tail >> 48, tail % _FINGERPRINTS


def fingerprint(*content: str) -> int:
    """A hash of ``content``, which tells ("a", "bc") from ("ab", "c")."""
    digest = hashlib.blake2b("\0".join(content).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 2) % _FINGERPRINTS


class RoomIds:
    """Gives the lines of one room their ids, one after the other in the order of the file.

    It keeps up to 180 bytes for each line, since a later line may have an earlier time, and as
    many for each message that the history has.
    """

    def __init__(self, stored: Iterable[uuid.UUID]) -> None:
        self._stored: dict[int, int] = {}
        self._taken: set[int] = set()
        self._last_place: dict[int, int] = {}
        self._equal: dict[int, int] = {}
        for event_id in sorted(stored):
            self._keep(*parts_of(event_id))

    def _keep(self, milliseconds: int, place: int, mark: int) -> None:
        """Equal lines of an older version share one fingerprint; they count on in their order."""
        while _identity(milliseconds, mark) in self._stored:
            mark += 1
        self._stored[_identity(milliseconds, mark)] = place
        self._taken.add(milliseconds * PLACES + place)

    def next(self, milliseconds: int, mark: int) -> uuid.UUID | None:
        """The id of the next line, whose content has the fingerprint ``mark``; None when the
        history has the line."""
        content = _identity(milliseconds, mark)
        equal_before = self._equal.get(content, 0)
        self._equal[content] = equal_before + 1
        last = self._last_place.get(milliseconds, 0)
        stored = self._stored.get(_identity(milliseconds, mark + equal_before))
        place = self._place_after(last, milliseconds) if stored is None else stored
        self._last_place[milliseconds] = max(place, last)
        return message_id(milliseconds, place, mark + equal_before) if stored is None else None

    def _place_after(self, last: int, milliseconds: int) -> int:
        place = (last // GAP + 1) * GAP
        if milliseconds * PLACES + place in self._taken:
            place = last + 1
        return min(place, PLACES - 1)


def _identity(milliseconds: int, mark: int) -> int:
    return milliseconds * _FINGERPRINTS + mark % _FINGERPRINTS


class Ids:
    """The ids of the lines of a file, room by room; ``stored`` reads a room's ids in the history,
    when the first of its lines comes."""

    def __init__(self, stored: Callable[[uuid.UUID], Iterable[uuid.UUID]]) -> None:
        self._stored = stored
        self._rooms: dict[uuid.UUID, RoomIds] = {}

    def next(self, room_id: uuid.UUID, milliseconds: int, mark: int) -> uuid.UUID | None:
        """As ``RoomIds.next``."""
        if room_id not in self._rooms:
            self._rooms[room_id] = RoomIds(self._stored(room_id))
        return self._rooms[room_id].next(milliseconds, mark)
