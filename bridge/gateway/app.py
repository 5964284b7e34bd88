"""The HTTP gateway: holds a browser's request while background workers answer it.

It knows nothing of the application. A request that ``bus.http`` has accepted goes onto the queue;
its answer goes back to the browser. docs/gateway.md says what happens when something in between
fails.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from bridge import metrics
from bridge.gateway.priorities import priority_of
from bridge.gateway.settings import GatewaySettings
from bus.errors import InvalidRpcMessage, RetryableError
from bus.http import rules
from bus.http.clients import TrustedProxies
from bus.http.errors import HttpRefused
from bus.http.front import (
    BrowserGone,
    Front,
    Receive,
    Response,
    Scope,
    Send,
    content_length,
    send_response,
)
from bus.http.server import HttpServer, listen, serve
from bus.rpc.client import RpcClient
from bus.rpc.messages import Answer, Failure, HeldRequest, Reply
from bus.runtime.health import OK, Check, Probes
from bus.runtime.ops_server import start_ops
from bus.runtime.process import notify_ready
from bus.runtime.settings import Environment
from bus.transport.broker_probe import BrokerProbe

LIVE = "/gateway/health/live"
READY = "/gateway/health/ready"
PING_SECONDS = 2.0

FAILURES = {
    "worker_lost": (502, "The worker was lost while it ran this request."),
    "application_failed": (500, "The application failed on this request."),
    "reply_too_large": (502, "The application's answer is too large."),
}


class Gateway:
    """The ASGI application: its own health, and the held requests."""

    def __init__(self, client: RpcClient, settings: GatewaySettings) -> None:
        self._client = client
        self._settings = settings
        self._held = 0
        self._front = Front(self, settings.limits, settings.allowed_hosts, _count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == LIVE:
            return await send_response(_health(200, "live"), send)
        if scope["path"] == READY:
            return await send_response(await self._ready(), send)
        return await self._front(scope, receive, send)

    async def respond(self, request: HeldRequest, gone: asyncio.Future[None]) -> Response:
        with self._hold():
            return _response(request, await self._ask(request, gone))

    @contextmanager
    def _hold(self) -> Iterator[None]:
        if self._held >= self._settings.max_held:
            raise HttpRefused(503, "too_many_held", "Too many requests are waiting.")
        self._held += 1
        try:
            with metrics.HELD.track_inprogress():
                yield
        finally:
            self._held -= 1

    async def _ask(self, request: HeldRequest, gone: asyncio.Future[None]) -> Answer:
        """Holds the request until it is answered, its deadline passes or the browser
        disconnects."""
        timeout = self._settings.timeout
        request = replace(request, deadline=time.time() + timeout)
        priority = priority_of(request.target, self._settings.priorities)
        asked_at = time.monotonic()
        answer = asyncio.wrap_future(self._client.send(request, priority))
        try:
            await asyncio.wait((answer, gone), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                metrics.RPC_SECONDS.observe(time.monotonic() - asked_at)
                return answer.result()
            if gone.done():
                raise BrowserGone
            raise HttpRefused(504, "timeout", f"There was no answer within {timeout:g} seconds.")
        except RetryableError as error:
            raise HttpRefused(503, "unavailable", "The request could not be queued.") from error
        except InvalidRpcMessage as error:
            raise HttpRefused(502, "bad_reply", "The answer could not be read.") from error
        finally:
            answer.cancel()

    async def _ready(self) -> Response:
        """Whether the gateway can publish requests and receive answers."""
        if not self._client.is_connected():
            return _health(503, "no connection for replies")
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._client.ping()), PING_SECONDS)
        except (RetryableError, TimeoutError):
            return _health(503, "cannot publish")
        return _health(200, "ready")


def _response(request: HeldRequest, answer: Answer) -> Response:
    match answer:
        case Reply(status=status):
            length = len(answer.body)
            headers = rules.reply_headers(request.method, status, answer.headers, length)
            is_bodiless = request.method == "HEAD" or status in rules.BODILESS
            return Response(status, headers, b"" if is_bodiless else answer.body)
        case Failure(code=code):
            status, message = FAILURES[code]
            raise HttpRefused(status, code, message)


def _count(status: int) -> None:
    metrics.ANSWERS.labels(f"{status // 100}xx").inc()


def _health(status: int, text: str) -> Response:
    body = json.dumps({"status": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    return Response(status, [*headers, content_length(body)], body)


def main(environment: Environment) -> None:
    """Serves until SIGTERM or SIGINT; requests held at that time are still answered."""
    settings = GatewaySettings.from_environment(environment)
    listener = listen("GATEWAY_PORT", settings.host, settings.port)
    client = RpcClient(settings.broker_url)
    ops = start_ops(environment, ready=Probes(_checks(settings.broker_url, client)))
    client.start()
    server = HttpServer(
        Gateway(client, settings),
        settings.limits,
        TrustedProxies(settings.proxies),
        grace=settings.limits.body + settings.timeout,
        on_ready=notify_ready,
    )
    try:
        serve(server, listener)
    finally:
        client.close()
        ops.close()


def _checks(broker_url: str, client: RpcClient) -> dict[str, Check]:
    return {
        "broker": BrokerProbe(broker_url),
        "requests": lambda: client.ping().result(PING_SECONDS),
        "replies": lambda: OK if client.is_connected() else "not connected",
    }
