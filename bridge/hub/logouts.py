"""Log-out: closes the sockets of a login session that has ended."""

from __future__ import annotations

import asyncio
import logging

from bridge.hub.pubsub import PubSub
from bridge.hub.registry import ConnectionRegistry
from bus.errors import StoreUnavailable
from bus.rooms.ended_sessions import CHANNEL, EndedSession, SessionLogReader

logger = logging.getLogger(__name__)


class LogoutWatch:
    """Listens for ended sessions on their channel. Reads their log periodically, and whenever it
    may have missed one."""

    def __init__(
        self, pubsub: PubSub, reader: SessionLogReader, registry: ConnectionRegistry
    ) -> None:
        self._reader = reader
        self._registry = registry
        self._stale = asyncio.Event()
        pubsub.subscribe(CHANNEL, self)

    def subscribed(self, channel: bytes) -> None:
        self._stale.set()

    def published(self, channel: bytes, data: bytes) -> None:
        try:
            ended = EndedSession.parse(data)
        except ValueError:
            logger.warning("received no valid ended session; reading their log")
            self._stale.set()
            return
        self._registry.end_session(ended.user_id, ended.session)

    async def run(self, interval: float) -> None:
        """Reads the log when it is stale, and every ``interval`` seconds, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(interval):
                    await self._stale.wait()
            except TimeoutError:
                pass  # a lost message leaves no sign
            self._stale.clear()
            try:
                for ended in await self._reader.read():
                    self._registry.end_session(ended.user_id, ended.session)
            except StoreUnavailable as error:
                logger.debug("cannot read the log of ended sessions: %s", error)
