"""One browser's connection: uvicorn's protocol on httptools, with deadlines, shares and strictness.

httptools (llhttp, the parser of Node.js) refuses what two servers could read differently: a bare
LF, folded lines, a bare CR, a chunk extension with one, Transfer-Encoding beside Content-Length
(RFC 9112, 11.2). uvicorn bounds neither a head, nor the time for it, nor for reading an answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from enum import Enum, auto
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bus.http import metrics
from bus.http.clients import TrustedProxies
from bus.http.connections import ConnectionTable
from bus.http.cycle import Cycle
from bus.http.errors import HttpRefused, render
from bus.http.limits import HttpLimits

logger = logging.getLogger(__name__)

# Bytes that a body may take on the wire, by the body's size: chunks may be small.
CHUNKED_SIZE = 8


class Phase(Enum):
    """What a connection waits for."""

    HEAD = auto()
    BODY = auto()
    SERVER = auto()
    READER = auto()


class BoundedProtocol(HttpToolsProtocol):
    """A connection that ``table`` counts and may disconnect.

    What ``proxies`` forward names the client and the scheme of a request.
    """

    cycle: Cycle

    def __init__(
        self,
        limits: HttpLimits,
        table: ConnectionTable,
        proxies: TrustedProxies,
        **uvicorn: Any,
    ) -> None:
        super().__init__(**uvicorn)
        self._limits = limits
        self._table = table
        self._proxies = proxies
        self.address = self._peer = ""
        self.buffered = 0
        self._phase: Phase | None = None
        self._since = 0.0
        # How much was unread at ``_since``.
        self._unread = 0
        self._in_head = False
        # Bytes on the wire of the request that is not complete, and bytes of the body.
        self._received = 0
        self._body = 0
        # Requests without a complete answer.
        self._open = 0
        self._refused: HttpRefused | None = None
        self._is_ending = False
        # Done when the browser has disconnected.
        self._gone = self.loop.create_future()
        self.url = b""
        self.headers = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # The kernel would hold a small answer back until the client has acknowledged the last one.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Any unsent byte counts as an unread answer.
        transport.set_write_buffer_limits(high=0)
        self.address = self._peer = self.client[0] if self.client else ""
        has_room = self._table.add(self)
        self._update()
        if not has_room:
            self._refuse(HttpRefused(503, "too_many_connections", "Too many connections are open."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.remove(self)
        self._gone.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self._is_ending:
            return
        self._unset_keepalive_if_required()
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # There is nothing to upgrade to. The answer to this request is the connection's last.
            logger.debug("%s: no upgrade", self._peer)
        except httptools.HttpParserError as error:
            self._refuse(_refusal(error))
        else:
            self._bound()
        self._update()

    def disconnect(self) -> None:
        self.transport.abort()

    def overdue(self, now: float) -> str | None:
        waited = now - self._since
        most = self._limits.idle if self._is_ending else self._limits.head
        if self._phase is Phase.HEAD and waited > most:
            return "head"
        if self._phase is Phase.READER and waited > self._limits.behind:
            unread = self.transport.get_write_buffer_size()
            if self._unread - unread < self._limits.least_read:
                return "answer"
            self._since, self._unread = now, unread
        return None

    # What the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is no header: it could name another client.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begins the request. Unlike uvicorn's own, it leaves the target as it was sent."""
        self._in_head = False
        if self._open > self._limits.pipelined:
            raise HttpRefused(
                429, "too_many_pipelined", f"Accepted are {self._limits.pipelined} requests ahead."
            )
        path, _, query = self.url.partition(b"?")
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = self.parser.get_http_version()
        self.scope["path"] = unquote(path.decode("latin-1"))
        self.scope["raw_path"] = path
        self.scope["query_string"] = query
        self.scope["gone"] = self._gone  # type: ignore[typeddict-unknown-key]
        self._name_client()
        self._begin()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._body += len(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._received = 0

    # What the answer calls

    def on_response_complete(self) -> None:
        self._open -= 1
        self._body = 0
        # The time for the next head begins.
        self._phase = None
        self._table.move(self, self._peer)
        super().on_response_complete()
        if not self._open and not self.transport.is_closing():
            if self._refused:
                self._send_refusal(self._refused)
            elif self.cycle.is_early:
                self._end()
        self._update()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._update()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._update()

    def _begin(self) -> None:
        previous = self.cycle
        self.cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self._keeps_alive(),
            on_response=self.on_response_complete,
        )
        self._open += 1
        self._body = 0
        if previous is None or previous.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _keeps_alive(self) -> bool:
        if self.scope["http_version"] == "1.0" or self.parser.should_upgrade():
            return False
        return bool(self.parser.should_keep_alive())

    def _name_client(self) -> None:
        """Takes client and scheme from a trusted proxy, and counts the request to that client."""
        if self._peer not in self._proxies:
            return
        client = self._proxies.client(self._peer, self._field(b"x-forwarded-for"))
        self.scope["client"] = (client, 0)
        if self._field(b"x-forwarded-proto").rpartition(",")[2].strip().lower() == "https":
            self.scope["scheme"] = "https"
        if self._open == 0 and not self._table.move(self, client):
            raise HttpRefused(429, "too_many_connections", "Your address has too many connections.")

    def _field(self, name: bytes) -> str:
        return ",".join(value.decode("latin-1") for key, value in self.headers if key == name)

    def _bound(self) -> None:
        """Refuses a head or a body that takes too many bytes on the wire."""
        if self._in_head or not self._open:
            if self._received > self._limits.head_bytes:
                most = f"A head may have {self._limits.head_bytes} bytes."
                self._refuse(HttpRefused(431, "headers_too_large", most))
        elif self._received > self._limits.head_bytes + CHUNKED_SIZE * self._limits.body_bytes:
            most = f"A body may have {self._limits.body_bytes} bytes."
            self._refuse(HttpRefused(413, "body_too_large", most))

    def _update(self) -> None:
        """Tells the table what the connection waits for now, and how much it holds."""
        phase = self._find_phase()
        if phase is not self._phase:
            self._phase = phase
            self._since = self.loop.time()
            self._unread = self.transport.get_write_buffer_size()
            if phase is Phase.SERVER:
                self._table.run(self)
            else:
                self._table.wait(self)
        unread = self.transport.get_write_buffer_size() if phase is Phase.READER else 0
        self._table.buffer(self, max(unread, self._received, self._body))

    def _find_phase(self) -> Phase:
        if self.flow.write_paused:
            return Phase.READER
        if not self._open:
            return Phase.HEAD
        return Phase.BODY if self._open == 1 and self.cycle.more_body else Phase.SERVER

    def _refuse(self, refused: HttpRefused) -> None:
        """Answers with ``refused``, after the answers to what came before, and reads no more."""
        logger.debug("%s: %s", self._peer, refused)
        self._refused = refused
        self._received = 0
        if self._open and self.cycle.more_body:
            self._drop_newest()
        if not self._open:
            self._send_refusal(refused)

    def _drop_newest(self) -> None:
        """The request that is being read never becomes complete."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self._open -= 1
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()

    def _send_refusal(self, refused: HttpRefused) -> None:
        metrics.REFUSED.labels(refused.code).inc()
        accept = self._field(b"accept")
        headers, body = render(refused, "", self.url.decode("latin-1"), accept)
        headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        status = f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}"
        lines = [b"%s: %s" % field for field in (*self.server_state.default_headers, *headers)]
        self.transport.write(b"\r\n".join([status.encode(), *lines, b"", body]))
        self._end()

    def _end(self) -> None:
        """Ends the connection after what was written.

        The client may still be sending, and a closed socket would reset the connection before it
        has read the answer (RFC 9112, 9.6). So what it sends is read, and dropped.
        """
        self._is_ending = True
        self._received = 0
        self._unset_keepalive_if_required()
        self.transport.write_eof()
        self.flow.resume_reading()


def _refusal(error: httptools.HttpParserError) -> HttpRefused:
    """The answer to what the parser does not take. Raises what is not the client's fault."""
    if isinstance(error, httptools.HttpParserCallbackError) and error.__context__:
        if isinstance(error.__context__, HttpRefused):
            return error.__context__
        raise error.__context__
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return HttpRefused(501, "unknown_method", "This server does not know the method.")
    if "HTTP version" in str(error):
        return HttpRefused(505, "bad_version", "Accepted are HTTP/1.0 and HTTP/1.1.")
    return HttpRefused(400, "bad_request", f"This is not HTTP/1.1: {error}.")
