"""A room's log in Redis: the last events, in order, and the channel that announces new ones.

All keys of a room share the hash tag ``{room:<id>}``, so a cluster keeps them together. The
consumer redis_publisher writes, the bridges read. Nothing here is the only copy of anything. The
model is Centrifugo's history and recovery: an offset that grows by one, an epoch that names one
life of the log, one script for log and publish
(https://centrifugal.dev/docs/server/history_and_recovery).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import NamedTuple

LOG_LENGTH = 1_000
SEEN_SECONDS = 3_600
IDLE_ROOM_SECONDS = 7 * 86_400
# The keys of a busy room get a new time to live this often, not with every event.
RENEWAL_SECONDS = 60
# Holds since when this Redis has kept its data; missing after Redis has lost them.
BEGAN = "room_log:began"


@dataclass(frozen=True, slots=True)
class RoomKeys:
    meta: str
    log: str
    seen: str
    removed: str
    present: str
    told: str
    channel: str


def keys_of(room_id: uuid.UUID) -> RoomKeys:
    tag = f"{{room:{room_id}}}"
    parts = ("meta", "log", "seen", "removed", "present", "told", "events")
    return RoomKeys(*(f"{tag}:{part}" for part in parts))


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a room's log. A log that Redis lost begins again under another ``epoch``."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in a log: its offset and the envelope's bytes."""

    offset: int
    event: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader gets: the log's position and, oldest first, the events up to it.

    ``recovered``: the events are all that followed the position asked for, never a part of them;
    otherwise they are the latest ones. ``removed``: the user asked about was removed from the
    room, and has not been added again. ``began``: when this epoch began, in seconds since 1970;
    earlier removals are unknown.
    """

    position: Position
    entries: tuple[Entry, ...]
    recovered: bool
    removed: bool
    began: float


class Published(NamedTuple):
    """An event on a room's channel. A tuple, because a frozen dataclass takes twice as long to
    make, and a bridge makes one for each event.

    ``logged_at``: when it was appended to the log, by the clock of Redis, in seconds since 1970;
    None if it was read from the log, which does not keep that, or if the redis_publisher is of an
    earlier release, which does not send it.
    """

    position: Position
    event: bytes
    logged_at: float | None = None

    @classmethod
    def parse(cls, data: bytes) -> Published:
        """What append.lua published. Raises ValueError if ``data`` is anything else."""
        epoch, place, event = data.split(b" ", 2)
        offset, has_time, logged_at = place.partition(b"@")
        if not event.startswith(b"{"):
            raise ValueError("no event follows the position")
        position = Position(epoch.decode(), int(offset))
        return cls(position, event, float(logged_at) if has_time else None)
