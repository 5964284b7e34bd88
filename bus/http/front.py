"""The ASGI application of both HTTP servers: from a browser's bytes to a legal request and back.

A request passes the rules of ``rules``, and its body is read whole, before anything works on it:
so no slow client holds a thread, or a place among the held requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol

from bus.http import rules
from bus.http.errors import HttpRefused, RawHeaders, render
from bus.http.limits import HttpLimits
from bus.http.rules import Head
from bus.rpc.messages import HeldRequest
from bus.runtime import trace

logger = logging.getLogger(__name__)

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# Of a body in a file, what is sent at once.
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """``body``: bytes, or a file that is read from where it stands, and closed."""

    status: int
    headers: RawHeaders
    body: bytes | IO[bytes]


class Responder(Protocol):
    """What answers the requests that are legal."""

    async def respond(self, request: HeldRequest, gone: asyncio.Future[None]) -> Response:
        """``gone`` is done when the browser has disconnected. Raises HttpRefused, BrowserGone."""


class BrowserGone(Exception):
    """The browser has disconnected before its answer."""


class Front:
    """Answers with what ``responder`` says, or with why it was not asked.

    ``allowed_hosts`` are the accepted Host headers. ``on_answer`` gets each answer's
    status.
    """

    def __init__(
        self,
        responder: Responder,
        limits: HttpLimits,
        allowed_hosts: tuple[str, ...],
        on_answer: Callable[[int], None] = lambda status: None,
    ) -> None:
        self._responder = responder
        self._limits = limits
        self._allowed_hosts = allowed_hosts
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with trace.continued(_traceparent(scope)):
            try:
                response = await self._respond(scope, receive)
            except HttpRefused as refused:
                response = _error(scope, refused)
            except BrowserGone:
                logger.debug("the browser disconnected: %s %s", scope["method"], scope["path"])
                return None
            self._on_answer(response.status)
            logger.debug("%s %s: %d", scope["method"], scope["path"], response.status)
            return await send_response(response, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        head = rules.admit(scope, self._allowed_hosts)
        body = await self._read_body(head, receive)
        return await self._responder.respond(_request(head, body), scope["gone"])

    async def _read_body(self, head: Head, receive: Receive) -> bytes:
        """The whole body. Raises HttpRefused when it is too large or too slow, and BrowserGone."""
        most, seconds = self._limits.body_bytes, self._limits.body
        too_large = HttpRefused(413, "body_too_large", f"A body may have {most} bytes.")
        if head.length is not None and head.length > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise BrowserGone
                    body += message["body"]
                    more = message["more_body"]
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            problem = f"The body did not arrive within {seconds:g} seconds."
            raise HttpRefused(408, "body_too_slow", problem, close=True) from None
        return bytes(body)


async def send_response(response: Response, send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": response.status, "headers": response.headers}
    )
    if isinstance(response.body, bytes):
        await send({"type": "http.response.body", "body": response.body})
        return
    # Piece by piece: ``send`` waits until the browser has read what came before.
    with response.body as file:
        is_last = False
        while not is_last:
            piece = file.read(PIECE_BYTES)
            is_last = len(piece) < PIECE_BYTES
            await send({"type": "http.response.body", "body": piece, "more_body": not is_last})


def _traceparent(scope: Scope) -> str:
    """The request's traceparent; two of them make an invalid one."""
    name = trace.HEADER.encode()
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _request(head: Head, body: bytes) -> HeldRequest:
    headers = tuple(header for header in head.headers if header[0] != trace.HEADER)
    return HeldRequest(
        method=head.method,
        target=head.target,
        headers=(*headers, (trace.HEADER, trace.traceparent())),
        body=body,
        client=head.client,
        scheme=head.scheme,
        deadline=float("inf"),
    )


def _error(scope: Scope, refused: HttpRefused) -> Response:
    accepts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
    headers, body = render(refused, scope["method"], scope["path"], ",".join(accepts))
    headers.append((trace.HEADER.encode(), trace.traceparent().encode()))
    if refused.close:
        headers.append((b"connection", b"close"))
    return Response(refused.status, [*headers, content_length(body)], body)


def content_length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()
