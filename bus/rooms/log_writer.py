"""Appends events to the logs of their rooms, and publishes them: one script does both."""

from __future__ import annotations

import secrets
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import ResponseError

from bus.errors import PermanentError
from bus.events import Event
from bus.rooms.batching import Call, rounds
from bus.rooms.lua_script import LuaScript, ScriptCall, Value
from bus.rooms.model import (
    BEGAN,
    IDLE_ROOM_SECONDS,
    LOG_LENGTH,
    RENEWAL_SECONDS,
    SEEN_SECONDS,
    Position,
    keys_of,
)
from bus.rooms.redis_client import ANSWER_SECONDS, connect, redis_errors, unavailable

ROOMS_REMEMBERED = 10_000

# A key of another type, and a log that is ahead of its offset.
_KEY_ERRORS = ("WRONGTYPE", "equal or smaller than the target stream top item")


class RoomLogWriter:
    """Appends events to their rooms' logs. Use it from one thread; ``ping`` from any.

    It remembers its position in the rooms that it wrote to recently. A log that is behind that
    position, in the same epoch, has lost events to a failover, and begins a new epoch.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._last: OrderedDict[uuid.UUID, Position] = OrderedDict()
        self._script = LuaScript(client, "append.lua")

    @classmethod
    def connect(cls, url: str, timeout: float = ANSWER_SECONDS) -> RoomLogWriter:
        return cls(connect(url, timeout))

    def append(self, batch: Sequence[Event], *, replay: str = "") -> list[int]:
        """Appends ``batch``, each room's events in order; each one's offset, 0 if it was known.

        With ``replay`` (a name for this replay run) nothing is published, and only rooms whose
        log is gone are filled. Raises StoreUnavailable when Redis can accept nothing now, and
        PermanentError when it refuses an event of this batch for good. After either, the whole
        batch may be appended again.
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
            # Redis may have forgotten removals too: earlier tickets must be replaced.
            with redis_errors():
                self._client.delete(BEGAN)
        if position.offset:
            self._last[room_id] = position
            self._last.move_to_end(room_id)
        if len(self._last) > ROOMS_REMEMBERED:
            self._last.popitem(last=False)

    def ping(self) -> None:
        """Raises StoreUnavailable when Redis does not answer."""
        with redis_errors():
            self._client.ping()

    def close(self) -> None:
        self._client.close()


def _parameters(call: Call, settings: Sequence[Value], last: Position | None) -> ScriptCall:
    """KEYS and ARGV of append.lua."""
    keys = keys_of(call.room_id)
    names = (keys.meta, keys.log, keys.seen, keys.removed)
    position = (last.epoch, last.offset) if last else ("", 0)
    return names, (keys.channel, *settings, *position, *call.events)


def _checked(calls: Sequence[Call], answers: list[Any]) -> list[tuple[bytes, list[int]]]:
    """``answers``, unless one is an error.

    An error of Redis as a whole goes before the refusal of one room's keys.
    """
    failed = [
        (call.room_id, answer)
        for call, answer in zip(calls, answers, strict=True)
        if isinstance(answer, ResponseError)
    ]
    for _, error in failed:
        if not _is_of_keys(error):
            raise unavailable(error) from error
    for room_id, error in failed:
        raise PermanentError(f"Redis refused the log of room {room_id}: {error}") from error
    return answers


def _is_of_keys(error: ResponseError) -> bool:
    """Whether ``error`` comes from what a room's keys hold, so that waiting will not help.

    Redis 6 wraps the errors of a script's commands in one of its own, so the text may stand
    anywhere. All other errors (OOM, LOADING, READONLY, BUSY, NOREPLICAS, NOPERM, …) may pass.
    """
    return any(text in str(error) for text in _KEY_ERRORS)
