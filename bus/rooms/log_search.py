"""Finds one event in a room's log in Redis, for an operator; it changes nothing."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from bus import events
from bus.errors import InvalidEvent
from bus.events import Event
from bus.rooms.model import keys_of
from bus.rooms.redis_client import connect, redis_errors

PAGE = 100


@dataclass(frozen=True, slots=True)
class Sighting:
    """What Redis knows about an event.

    ``offset`` and ``event`` are None once the log has been trimmed past it, ``since`` (when it
    was logged, in whole seconds) once the event is older than what the log remembers of ids,
    ``bus.rooms.log_writer.SEEN_SECONDS``.
    """

    epoch: str
    offset: int | None
    event: Event | None
    since: datetime | None


def find(url: str, room_id: uuid.UUID, event_id: uuid.UUID) -> Sighting | None:
    """The event in its room's log; None if Redis does not know it. Raises StoreUnavailable."""
    keys = keys_of(room_id)
    with redis_errors(), closing(connect(url)) as client:
        seen: Any = client.zscore(keys.seen, str(event_id))
        offset, event = _entry(client, keys.log, event_id)
        epoch: Any = client.hget(keys.meta, "epoch")
    if epoch is None or (seen is None and offset is None):
        return None
    since = datetime.fromtimestamp(seen, UTC) if seen else None
    return Sighting(epoch.decode(), offset, event, since)


def _entry(
    client: redis.Redis, log: str, event_id: uuid.UUID
) -> tuple[int, Event] | tuple[None, None]:
    """The event and its offset. Reads the newest first, page by page: a log may be megabytes."""
    before = "+"
    while page := _page(client, log, before):
        for key, fields in page:
            if event := _decoded(fields[b"event"], event_id):
                return int(key.split(b"-")[0]), event
        before = f"({page[-1][0].decode()}"
    return None, None


def _page(client: redis.Redis, log: str, before: str) -> list[Any]:
    page: Any = client.xrevrange(log, before, "-", count=PAGE)
    return list(page)


def _decoded(body: bytes, event_id: uuid.UUID) -> Event | None:
    """The event in ``body``, if it has this id."""
    # Decode only what contains the id at all: its own event, and edits of the message.
    if str(event_id).encode() not in body:
        return None
    try:
        event = events.decode(body)
    except InvalidEvent:
        return None
    return event if event.id == event_id else None
