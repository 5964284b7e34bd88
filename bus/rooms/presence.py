"""Ephemeral room state (presence, typing): published in order, never stored.

It goes over the room's channel, in order with the room's events, so a removed member learns
nothing of what happens afterwards. A bridge that misses it gets the next state.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from bus.rooms.lua_script import AsyncLuaScript, ScriptCall
from bus.rooms.model import keys_of
from bus.rooms.redis_client import answering, unavailable

# A bridge reports every REFRESH_SECONDS who is present. After LIFE_SECONDS without a report it
# counts as dead, so what a crashed bridge left is gone within the sum of both.
REFRESH_SECONDS = 8.0
LIFE_SECONDS = 20
MOST_LISTED = 100

_PREFIX = b"!"


class UserRef(msgspec.Struct, frozen=True):
    id: int
    name: str


class PresentUsers(msgspec.Struct, frozen=True):
    """The users in a room: the first MOST_LISTED by id, and how many there are."""

    users: list[UserRef]
    count: int


class TypingUsers(msgspec.Struct, frozen=True):
    users: list[UserRef]


Ephemeral = PresentUsers | TypingUsers
_DECODERS: Mapping[bytes, msgspec.json.Decoder[Any]] = {
    b"presence": msgspec.json.Decoder(PresentUsers),
    b"typing": msgspec.json.Decoder(TypingUsers),
}


@dataclass(frozen=True, slots=True)
class LocalPresence:
    """The users in a room on one bridge. ``in_any_case``: publish it even if nothing changed."""

    room_id: uuid.UUID
    users: Sequence[UserRef]
    in_any_case: bool


def parse_ephemeral(data: bytes) -> Ephemeral | None:
    """The ephemeral state in ``data``; None if it is an event. Raises ValueError if malformed."""
    if not data.startswith(_PREFIX):
        return None
    kind, _, text = data[1:].partition(b" ")
    if kind not in _DECODERS:
        raise ValueError(f"unknown kind {kind!r}")
    ephemeral: Ephemeral = _DECODERS[kind].decode(text)
    return ephemeral


class EphemeralPublisher:
    """Publishes for one bridge. ``client`` comes from ``connect_async``."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._script = AsyncLuaScript(client, "presence.lua")
        self._bridge = uuid.uuid4().hex

    async def publish_presence(self, rooms: Iterable[LocalPresence]) -> None:
        """Reports who is present on this bridge, for LIFE_SECONDS from now.

        Raises StoreUnavailable.
        """
        async with answering():
            answers = await self._script.run([self._parameters(room) for room in rooms])
        for answer in answers:
            if isinstance(answer, RedisError):
                raise unavailable(answer) from answer

    async def publish_typing(self, rooms: Iterable[tuple[uuid.UUID, Sequence[UserRef]]]) -> None:
        """Publishes who is typing in each of ``rooms``. Raises StoreUnavailable."""
        pipeline = self._client.pipeline(transaction=False)
        for room_id, users in rooms:
            text = msgspec.json.encode(TypingUsers(list(users)))
            pipeline.publish(keys_of(room_id).channel, _PREFIX + b"typing " + text)
        async with answering():
            await pipeline.execute()

    def _parameters(self, room: LocalPresence) -> ScriptCall:
        """KEYS and ARGV of presence.lua."""
        keys = keys_of(room.room_id)
        bounds = (LIFE_SECONDS, MOST_LISTED, int(room.in_any_case))
        listed = msgspec.json.encode(room.users[:MOST_LISTED])
        arguments = (keys.channel, self._bridge, *bounds, len(room.users), listed)
        return (keys.present, keys.told), arguments
