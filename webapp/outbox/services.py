"""Stores events in the transaction of the change that causes them, and publishes them after it.

Publishing holds no lock. Two publishers of one room may both send an event, and every sink ignores
an id that it has seen. Neither sends a later event first, because each begins with the oldest row
and waits for its confirm before it sends the next: of two events sent together, the broker may
refuse the first and take the second.
"""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta

from django.db import Error

from bus import events
from bus.errors import BusError
from bus.events import Event
from bus.message import Message
from bus.runtime import trace
from webapp.outbox.models import OutboxEvent
from webapp.project.broker import publisher

logger = logging.getLogger(__name__)

BATCH = 500
# The request that wrote a younger row is probably just publishing it.
GRACE = timedelta(seconds=1)


def add(event: Event) -> None:
    """Stores ``event`` in the caller's transaction, to be published.

    The caller holds the lock on the room's row, so that ids grow in the order of the commits.
    """
    OutboxEvent.objects.create(
        room_id=event.room_id,
        event=events.encode(event).decode(),
        traceparent=trace.traceparent(),
    )


def flush_room(room_id: uuid.UUID) -> None:
    """Publishes a room's pending events in order, and deletes those that the broker confirmed.

    Call it outside a transaction. Raises BusError, and then keeps that event and later ones.
    """
    while rows := list(OutboxEvent.objects.filter(room_id=room_id).order_by("id")[:BATCH]):
        for row in rows:
            publisher.publish(_message(row))
            row.delete()


def _message(row: OutboxEvent) -> Message:
    return events.to_message(events.decode(row.event.encode()), row.traceparent)


def try_flush_room(room_id: uuid.UUID) -> None:
    """As ``flush_room``, but logs a failure and leaves the rest to ``outbox_relay``.

    So what was committed is not answered as if it had failed, also when the database goes away.
    """
    try:
        flush_room(room_id)
    except (BusError, Error) as error:
        logger.warning("outbox_relay will publish the events of room %s: %s", room_id, error)
