"""Reads rooms' logs: for a bridge many at once, and each log once for equal questions; for a
thread that waits for what comes next, one."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections import defaultdict
from dataclasses import replace
from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.exceptions import RedisError

from bus.rooms.coalesce import Coalescer
from bus.rooms.lua_script import AsyncLuaScript, LuaScript, ScriptCall, Value
from bus.rooms.model import BEGAN, IDLE_ROOM_SECONDS, Entry, Position, Reading, keys_of
from bus.rooms.redis_client import ANSWER_SECONDS, answering, connect, redis_errors, unavailable

# The browser fetches history pages instead of a longer recovery.
RECOVERY_EVENTS = 500
RECOVERY_BYTES = 500_000
LATEST_EVENTS = 50
ASKS_AT_ONCE = 256
# Redis must answer within ANSWER_SECONDS, a reader that waits too.
LONGEST_BLOCK = ANSWER_SECONDS / 2


class _Ask(NamedTuple):
    """What one caller asks."""

    room_id: uuid.UUID
    since: Position | None
    user_id: int | None


class RoomLogReader:
    """Reads rooms' logs for one bridge. ``client`` comes from ``connect_async``.

    Readings that are asked for during a round trip share the next one, and those of one room from
    one position are one reading: many sockets that return to a room at the same time cost Redis
    little more than a single one.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._script = AsyncLuaScript(client, "read.lua")
        self._readings: Coalescer[_Ask, Reading | RedisError] = Coalescer(
            self._read, most=ASKS_AT_ONCE
        )
        self._intact: Coalescer[None, float] = Coalescer(self._read_intact_since, most=ASKS_AT_ONCE)

    async def read(
        self, room_id: uuid.UUID, since: Position | None, user_id: int | None = None
    ) -> Reading:
        """The log after ``since``, or its latest events, at most RECOVERY_BYTES of them.

        The reading is made after this call. ``removed`` of the answer is about ``user_id``. A
        room without a log gets an epoch here, so every position belongs to a real log. Raises
        StoreUnavailable.
        """
        reading = await self._readings.call(_Ask(room_id, since, user_id))
        if isinstance(reading, RedisError):
            raise unavailable(reading) from reading
        return reading

    async def _read(self, asks: list[_Ask]) -> list[Reading | RedisError]:
        """Makes one reading for each room and position among ``asks``, and answers each ask."""
        users: defaultdict[tuple[uuid.UUID, Position | None], list[int]] = defaultdict(list)
        for room_id, since, user_id in asks:
            users[room_id, since] += [] if user_id is None else [user_id]
        async with answering():
            answers = await self._script.run(
                [_parameters(*key, user_ids) for key, user_ids in users.items()]
            )
        readings = dict(zip(users, map(_parsed, answers), strict=True))
        return [_for_user(readings[ask.room_id, ask.since], ask.user_id) for ask in asks]

    async def intact_since(self) -> float:
        """Since when Redis has kept all removals, in seconds since 1970. Raises StoreUnavailable.

        An older ticket may belong to a user whose removal Redis has forgotten.
        """
        return await self._intact.call(None)

    async def _read_intact_since(self, asks: list[None]) -> list[float]:
        async with answering():
            seconds, microseconds = await self._client.time()
            await self._client.set(BEGAN, f"{seconds}.{microseconds:06}", nx=True)
            began = float(await self._client.get(BEGAN) or seconds)
        return [began for _ in asks]


class RoomLogFollower:
    """Reads one room's log at a time, and waits for what is appended. Use it from any thread."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._script = LuaScript(client, "read.lua")

    @classmethod
    def connect(cls, url: str) -> RoomLogFollower:
        return cls(connect(url))

    def read(self, room_id: uuid.UUID, since: Position | None) -> Reading:
        """As ``RoomLogReader.read`` does. Raises StoreUnavailable."""
        with redis_errors():
            [answer] = self._script.run([_parameters(room_id, since, [])])
        parsed = _parsed(answer)
        if isinstance(parsed, RedisError):
            raise unavailable(parsed) from parsed
        return parsed[0]

    def read_next(
        self,
        room_id: uuid.UUID,
        since: Position | None,
        seconds: float,
        stopping: threading.Event | None = None,
    ) -> Reading:
        """As ``read``, but waits up to ``seconds`` for the first event after ``since``.

        What was not recovered is returned at once. It takes a connection to Redis for that time,
        and ends within LONGEST_BLOCK once ``stopping`` is set. Raises StoreUnavailable.
        """
        deadline = time.monotonic() + seconds
        reading = self.read(room_id, since)
        while since and reading.recovered and not reading.entries:
            left = deadline - time.monotonic()
            if left <= 0 or (stopping and stopping.is_set()):
                break
            self._wait(room_id, since, min(left, LONGEST_BLOCK))
            reading = self.read(room_id, since)
        return reading

    def _wait(self, room_id: uuid.UUID, since: Position, seconds: float) -> None:
        """Returns when the log has an entry after ``since``, or after ``seconds``.

        A log that begins again is not noticed: the reading after it notices that.
        """
        milliseconds = max(1, int(seconds * 1_000))
        with redis_errors():
            self._client.xread(
                {keys_of(room_id).log: f"{since.offset}-0"}, count=1, block=milliseconds
            )


_Answer = tuple[Reading, frozenset[int]]
"""A reading, and which of the users asked about are removed."""


def _parameters(room_id: uuid.UUID, since: Position | None, user_ids: list[int]) -> ScriptCall:
    """KEYS and ARGV of read.lua."""
    keys = keys_of(room_id)
    position = (since.epoch, since.offset) if since else ("", 0)
    bounds = (RECOVERY_EVENTS, RECOVERY_BYTES, LATEST_EVENTS, IDLE_ROOM_SECONDS)
    arguments: tuple[Value, ...] = (*position, *bounds, secrets.token_hex(8), *user_ids)
    return (keys.meta, keys.log, keys.removed), arguments


def _parsed(answer: Any) -> _Answer | RedisError:
    if isinstance(answer, RedisError):
        return answer
    epoch, offset, began, recovered, removed, entries = answer
    reading = Reading(
        position=Position(epoch.decode(), offset),
        entries=tuple(Entry(int(key.split(b"-")[0]), event) for key, (_, event) in entries),
        recovered=bool(recovered),
        removed=False,
        began=float(began),
    )
    return reading, frozenset(map(int, removed))


def _for_user(answer: _Answer | RedisError, user_id: int | None) -> Reading | RedisError:
    if isinstance(answer, RedisError):
        return answer
    reading, removed = answer
    return replace(reading, removed=True) if user_id in removed else reading
