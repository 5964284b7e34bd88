"""Reads a room's log from Redis for an HTTP request, which may wait for the next event.

A request that waits holds a thread. So few of them wait in a process; the others are answered at
once, and told when to ask again.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from django.conf import settings

from bus.rooms.log_reader import RoomLogFollower
from bus.rooms.model import Position, Reading
from webapp.project.errors import Unavailable
from webapp.project.shutdown import stopping

# Less than the gateway and usual proxies hold a request.
LONGEST_WAIT = 25
LARGEST_OFFSET = 2**53
RETRY_AFTER = 2


@dataclass(frozen=True, slots=True)
class LogAnswer:
    """``retry_after``: ask again after so many seconds, since no further request may wait here."""

    reading: Reading
    retry_after: int | None = None


# Of this process. Module state, since the requests of all threads share it.
places = threading.BoundedSemaphore(settings.LOG_WAITERS)


def read_log(room_id: uuid.UUID, since: Position | None, wait: float) -> LogAnswer:
    """The log after ``since``, or its latest events; waits up to ``wait`` seconds for the first.

    Raises Unavailable or StoreUnavailable.
    """
    if settings.REDIS_URL is None:
        raise Unavailable("This server has no access to the rooms' logs. Use the socket.")
    follower = _follower(settings.REDIS_URL)
    reading = follower.read(room_id, since)
    if not wait or reading.entries or not reading.recovered:
        return LogAnswer(reading)
    if not places.acquire(blocking=False):
        return LogAnswer(reading, RETRY_AFTER)
    try:
        return LogAnswer(follower.read_next(room_id, since, wait, stopping))
    finally:
        places.release()


def as_json(answer: LogAnswer) -> bytes:
    """The fields that the socket's frame ``subscribed`` has, but for the room."""
    reading = answer.reading
    hint = {} if answer.retry_after is None else {"retry_after": answer.retry_after}
    return msgspec.json.encode(
        hint
        | {
            "epoch": reading.position.epoch,
            "offset": reading.position.offset,
            "recovered": reading.recovered,
            "events": [msgspec.Raw(entry.event) for entry in reading.entries],
        }
    )


@lru_cache(maxsize=1)
def _follower(url: str) -> RoomLogFollower:
    return RoomLogFollower.connect(url)
