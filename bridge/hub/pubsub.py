"""Redis pub/sub on one connection per bridge; reports every possible gap.

Pub/sub guarantees nothing: a lost connection or a stalled link loses messages without an error.
The client library would subscribe again silently. So this module makes and watches the connection
itself: after every connection it reports each channel as subscribed again, and a heartbeat of its
own shows that messages still arrive.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

import hiredis
import redis.asyncio
from redis.exceptions import RedisError

from bus.errors import StoreUnavailable
from bus.rooms.redis_client import answering
from bus.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024


class Listener(Protocol):
    """Receives what is published on a channel. No method waits or raises."""

    def subscribed(self, channel: bytes) -> None:
        """Messages of ``channel`` arrive from now on; earlier ones may have been missed."""
        ...

    def published(self, channel: bytes, data: bytes) -> None: ...


class PubSub:
    """The channels of this bridge, subscribed to again after every loss of the connection.

    ``client`` comes from ``bus.rooms.redis_client.connect_async``. A heartbeat is published every
    ``heartbeat`` seconds; when nothing has arrived for ``silence`` seconds, the connection is
    replaced. ``connected`` is set while messages arrive. Nothing is read from Redis while
    ``may_read`` is not set.
    """

    def __init__(
        self, client: redis.asyncio.Redis, *, heartbeat: float = 5.0, silence: float = 15.0
    ) -> None:
        self.connected = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._client = client
        self._heartbeat = heartbeat
        self._silence = silence
        self._own_channel = f"bridge:{uuid.uuid4().hex}".encode()
        self._listeners: dict[bytes, Listener] = {}
        # One task sends them, so Redis sees them in the order of the calls. Without a connection
        # there is no queue, since nothing would empty it: the next one starts with ``_listeners``.
        self._commands: asyncio.Queue[tuple[str, bytes]] | None = None

    def subscribe(self, channel: bytes, listener: Listener) -> None:
        """Subscribes to ``channel``; calls ``listener.subscribed`` when Redis has confirmed it."""
        self._listeners[channel] = listener
        self._command("SUBSCRIBE", channel)

    def unsubscribe(self, channel: bytes) -> None:
        self._listeners.pop(channel, None)
        self._command("UNSUBSCRIBE", channel)

    def _command(self, name: str, channel: bytes) -> None:
        if self._commands is not None:
            self._commands.put_nowait((name, channel))

    async def run(self) -> None:
        """Delivers what is published to the listeners, until cancelled."""
        backoff = Backoff(longest=2.0)
        while True:
            try:
                await self._listen(backoff)
            except* (RedisError, OSError, StoreUnavailable) as lost:
                delay = backoff.next()
                logger.warning("lost Redis: %s; reconnecting in %.1f s", lost.exceptions[0], delay)
                await asyncio.sleep(delay)

    async def _listen(self, backoff: Backoff) -> None:
        pool: Any = self._client.connection_pool
        async with answering():
            connection = await pool.get_connection()
        try:
            commands: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
            self._commands = commands
            for channel in (self._own_channel, *self._listeners):
                self._command("SUBSCRIBE", channel)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(connection, commands))
                tasks.create_task(self._beat())
                tasks.create_task(self._read(connection, backoff))
        finally:
            self.connected.clear()
            self._commands = None
            # Never reused: it is still subscribed to channels.
            await connection.disconnect(nowait=True)
            await pool.release(connection)

    async def _write(self, connection: Any, commands: asyncio.Queue[tuple[str, bytes]]) -> None:
        while True:
            batch = [await commands.get()]
            while not commands.empty():
                batch.append(commands.get_nowait())
            await connection.send_packed_command(connection.pack_commands(batch))

    async def _beat(self) -> None:
        while True:
            async with answering():
                await self._client.publish(self._own_channel, b"")
            await asyncio.sleep(self._heartbeat)

    async def _read(self, connection: Any, backoff: Backoff) -> None:
        # redis-py would pass each message through a timer and several coroutines.
        stream: asyncio.StreamReader = connection._reader
        replies = hiredis.Reader()
        while True:
            for reply in _replies(replies, await self._chunk(stream)):
                self._take(reply, backoff)
            await self.may_read.wait()

    async def _chunk(self, stream: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._silence):
                data = await stream.read(CHUNK_BYTES)
        except TimeoutError as error:
            raise StoreUnavailable(f"nothing arrived for {self._silence:g} s") from error
        if not data:
            raise StoreUnavailable("Redis closed the connection")
        return data

    def _take(self, reply: Any, backoff: Backoff) -> None:
        kind, channel, data = reply
        if channel == self._own_channel:
            self._confirm(backoff)
            return
        # Messages of a channel that has just been left may still arrive.
        listener = self._listeners.get(channel)
        if listener and kind == b"message":
            listener.published(channel, data)
        elif listener and kind == b"subscribe":
            listener.subscribed(channel)

    def _confirm(self, backoff: Backoff) -> None:
        """Redis has confirmed the bridge's own channel, or returned its heartbeat."""
        if not self.connected.is_set():
            logger.info("listening to Redis, %d channels", len(self._listeners))
            self.connected.set()
            backoff.reset()


def _replies(reader: hiredis.Reader, data: bytes) -> Iterator[Any]:
    """The replies that ``data`` completes. Raises StoreUnavailable for an error among them."""
    try:
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            if isinstance(reply, hiredis.HiredisError):
                raise reply
            yield reply
    except hiredis.HiredisError as error:
        raise StoreUnavailable(f"Redis: {error}") from error
