"""Login sessions that have ended, as a log in Redis and a channel that announces new ones.

The web tier writes; the bridges read, and close the sockets of these sessions. A bridge that
misses an announcement reads the log. Each ended session also has a key, by which a bridge refuses
a ticket that was signed before the end and arrives after it. The hash tag keeps all of these keys
together on a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis.asyncio

from bus.rooms.redis_client import answering, connect, redis_errors
from bus.ticket import LIFETIME

CHANNEL = b"{sessions}:told"
_LOG = "{sessions}:ended"
LOG_LENGTH = 100_000
PAGE = 1_000
# Longer than a ticket is valid by any clock that is roughly right.
TICKET_SECONDS = 2 * LIFETIME


@dataclass(frozen=True, slots=True)
class EndedSession:
    """``session`` as tickets name it."""

    user_id: int
    session: str

    @classmethod
    def parse(cls, data: bytes) -> EndedSession:
        """A message on the channel. Raises ValueError if it is malformed."""
        user_id, session = data.decode().split(" ")
        return cls(int(user_id), session)


def key_of(session: str) -> str:
    """The key that exists while a ticket of this ended session may still arrive."""
    return f"{{sessions}}:ended:{session}"


def end_session(url: str, ended: EndedSession) -> None:
    """Announces the end to all bridges. Raises StoreUnavailable."""
    fields: dict[str, str | int] = {"user": ended.user_id, "session": ended.session}
    with redis_errors(), connect(url) as client, client.pipeline(transaction=True) as pipeline:
        pipeline.set(key_of(ended.session), 1, ex=TICKET_SECONDS)
        pipeline.xadd(_LOG, fields, maxlen=LOG_LENGTH)
        pipeline.publish(CHANNEL, f"{ended.user_id} {ended.session}")
        pipeline.execute()


class SessionLogReader:
    """Reads the log from where it was last read. ``client`` comes from ``connect_async``."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        # Where the next reading begins.
        self._start: str | None = None

    async def read(self) -> list[EndedSession]:
        """The sessions that have ended since the last call.

        The first call returns those whose tickets may still be on their way. Raises
        StoreUnavailable.
        """
        ended: list[EndedSession] = []
        async with answering():
            start = self._start or await self._first_start()
            while True:
                page: Any = await self._client.xrange(_LOG, start, count=PAGE)
                for position, fields in page:
                    start = f"({position.decode()}"
                    ended.append(EndedSession(int(fields[b"user"]), fields[b"session"].decode()))
                if len(page) < PAGE:
                    break
        # Only now that all was read: after an error the next call must read it again.
        self._start = start
        return ended

    async def _first_start(self) -> str:
        seconds, _ = await self._client.time()
        return f"{(int(seconds) - TICKET_SECONDS) * 1_000}-0"
