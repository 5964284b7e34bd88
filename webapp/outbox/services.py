"""Writing events with the change that causes them, and publishing them after it.

No lock is held while publishing. Two publishers of one room may both send an event, and every
sink ignores an id that it has seen; but neither can send a later event first, because each
begins with the oldest row, and sends the next one only after its confirm: of several sent
together the broker may refuse the first and take the second.
"""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta

from bus import events
from bus.errors import BusError
from bus.events import Event
from bus.message import Message
from bus.runtime import trace
from webapp.outbox.models import OutboxEvent
from webapp.project.broker import publisher

logger = logging.getLogger(__name__)

BATCH = 500
# Younger rows are most likely just being published by the request that wrote them.
GRACE = timedelta(seconds=1)


def add(event: Event) -> None:
    """Notes ``event`` for publishing, in the caller's transaction.

    The caller holds the lock on the room's row, so that rows are numbered as they commit.
    """
    OutboxEvent.objects.create(
        room_id=event.room_id,
        event=events.encode(event).decode(),
        traceparent=trace.traceparent(),
    )


def flush_room(room_id: uuid.UUID) -> None:
    """Publishes what is pending of a room, in order, and forgets what the broker confirmed.

    Call it outside a transaction. Raises BusError; then the rows from that one on stay.
    """
    while rows := list(OutboxEvent.objects.filter(room_id=room_id).order_by("id")[:BATCH]):
        for row in rows:
            publisher.publish(_message(row))
            row.delete()


def _message(row: OutboxEvent) -> Message:
    return events.to_message(events.decode(row.event.encode()), row.traceparent)


def try_flush_room(room_id: uuid.UUID) -> None:
    """``flush_room``; what fails is left to the relay."""
    try:
        flush_room(room_id)
    except BusError as error:
        logger.warning("events of room %s are left to the relay: %s", room_id, error)
