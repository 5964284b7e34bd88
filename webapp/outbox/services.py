"""Stores events in the transaction of the change that causes them, and publishes them after it.

Publishing holds no lock. Two publishers of one room may both send an event, and every sink ignores
an id that it has seen. Neither sends a later event first, because each begins with the oldest row
and waits for its confirm before it sends the next: of two events sent together, the broker may
refuse the first and take the second.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice

from django.db import Error, transaction

from bus import events
from bus.errors import BusError
from bus.events import Event
from bus.message import Message
from bus.runtime import clock, trace
from webapp.outbox.models import OutboxEvent
from webapp.project.broker import publisher

logger = logging.getLogger(__name__)

BATCH = 500
# The request that wrote a younger row is probably just publishing it.
GRACE = timedelta(seconds=1)


def add(event: Event) -> None:
    """Stores ``event`` in the caller's transaction, to be published.

    The caller holds the lock on the room's row, so that a room's ids grow in the order of the
    commits. On a user's own channel, the events of one room do.
    """
    _row(event).save(force_insert=True)


def add_all(stored: Iterable[Event]) -> None:
    """As ``add``, for any number of events."""
    rows = map(_row, stored)
    while batch := list(islice(rows, BATCH)):
        OutboxEvent.objects.bulk_create(batch)


def _row(event: Event) -> OutboxEvent:
    return OutboxEvent(
        room_id=event.channel_id,
        event=events.encode(event).decode(),
        traceparent=trace.traceparent(),
        created_at=clock.now(),
    )


def flush_room(room_id: uuid.UUID) -> None:
    """Publishes what waits for a room or a user's channel in order; deletes what is confirmed.

    Call it outside a transaction. Raises BusError, and then keeps that event and later ones.
    """
    while rows := list(OutboxEvent.objects.filter(room_id=room_id).order_by("id")[:BATCH]):
        for row in rows:
            publisher.publish(_message(row))
            row.delete()


def _message(row: OutboxEvent) -> Message:
    return events.to_message(events.decode(row.event.encode()), row.traceparent)


def publish_after_commit(*channel_ids: uuid.UUID) -> None:
    """Publishes what waits for these rooms and users' channels, after the caller's commit.

    At the first failure it leaves the rest to ``outbox_relay``.
    """
    transaction.on_commit(lambda: try_flush(channel_ids))


def try_flush(channel_ids: Iterable[uuid.UUID]) -> None:
    """As ``flush_room`` for each, but logs a failure and leaves the rest to ``outbox_relay``.

    So what was committed is not answered as if it had failed, also when the database goes away.
    """
    for channel_id in channel_ids:
        try:
            flush_room(channel_id)
        except (BusError, Error) as error:
            logger.warning("outbox_relay will publish the events of room %s: %s", channel_id, error)
            return
