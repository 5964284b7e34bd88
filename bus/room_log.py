"""A room's log in Redis: the last events, in order, and the channel that tells of new ones.

All keys of a room share the hash tag ``{room:<id>}``, so that they lie together on a cluster.
The writer is the consumer redis_publisher, the readers are the bridges. Nothing here is the only
copy of anything. The model is Centrifugo's history and recovery: an offset that grows by one, an
epoch that names one life of the log, one script for log and publish.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from bus.errors import PermanentError, SinkUnavailable
from bus.events import Event
from bus.redis_script import PipelinedScript, Value
from bus.room_batch import Call, rounds

LOG_LENGTH = 1_000
SEEN_SECONDS = 3_600
IDLE_ROOM_SECONDS = 7 * 86_400
# A busy room's life is renewed this often, not with every event.
RENEWAL_SECONDS = 60
# A recovery longer than this is a history page's work, not the socket's.
RECOVERY_EVENTS = 500
RECOVERY_BYTES = 500_000
LATEST_EVENTS = 50

ANSWER_SECONDS = 5.0
# When the memory of this Redis began: gone whenever Redis lost what it held.
_BEGAN = "room_log:began"

_APPEND = files("bus").joinpath("room_log.lua").read_text()
_READ = files("bus").joinpath("room_read.lua").read_text()

# A key of another type, and a log that is ahead of its offset.
_KEY_ERRORS = ("WRONGTYPE", "equal or smaller than the target stream top item")


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
    """What arrives on a room's channel."""

    position: Position
    event: bytes

    @classmethod
    def parse(cls, data: bytes) -> Published:
        epoch, offset, event = data.split(b" ", 2)
        return cls(Position(epoch.decode(), int(offset)), event)


class RoomLogWriter:
    """Appends events to their rooms' logs. One instance, one thread; ``ping`` from any."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._script = PipelinedScript(client, _APPEND)

    @classmethod
    def connect(cls, url: str, timeout: float = ANSWER_SECONDS) -> RoomLogWriter:
        # No retries: how long to wait for Redis is the caller's affair.
        retry = Retry(NoBackoff(), 0)
        client = redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=2, retry=retry, protocol=2
        )
        return cls(client)

    def append(self, batch: Sequence[Event], *, replay: str = "") -> list[int]:
        """Appends ``batch``, each room's events in order; of each its offset, 0 for no change.

        With ``replay`` (a name for this replay run) nothing is published, and only rooms whose
        log is gone are filled. Raises SinkUnavailable when Redis cannot take anything now, and
        PermanentError when it can, but not an event of this batch. The whole batch may then be
        given again.
        """
        lives = (SEEN_SECONDS, IDLE_ROOM_SECONDS, RENEWAL_SECONDS)
        settings = (LOG_LENGTH, *lives, secrets.token_hex(8), replay)
        offsets = [0] * len(batch)
        for calls in rounds(batch):
            with _redis_errors():
                answers = self._script.run([_parameters(call, settings) for call in calls])
            for call, answer in zip(calls, _checked(calls, answers), strict=True):
                for position, offset in zip(call.positions, answer, strict=True):
                    offsets[position] = offset
        return offsets

    def ping(self) -> None:
        """Raises SinkUnavailable when Redis does not answer."""
        with _redis_errors():
            self._client.ping()

    def close(self) -> None:
        self._client.close()


@contextmanager
def _redis_errors() -> Iterator[None]:
    """Turns Redis's errors into SinkUnavailable."""
    try:
        yield
    except RedisError as error:
        raise SinkUnavailable(f"Redis: {error}") from error


def _parameters(call: Call, settings: Sequence[Value]) -> tuple[Sequence[str], Sequence[Value]]:
    """KEYS and ARGV of room_log.lua."""
    keys = keys_of(call.room_id)
    names = (keys.meta, keys.log, keys.seen, keys.removed)
    return names, (keys.channel, *settings, *call.events)


def _checked(calls: Sequence[Call], answers: list[Any]) -> list[list[int]]:
    """``answers`` if none is an error.

    That Redis is down counts for more than that it refuses one room's keys.
    """
    failed = [
        (call.room_id, answer)
        for call, answer in zip(calls, answers, strict=True)
        if isinstance(answer, ResponseError)
    ]
    for _, error in failed:
        if not _is_of_keys(error):
            raise SinkUnavailable(f"Redis: {error}") from error
    for room_id, error in failed:
        raise PermanentError(f"Redis refused the log of room {room_id}: {error}") from error
    return answers


def _is_of_keys(error: ResponseError) -> bool:
    """Whether it comes from what a room's keys hold, so that waiting will not help.

    Redis 6 wraps the errors of a script's commands in one of its own, so they may stand
    anywhere. Whatever else there is (OOM, LOADING, READONLY, BUSY, NOREPLICAS, NOPERM, …) may pass.
    """
    return any(text in str(error) for text in _KEY_ERRORS)


def async_client(url: str) -> redis.asyncio.Redis:
    """A client for ``answering``. It connects when it is first used."""
    # redis-py's own socket_timeout rests on asyncio.wait_for, which before Python 3.12 may lose
    # a cancellation. One retry, at once: a restart of Redis ends the connections in the pool.
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        url,
        socket_timeout=None,
        socket_connect_timeout=2,
        retry=AsyncRetry(NoBackoff(), 1),
        protocol=2,
    )
    return client


@asynccontextmanager
async def answering(seconds: float = ANSWER_SECONDS) -> AsyncIterator[None]:
    """Turns Redis's errors, and no answer in time, into SinkUnavailable."""
    try:
        with _redis_errors():
            async with asyncio.timeout(seconds):
                yield
    except TimeoutError as error:
        raise SinkUnavailable(f"Redis: no answer within {seconds:g} s") from error


class RoomLogReader:
    """Reads rooms' logs for one bridge. ``client`` is one of ``async_client``."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._read = client.register_script(_READ)

    async def read(
        self, room_id: uuid.UUID, since: Position | None, user_id: int | None = None
    ) -> Reading:
        """The log after ``since``, or its latest events, at most RECOVERY_BYTES of them.

        ``user_id`` is whom ``removed`` of the answer is about. A room without a log gets an
        epoch here, so every position is one of a real log. Raises SinkUnavailable.
        """
        keys = keys_of(room_id)
        arguments: list[str | int] = [
            since.epoch if since else "",
            since.offset if since else 0,
            "" if user_id is None else user_id,
            RECOVERY_EVENTS,
            RECOVERY_BYTES,
            LATEST_EVENTS,
            IDLE_ROOM_SECONDS,
            secrets.token_hex(8),
        ]
        async with answering():
            answer = await self._read(keys=[keys.meta, keys.log, keys.removed], args=arguments)
        epoch, offset, began, recovered, removed, entries = answer
        return Reading(
            position=Position(epoch.decode(), offset),
            entries=tuple(Entry(int(key.split(b"-")[0]), event) for key, (_, event) in entries),
            recovered=bool(recovered),
            removed=bool(removed),
            began=float(began),
        )

    async def intact_since(self) -> float:
        """Since when Redis has kept all removals, in seconds since 1970. Raises SinkUnavailable.

        A ticket that is older than this may let in somebody whose removal Redis has forgotten.
        """
        async with answering():
            seconds, microseconds = await self._client.time()
            await self._client.set(_BEGAN, f"{seconds}.{microseconds:06}", nx=True)
            return float(await self._client.get(_BEGAN) or seconds)
