"""Groups a batch of events into calls of append.lua: one call for all events of a room."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from bus import events
from bus.events import Event, MemberAdded, MemberRemoved

# Redis serves no other client while the script runs, so a call must take milliseconds.
CALL_EVENTS = 200
CALL_BYTES = 256 * 1024


class Call:
    """Events of one room for one run of the script, and their positions in the batch."""

    def __init__(self, room_id: uuid.UUID) -> None:
        self.room_id = room_id
        self.positions: list[int] = []
        self.events: list[str | bytes] = []
        self._bytes = 0

    def add(self, position: int, event: Event) -> None:
        body = events.encode(event)
        self.positions.append(position)
        self.events += (str(event.id), body, _membership(event))
        self._bytes += len(body)

    @property
    def is_full(self) -> bool:
        return len(self.positions) >= CALL_EVENTS or self._bytes >= CALL_BYTES


def rounds(batch: Sequence[Event]) -> Iterator[list[Call]]:
    """The calls for ``batch``, in rounds with at most one call for each room.

    Begin a round only when Redis has accepted all of the one before: then no event overtakes an
    earlier one of its room that was refused.
    """
    calls: dict[uuid.UUID, Call] = {}
    for position, event in enumerate(batch):
        call = calls.get(event.channel_id)
        if call and call.is_full:
            yield list(calls.values())
            calls, call = {}, None
        if call is None:
            call = calls[event.channel_id] = Call(event.channel_id)
        call.add(position, event)
    if calls:
        yield list(calls.values())


def _membership(event: Event) -> str:
    """How ``event`` changes the room's members, in the script's notation."""
    if isinstance(event, MemberAdded):
        return f"+{event.data.user.id}"
    if isinstance(event, MemberRemoved):
        return f"-{event.data.user.id}"
    return ""
