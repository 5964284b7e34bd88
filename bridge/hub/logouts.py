"""Log-out: the sockets of a login session end with it."""

from __future__ import annotations

import asyncio
import logging

from bridge.hub.pubsub import PubSub
from bridge.hub.registry import ConnectionRegistry
from bus.errors import StoreUnavailable
from bus.rooms.ended_sessions import CHANNEL, EndedSession, SessionLogReader

logger = logging.getLogger(__name__)


class LogoutWatch:
    """Hears of ended sessions on their channel, and reads their log whenever it may have missed
    something, and every now and then."""

    def __init__(
        self, pubsub: PubSub, reader: SessionLogReader, registry: ConnectionRegistry
    ) -> None:
        self._reader = reader
        self._registry = registry
        self._doubted = asyncio.Event()
        pubsub.subscribe(CHANNEL, self)

    def subscribed(self, channel: bytes) -> None:
        self._doubted.set()

    def published(self, channel: bytes, data: bytes) -> None:
        try:
            ended = EndedSession.parse(data)
        except ValueError:
            logger.warning("what was published of sessions cannot be read; reading their log")
            self._doubted.set()
            return
        self._registry.end_session(ended.user_id, ended.session)

    async def keep_up(self, interval: float) -> None:
        """Reads the log when it is doubted, and every ``interval`` seconds, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(interval):
                    await self._doubted.wait()
            except TimeoutError:
                pass  # a message that Redis lost on the way leaves no sign
            self._doubted.clear()
            try:
                for ended in await self._reader.read():
                    self._registry.end_session(ended.user_id, ended.session)
            except StoreUnavailable as error:
                logger.debug("the log of ended sessions cannot be read: %s", error)
