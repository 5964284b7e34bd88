"""A room's log in Redis: the last events, in order, and the channel that tells of new ones.

All keys of a room share the hash tag ``{room:<id>}``, so that they lie together on a cluster.
The writer is the consumer redis_publisher, the readers are the bridges. Nothing here is the only
copy of anything. The model is Centrifugo's history and recovery: an offset that grows by one, an
epoch that names one life of the log, one script for log and publish.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import RedisError

from bus import events
from bus.errors import SinkUnavailable
from bus.events import Event, MemberAdded, MemberRemoved

LOG_LENGTH = 1_000
SEEN_SECONDS = 3_600
IDLE_ROOM_SECONDS = 7 * 86_400
# A recovery longer than this is a history page's work, not the socket's.
RECOVERY_EVENTS = 500
RECOVERY_BYTES = 1_000_000
LATEST_EVENTS = 50

_APPEND = files("bus").joinpath("room_log.lua").read_text()


@dataclass(frozen=True, slots=True)
class RoomKeys:
    meta: str
    log: str
    seen: str
    removed: str
    channel: str


def keys_of(room_id: uuid.UUID) -> RoomKeys:
    tag = f"{{room:{room_id}}}"
    return RoomKeys(*(f"{tag}:{part}" for part in ("meta", "log", "seen", "removed", "events")))


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
    from the room, and not added again since.
    """

    position: Position
    entries: tuple[Entry, ...]
    recovered: bool
    removed: bool


@dataclass(frozen=True, slots=True)
class Published:
    """What arrives on a room's channel."""

    position: Position
    event: bytes

    @classmethod
    def parse(cls, data: bytes) -> Published:
        epoch, offset, event = data.split(b" ", 2)
        return cls(Position(epoch.decode(), int(offset)), event)


class RoomLogWriter:
    """Appends events to their rooms' logs. One instance, one thread."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._append = client.register_script(_APPEND)

    @classmethod
    def connect(cls, url: str, timeout: float = 5.0) -> RoomLogWriter:
        return cls(redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=2))

    def append(self, batch: Sequence[Event], *, replay: str = "") -> list[int]:
        """Appends ``batch`` in order; the offset of each, 0 for one that changed nothing.

        With ``replay`` (a name for this replay run) nothing is published, and only rooms whose
        log is gone are filled. Raises SinkUnavailable; the whole batch may then be given again.
        """
        epoch = secrets.token_hex(8)
        pipeline = self._client.pipeline(transaction=False)
        for event in batch:
            self._append(*_call(event, epoch, replay), client=pipeline)
        try:
            return pipeline.execute()
        except RedisError as error:
            raise SinkUnavailable(f"Redis: {error}") from error

    def close(self) -> None:
        self._client.close()


def _call(event: Event, epoch: str, replay: str) -> tuple[list[str], list[Any]]:
    """KEYS and ARGV of room_log.lua for one event."""
    keys = keys_of(event.room_id)
    added = event.data.user.id if isinstance(event, MemberAdded) else ""
    removed = event.data.user.id if isinstance(event, MemberRemoved) else ""
    return [keys.meta, keys.log, keys.seen, keys.removed], [
        str(event.id),
        events.encode(event),
        keys.channel,
        LOG_LENGTH,
        SEEN_SECONDS,
        IDLE_ROOM_SECONDS,
        epoch,
        replay,
        added,
        removed,
    ]


class RoomLogReader:
    """Reads rooms' logs for one bridge."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def read(
        self, room_id: uuid.UUID, since: Position | None, user_id: int | None = None
    ) -> Reading:
        """The log after ``since``, or its latest events. Raises SinkUnavailable.

        The parts are read in one transaction: no event can come between them.
        """
        keys = keys_of(room_id)
        after = f"{since.offset + 1}-0" if since else "+"
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hmget(keys.meta, ["epoch", "offset"])
        pipeline.xrange(keys.log, after, "+", count=RECOVERY_EVENTS + 1)
        pipeline.xrevrange(keys.log, count=LATEST_EVENTS)
        pipeline.zscore(keys.removed, str(user_id))
        try:
            (epoch, offset), following, latest, removed = await pipeline.execute()
        except RedisError as error:
            raise SinkUnavailable(f"Redis: {error}") from error
        position = Position((epoch or b"").decode(), int(offset or 0))
        wanted = _entries(following)
        recovered = since is not None and _is_whole(since, position, wanted)
        entries = wanted if recovered else _entries(reversed(latest))
        return Reading(position, entries, recovered, removed is not None)


def _entries(items: Any) -> tuple[Entry, ...]:
    return tuple(Entry(int(key.split(b"-")[0]), fields[b"event"]) for key, fields in items)


def _is_whole(since: Position, now: Position, entries: tuple[Entry, ...]) -> bool:
    """Whether ``entries`` are exactly what lies between the two positions, within bounds."""
    return (
        since.epoch == now.epoch
        and [entry.offset for entry in entries] == list(range(since.offset + 1, now.offset + 1))
        and len(entries) <= RECOVERY_EVENTS
        and sum(len(entry.event) for entry in entries) <= RECOVERY_BYTES
    )
