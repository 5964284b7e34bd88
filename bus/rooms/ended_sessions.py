"""Login sessions that have ended, as a log in Redis and a channel that tells of new ones.

The web writes, the bridges read: they close the sockets of these sessions. Who misses what the
channel tells reads the log. A ticket that was signed before the end, and comes after it, finds a
key of the session's own. The hash tag keeps all of it together on a cluster.
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
# Longer than a ticket lives by any clock that is roughly right.
TICKET_SECONDS = 2 * LIFETIME


@dataclass(frozen=True, slots=True)
class EndedSession:
    """``session`` as tickets name it."""

    user_id: int
    session: str

    @classmethod
    def parse(cls, data: bytes) -> EndedSession:
        """What the channel tells. Raises ValueError."""
        user_id, session = data.decode().split(" ")
        return cls(int(user_id), session)


def key_of(session: str) -> str:
    """The key that is there while a ticket of this ended session may still be used."""
    return f"{{sessions}}:ended:{session}"


def end_session(url: str, ended: EndedSession) -> None:
    """Tells all bridges. Raises StoreUnavailable."""
    fields: dict[str, str | int] = {"user": ended.user_id, "session": ended.session}
    with redis_errors(), connect(url) as client, client.pipeline(transaction=True) as pipeline:
        pipeline.set(key_of(ended.session), 1, ex=TICKET_SECONDS)
        pipeline.xadd(_LOG, fields, maxlen=LOG_LENGTH)
        pipeline.publish(CHANNEL, f"{ended.user_id} {ended.session}")
        pipeline.execute()


class SessionLogReader:
    """Reads the log from where it was last read. ``client`` comes from
    ``connect_async``."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        # Where the next reading begins.
        self._start: str | None = None

    async def read(self) -> list[EndedSession]:
        """What has ended since the last reading; the first one tells of those whose tickets may
        still be on their way. Raises StoreUnavailable."""
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
        # Not before all of it was read: what is not returned must be read again.
        self._start = start
        return ended

    async def _first_start(self) -> str:
        seconds, _ = await self._client.time()
        return f"{(int(seconds) - TICKET_SECONDS) * 1_000}-0"
