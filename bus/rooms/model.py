"""A room's log in Redis: the last events, in order, and the channel that announces new ones.

All keys of a room share the hash tag ``{room:<id>}``, so that they lie together on a cluster.
The writer is the consumer redis_publisher, the readers are the bridges. Nothing here is the only
copy of anything. The model is Centrifugo's history and recovery: an offset that grows by one, an
epoch that names one life of the log, one script for log and publish
(https://centrifugal.dev/docs/server/history_and_recovery).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

LOG_LENGTH = 1_000
SEEN_SECONDS = 3_600
IDLE_ROOM_SECONDS = 7 * 86_400
# A busy room's life is renewed this often, not with every event.
RENEWAL_SECONDS = 60
# When the memory of this Redis began: gone whenever Redis lost what it held.
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
    """A place in a room's log: how far a reader is, in which life of the log."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a log: its offset and the envelope's bytes."""

    offset: int
    event: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader gets: the log's position and, oldest first, the events up to it.

    ``recovered``: the events are all that came after the position asked for; never a part of
    them. Without it they are merely the latest. ``removed``: the user asked about was removed
    from the room, and not added again since. ``began``: when this life of the log began, in
    seconds since 1970; it knows nothing of removals before that.
    """

    position: Position
    entries: tuple[Entry, ...]
    recovered: bool
    removed: bool
    began: float


@dataclass(frozen=True, slots=True)
class Published:
    """An event on a room's channel.

    ``logged_at``: when it was appended to the log, by the clock of Redis, in seconds since 1970;
    None if it was read from the log, which does not keep that.
    """

    position: Position
    event: bytes
    logged_at: float | None = None

    @classmethod
    def parse(cls, data: bytes) -> Published:
        """What append.lua published. Raises ValueError if ``data`` is anything else."""
        epoch, offset, logged_at, event = data.split(b" ", 3)
        return cls(Position(epoch.decode(), int(offset)), event, float(logged_at))
