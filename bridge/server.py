"""The process ``bridge``: WebSockets for browsers, fed by Redis, and its health over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, AsyncExitStack, closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import redis.asyncio
import uvloop
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Origin

from bridge import metrics
from bridge.connection import Connection, Limits
from bridge.feed import Feed
from bridge.protocol import MAX_FRAME_BYTES, Close
from bridge.rooms import Rooms
from bridge.tickets import TicketDesk
from bus.errors import SettingError, SinkUnavailable
from bus.ops import start_ops
from bus.probes import Check, Probes
from bus.process import notify_ready, on_stop_signals
from bus.room_log import RoomLogReader, answering, async_client
from bus.settings import Environment
from bus.ticket import KeySet

logger = logging.getLogger(__name__)

READY_TIMEOUT = 2.0
NO_REQUEST = Request("/", Headers())


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """``heartbeat``, ``silence`` (see Feed) and ``patrol`` (see Rooms) are in seconds."""

    host: str
    port: int
    redis_url: str
    keys: KeySet
    origins: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    heartbeat: float = 5.0
    silence: float = 15.0
    patrol: float = 5.0

    @classmethod
    def from_environment(cls, environment: Environment) -> BridgeSettings:
        origins = environment.words("ALLOWED_ORIGINS")
        if not origins:
            raise SettingError(
                "ALLOWED_ORIGINS", "is not set; accepted are origins like https://chat.example.org"
            )
        return cls(
            host=environment.text("BRIDGE_HOST", "127.0.0.1"),
            port=environment.integer("BRIDGE_PORT", 8001, minimum=1, maximum=65_535),
            redis_url=environment.redis_url(),
            keys=KeySet.from_environment(environment),
            origins=origins,
        )


def main(environment: Environment) -> None:
    settings = BridgeSettings.from_environment(environment)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(settings, environment))


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
    """Serves until ``stop`` is set; calls ``on_ready`` once Redis is heard.

    ``serve_ops`` gets the check of Redis, and is entered for as long as this runs. Raises
    SettingError when an address cannot be listened on.
    """
    async with AsyncExitStack() as stack:
        client = async_client(settings.redis_url)
        stack.push_async_callback(client.aclose)
        feed = Feed(client, heartbeat=settings.heartbeat, silence=settings.silence)
        rooms = Rooms(feed, RoomLogReader(client))
        stack.enter_context(serve_ops(_from_other_threads(partial(_problem, feed, client))))
        work = asyncio.create_task(_work(feed, rooms, settings.patrol))
        stack.push_async_callback(_cancel, work)
        server = await _serve(settings, TicketDesk(settings.keys, client), rooms, feed, client)
        stack.push_async_callback(_close, server, settings.limits.close)
        logger.info("listening on %s:%d", settings.host, settings.port)
        await _first(work, stop, feed.connected)
        if not stop.is_set():
            on_ready()
            await _first(work, stop)
        logger.info("stopping")


async def _serve(
    settings: BridgeSettings,
    desk: TicketDesk,
    rooms: Rooms,
    feed: Feed,
    client: redis.asyncio.Redis,
) -> Server:
    async def talk(websocket: ServerConnection) -> None:
        # A third of an idle socket's memory, needed by nobody after the handshake.
        websocket.request, websocket.response = NO_REQUEST, None
        with metrics.SOCKETS.track_inprogress():
            await Connection(websocket, desk, rooms, settings.limits).run()

    library_logger = logging.getLogger("websockets.server")
    # At INFO it reports every socket, which is not the life cycle of the process.
    library_logger.setLevel(max(library_logger.getEffectiveLevel(), logging.WARNING))
    try:
        return await serve(
            talk,
            settings.host,
            settings.port,
            origins=[Origin(origin) for origin in settings.origins],
            process_request=partial(_health, feed, client),
            compression=None,
            # Above our own limit, so that most frames that are too large get our close code.
            max_size=4 * MAX_FRAME_BYTES,
            max_queue=4,
            ping_interval=None,
            close_timeout=settings.limits.close,
            logger=library_logger,
        )
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise SettingError("BRIDGE_PORT", f"cannot listen on {address}: {error}") from error


async def _health(
    feed: Feed, client: redis.asyncio.Redis, websocket: ServerConnection, request: Request
) -> Response | None:
    """Answers /health/live and /health/ready; anything else is a WebSocket handshake."""
    if request.path == "/health/live":
        return websocket.respond(HTTPStatus.OK, "live\n")
    if request.path == "/health/ready":
        problem = await _problem(feed, client)
        status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
        return websocket.respond(status, f"{problem or 'ready'}\n")
    return None


async def _problem(feed: Feed, client: redis.asyncio.Redis) -> str | None:
    if not feed.connected.is_set():
        return "not listening to Redis"
    try:
        async with answering(READY_TIMEOUT):
            await client.ping()
    except SinkUnavailable as error:
        return str(error)
    return None


def _from_other_threads(check: Callable[[], Coroutine[Any, Any, str | None]]) -> Check:
    """``check``, run in this loop, for threads: a loop that hangs has no answer."""
    loop = asyncio.get_running_loop()
    return lambda: asyncio.run_coroutine_threadsafe(check(), loop).result(2 * READY_TIMEOUT)


async def _work(feed: Feed, rooms: Rooms, patrol: float) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.run(rooms))
        tasks.create_task(rooms.keep_up())
        tasks.create_task(rooms.patrol(patrol))


async def _first(work: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Waits for the first of ``events``; ``work`` never ends but with an error: raises that."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait({work, *waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if work.done():
        work.result()


async def _cancel(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.wait({work})


async def _close(server: Server, seconds: float) -> None:
    """Stops accepting and says goodbye to all; cuts off who does not answer in ``seconds``."""
    server.close(code=Close.RESTARTING, reason="the server restarts; connect again")
    closed = asyncio.ensure_future(server.wait_closed())
    await asyncio.wait([closed], timeout=seconds)
    for websocket in list(server.all_connections):
        websocket.transport.abort()
    await closed
