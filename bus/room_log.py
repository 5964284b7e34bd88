"""A room's log in Redis: the last events, in order, and the channel that tells of new ones.

All keys of a room share the hash tag ``{room:<id>}``, so that they lie together on a cluster.
The writer is the consumer redis_publisher, the readers are the bridges. Nothing here is the only
copy of anything. The model is Centrifugo's history and recovery: an offset that grows by one, an
epoch that names one life of the log, one script for log and publish.
"""

from __future__ import annotations

import secrets
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import redis
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

ROOMS_REMEMBERED = 10_000

ANSWER_SECONDS = 5.0
# When the memory of this Redis began: gone whenever Redis lost what it held.
BEGAN = "room_log:began"

_APPEND = files("bus").joinpath("room_log.lua").read_text()

# A key of another type, and a log that is ahead of its offset.
_KEY_ERRORS = ("WRONGTYPE", "equal or smaller than the target stream top item")


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
    """What arrives on a room's channel."""

    position: Position
    event: bytes

    @classmethod
    def parse(cls, data: bytes) -> Published:
        epoch, offset, event = data.split(b" ", 2)
        return cls(Position(epoch.decode(), int(offset)), event)


class RoomLogWriter:
    """Appends events to their rooms' logs. One instance, one thread; ``ping`` from any.

    It remembers how far it got with the rooms that it wrote to lately. One that is further back
    than that, in the same life of its log, has lost events to a failover and begins a new life.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._last: OrderedDict[uuid.UUID, Position] = OrderedDict()
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
            with redis_errors():
                answers = self._script.run(
                    [_parameters(call, settings, self._last.get(call.room_id)) for call in calls]
                )
            for call, (epoch, answer) in zip(calls, _checked(calls, answers), strict=True):
                self._remember(call.room_id, Position(epoch.decode(), max(answer)))
                for position, offset in zip(call.positions, answer, strict=True):
                    offsets[position] = offset
        return offsets

    def _remember(self, room_id: uuid.UUID, position: Position) -> None:
        last = self._last.get(room_id)
        if last and last.epoch != position.epoch:
            # Removals may be forgotten, too: tickets from before now must be fetched anew.
            with redis_errors():
                self._client.delete(BEGAN)
        if position.offset:
            self._last[room_id] = position
            self._last.move_to_end(room_id)
        if len(self._last) > ROOMS_REMEMBERED:
            self._last.popitem(last=False)

    def ping(self) -> None:
        """Raises SinkUnavailable when Redis does not answer."""
        with redis_errors():
            self._client.ping()

    def close(self) -> None:
        self._client.close()


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns Redis's errors into SinkUnavailable."""
    try:
        yield
    except RedisError as error:
        raise SinkUnavailable(f"Redis: {error}") from error


def _parameters(
    call: Call, settings: Sequence[Value], last: Position | None
) -> tuple[Sequence[str], Sequence[Value]]:
    """KEYS and ARGV of room_log.lua."""
    keys = keys_of(call.room_id)
    names = (keys.meta, keys.log, keys.seen, keys.removed)
    position = (last.epoch, last.offset) if last else ("", 0)
    return names, (keys.channel, *settings, *position, *call.events)


def _checked(calls: Sequence[Call], answers: list[Any]) -> list[tuple[bytes, list[int]]]:
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
