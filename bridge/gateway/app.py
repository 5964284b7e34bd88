"""The HTTP gateway: holds a browser's request while background workers answer it.

It knows nothing of the application. A request passes the rules of ``request_rules`` and goes onto
the queue; its answer goes back to the browser. docs/gateway.md says what happens when something
in between fails.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bridge import metrics
from bridge.gateway import request_rules, server
from bridge.gateway.errors import HttpRefused, RawHeaders, render
from bridge.gateway.request_rules import MAX_BODY_BYTES, Head
from bridge.gateway.settings import GatewaySettings
from bus.errors import InvalidRpcMessage, RetryableError
from bus.rpc import Answer, Failure, HeldRequest, Reply, RpcClient
from bus.runtime import trace
from bus.runtime.health import OK, Check, Probes
from bus.runtime.ops_server import start_ops
from bus.runtime.settings import Environment
from bus.transport.broker_probe import BrokerProbe

logger = logging.getLogger(__name__)

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LIVE = "/gateway/health/live"
READY = "/gateway/health/ready"
BODY_SECONDS = 20.0
PING_SECONDS = 2.0

FAILURES = {
    "worker_lost": (502, "The worker was lost while it ran this request."),
    "application_failed": (500, "The application failed on this request."),
    "reply_too_large": (502, "The application's answer is too large."),
}


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: RawHeaders
    body: bytes


class Gateway:
    """The ASGI application."""

    def __init__(self, client: RpcClient, settings: GatewaySettings) -> None:
        self._client = client
        self._settings = settings
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == LIVE:
            return await _send(_health(200, "live"), send)
        if scope["path"] == READY:
            return await _send(await self._ready(), send)
        with trace.continued(_traceparent(scope)):
            try:
                response = await self._respond(scope, receive)
            except HttpRefused as refused:
                response = _error(scope, refused)
            except BrowserGone:
                logger.debug("the browser disconnected: %s %s", scope["method"], scope["path"])
                return None
            metrics.ANSWERS.labels(f"{response.status // 100}xx").inc()
            logger.debug("%s %s: %d", scope["method"], scope["path"], response.status)
            return await _send(response, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        with self._hold():
            head = request_rules.admit(scope, self._settings.allowed_hosts)
            body = await _read_body(head, receive)
            return _response(head, await self._ask(head, body, receive))

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

    async def _ask(self, head: Head, body: bytes, receive: Receive) -> Answer:
        """Holds the request until it is answered, its deadline passes or the browser
        disconnects."""
        timeout = self._settings.timeout
        request = _request(head, body, time.time() + timeout)
        priority = request_rules.priority_of(head.target, self._settings.priorities)
        asked_at = time.monotonic()
        answer = asyncio.wrap_future(self._client.send(request, priority))
        gone = asyncio.ensure_future(_disconnected(receive))
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
            gone.cancel()

    async def _ready(self) -> Response:
        """Whether the gateway can publish requests and receive answers."""
        if not self._client.is_connected():
            return _health(503, "no connection for replies")
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._client.ping()), PING_SECONDS)
        except (RetryableError, TimeoutError):
            return _health(503, "cannot publish")
        return _health(200, "ready")


async def _send(response: Response, send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": response.status, "headers": response.headers}
    )
    await send({"type": "http.response.body", "body": response.body})


class BrowserGone(Exception):
    """The browser has disconnected before its answer."""


async def _read_body(head: Head, receive: Receive) -> bytes:
    """The whole body. Raises HttpRefused when it is too large or too slow, and BrowserGone."""
    too_large = HttpRefused(413, "body_too_large", f"A body may have {MAX_BODY_BYTES} bytes.")
    if head.length is not None and head.length > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BrowserGone
                body += message["body"]
                more = message["more_body"]
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        problem = f"The body did not arrive within {BODY_SECONDS:g} seconds."
        raise HttpRefused(408, "body_too_slow", problem, close=True) from None
    return bytes(body)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _traceparent(scope: Scope) -> str:
    """The request's traceparent; two of them make an invalid one."""
    name = trace.HEADER.encode()
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _request(head: Head, body: bytes, deadline: float) -> HeldRequest:
    headers = tuple(header for header in head.headers if header[0] != trace.HEADER)
    return HeldRequest(
        method=head.method,
        target=head.target,
        headers=(*headers, (trace.HEADER, trace.traceparent())),
        body=body,
        client=head.client,
        scheme=head.scheme,
        deadline=deadline,
    )


def _response(head: Head, answer: Answer) -> Response:
    match answer:
        case Reply():
            headers = request_rules.reply_headers(head.method, answer)
            bodiless = head.method == "HEAD" or answer.status in request_rules.BODILESS
            return Response(answer.status, headers, b"" if bodiless else answer.body)
        case Failure(code=code):
            status, message = FAILURES[code]
            raise HttpRefused(status, code, message)


def _error(scope: Scope, refused: HttpRefused) -> Response:
    accepts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
    headers, body = render(refused, scope["method"], scope["path"], ",".join(accepts))
    headers.append((trace.HEADER.encode(), trace.traceparent().encode()))
    # A client that waits for "100 Continue" may or may not send its body after this answer.
    if refused.close or any(name == b"expect" for name, _ in scope["headers"]):
        headers.append((b"connection", b"close"))
    return Response(refused.status, [*headers, _length(body)], body)


def _health(status: int, text: str) -> Response:
    body = json.dumps({"status": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    return Response(status, [*headers, _length(body)], body)


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


def main(environment: Environment) -> None:
    """Serves until SIGTERM or SIGINT; requests held at that time are still answered."""
    settings = GatewaySettings.from_environment(environment)
    listener = server.listen(settings.host, settings.port)
    client = RpcClient(settings.broker_url)
    ops = start_ops(environment, ready=Probes(_checks(settings.broker_url, client)))
    client.start()
    try:
        server.serve(
            Gateway(client, settings),
            listener,
            proxies=settings.proxies,
            grace=BODY_SECONDS + settings.timeout,
        )
    finally:
        client.close()
        ops.close()


def _checks(broker_url: str, client: RpcClient) -> dict[str, Check]:
    return {
        "broker": BrokerProbe(broker_url),
        "requests": lambda: client.ping().result(PING_SECONDS),
        "replies": lambda: OK if client.is_connected() else "not connected",
    }
