"""The process ``bridge``: WebSockets for browsers, fed by Redis, and health over HTTP."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, AsyncExitStack, closing, nullcontext
from functools import partial
from typing import Any

import redis.asyncio
import uvloop
from websockets.typing import Origin

from bridge.acceptor import Acceptor
from bridge.client.compression import extensions
from bridge.client.connection import Connection
from bridge.client.slow_readers import SlowReaders
from bridge.client.tickets import TicketVerifier
from bridge.client.transport import SocketTransport, TransportContext, TransportHandler
from bridge.hub.hub import Hub
from bridge.hub.logouts import LogoutWatch
from bridge.hub.presence import PresenceReporter
from bridge.hub.pubsub import PubSub
from bridge.hub.registry import ConnectionRegistry
from bridge.settings import BridgeSettings
from bus.errors import SettingError, StoreUnavailable
from bus.rooms.ended_sessions import SessionLogReader
from bus.rooms.log_reader import RoomLogReader
from bus.rooms.presence import EphemeralPublisher
from bus.rooms.redis_client import answering, connect_async
from bus.runtime.health import Check, Probes
from bus.runtime.ops_server import start_ops
from bus.runtime.process import notify_ready, on_stop_signals
from bus.runtime.settings import Environment

logger = logging.getLogger(__name__)

READY_TIMEOUT = 2.0
# Connections that the kernel queues until they are accepted; net.core.somaxconn also bounds it.
BACKLOG = 4_096


def main(environment: Environment) -> None:
    """Serves until SIGTERM or SIGINT."""
    settings = BridgeSettings.from_environment(environment)
    _collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(settings, environment))


def _collect_seldom() -> None:
    """Runs the garbage collector rarely. Ended sockets are freed without it, and traversing what
    thousands of sockets hold takes tenths of a second in which nothing is delivered."""
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


async def _main(settings: BridgeSettings, environment: Environment) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    on_stop_signals(lambda: loop.call_soon_threadsafe(stop.set))

    def serve_ops(redis: Check) -> AbstractContextManager[object]:
        return closing(start_ops(environment, ready=Probes({"redis": redis})))

    await run(settings, stop, on_ready=notify_ready, serve_ops=serve_ops)


async def run(
    settings: BridgeSettings,
    stop: asyncio.Event,
    on_ready: Callable[[], object] = lambda: None,
    serve_ops: Callable[[Check], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Serves until ``stop`` is set; calls ``on_ready`` once it is subscribed to Redis.

    ``serve_ops`` gets the health check of Redis; its context is open while this runs. Raises
    SettingError when it cannot listen on the address.
    """
    async with AsyncExitStack() as stack:
        client = connect_async(settings.redis_url)
        stack.push_async_callback(client.aclose)
        pubsub = PubSub(client, heartbeat=settings.heartbeat, silence=settings.silence)
        hub = Hub(pubsub, RoomLogReader(client))
        stack.enter_context(serve_ops(_from_other_threads(partial(_problem, pubsub, client))))
        registry = ConnectionRegistry()
        logouts = LogoutWatch(pubsub, SessionLogReader(client), registry)
        presence = PresenceReporter(hub, EphemeralPublisher(client))
        # After the drain, and when the tasks below have ended.
        stack.push_async_callback(presence.finish)
        work = asyncio.create_task(_work(pubsub, hub, logouts, presence, settings.verify_every))
        stack.push_async_callback(_cancel, work)
        acceptor = Acceptor(
            settings.limits,
            registry,
            proxies=settings.proxies,
            problem=lambda: _not_listening(pubsub),
        )
        stack.push_async_callback(acceptor.drain, settings.drain)
        open_handler = partial(
            Connection,
            verifier=TicketVerifier(settings.keys, client),
            hub=hub,
            presence=presence,
            registry=registry,
            limits=settings.limits,
        )
        server = await _listen(settings, _transport_context(settings, acceptor, open_handler))
        # Before the drain: browsers must not reconnect to this bridge.
        stack.callback(server.close)
        logger.info("listening on %s:%d", settings.host, settings.port)
        await _first(work, stop, pubsub.connected)
        if not stop.is_set():
            on_ready()
            await _first(work, stop)
        logger.info("stopping")


def _transport_context(
    settings: BridgeSettings,
    acceptor: Acceptor,
    open_handler: Callable[[SocketTransport], TransportHandler],
) -> TransportContext:
    return TransportContext(
        limits=settings.limits,
        origins=tuple(Origin(origin) for origin in settings.origins),
        extensions=extensions(settings.compression),
        acceptor=acceptor,
        slow_readers=SlowReaders(asyncio.get_running_loop(), settings.limits),
        open_handler=open_handler,
    )


async def _listen(settings: BridgeSettings, context: TransportContext) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(
            lambda: SocketTransport(context, loop),
            settings.host,
            settings.port,
            backlog=BACKLOG,
            # A new bridge may listen before the old one has gone, and several run side by side.
            reuse_port=True,
        )
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise SettingError("BRIDGE_PORT", f"cannot listen on {address}: {error}") from error


def _not_listening(pubsub: PubSub) -> str | None:
    return None if pubsub.connected.is_set() else "not listening to Redis"


async def _problem(pubsub: PubSub, client: redis.asyncio.Redis) -> str | None:
    if not_listening := _not_listening(pubsub):
        return not_listening
    try:
        async with answering(READY_TIMEOUT):
            await client.ping()
    except StoreUnavailable as error:
        return str(error)
    return None


def _from_other_threads(check: Callable[[], Coroutine[Any, Any, str | None]]) -> Check:
    """``check`` for other threads, run in this loop; it times out if the loop hangs."""
    loop = asyncio.get_running_loop()
    return lambda: asyncio.run_coroutine_threadsafe(check(), loop).result(2 * READY_TIMEOUT)


async def _work(
    pubsub: PubSub,
    hub: Hub,
    logouts: LogoutWatch,
    presence: PresenceReporter,
    verify_every: float,
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pubsub.run())
        tasks.create_task(hub.run_catch_ups())
        tasks.create_task(hub.verify_periodically(verify_every))
        tasks.create_task(logouts.run(verify_every))
        tasks.create_task(presence.run())


async def _first(work: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Waits for the first of ``events``. Raises the error of ``work``, which ends only with one."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait({work, *waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if work.done():
        work.result()


async def _cancel(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.wait({work})
