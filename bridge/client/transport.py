"""One TCP connection of a browser: handshake, frames, deadlines, and writing without waiting.

RFC 6455 itself is spoken by websockets' Sans-I/O layer
(https://websockets.readthedocs.io/en/stable/howto/sansio.html). Its asyncio layer keeps a task,
queues and timers for each connection, which cost more memory and time than all the rest; and what
it sends waits for slow readers, or with its broadcast never drops them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import cast

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from bridge import metrics
from bridge.client.compression import deflated
from bridge.client.interfaces import Host, TransportHandler
from bridge.limits import Allowance
from bridge.protocol import MAX_FRAME_BYTES, Close, Encoded, SocketRefused

logger = logging.getLogger(__name__)
# At INFO it reports every socket, which is not the life cycle of the process.
library_logger = logging.getLogger("websockets.server")
library_logger.setLevel(logging.WARNING)

# Above our own limit, so that most messages that are too large get our close code.
MAX_MESSAGE_BYTES = 4 * MAX_FRAME_BYTES
# More than that waiting in the transport is a reader that is behind.
BEHIND_BYTES = 64 * 1024
# What the kernel takes that it cannot send yet; it would take megabytes that nobody reads, before
# anything piled up here.
UNSENT_BYTES = 16 * 1024


class SocketTransport(asyncio.Protocol):
    """A connection from its accept to its end. What is public is for its handler and its host."""

    __slots__ = (
        "_allowance",
        "_ends_at",
        "_heard_at",
        "_host",
        "_is_held",
        "_loop",
        "_message",
        "_protocol",
        "_refusal",
        "_talk",
        "_timer",
        "_timer_at",
        "_transport",
        "address",
    )

    _transport: asyncio.Transport

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self.address = ""
        self._host = host
        self._loop = loop
        self._protocol = ServerProtocol(
            origins=host.origins,
            extensions=host.extensions,
            max_size=MAX_MESSAGE_BYTES,
            logger=library_logger,
        )
        now = loop.time()
        self._allowance = Allowance(host.limits.frames, now)
        self._talk: TransportHandler | None = None
        # The pieces of a message that is not complete yet.
        self._message: bytearray | None = None
        self._is_held = False
        self._heard_at = now
        # When this phase of the connection ends, and how: None cuts it off.
        self._ends_at = now + host.limits.handshake
        self._refusal: SocketRefused | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    # What TransportHandler and Host may do

    def send(self, frames: Encoded) -> None:
        """Writes ``frames``, unless the conversation has ended."""
        if self._talk:
            self._transport.write(frames)

    @property
    def push(self) -> Callable[[Encoded], object]:
        """``send`` for the many: asyncio's own method, for a handler that has not ended.

        Neither waits. A reader that lets too much pile up is cut off soon after.
        """
        write = self._transport.write
        for extension in self._protocol.extensions:
            if isinstance(extension, PerMessageDeflate):
                bits = extension.local_max_window_bits
                return lambda frames: write(deflated(frames, bits))
        return write

    def close(self, refused: SocketRefused) -> None:
        """Says goodbye, and cuts the connection when the browser does not take part in it."""
        # A frame further on may have ended it already: they are parsed all at once.
        if self._talk and self._protocol.state is State.OPEN:
            logger.debug("%s: closed with %s", self._talk, refused)
            self._protocol.send_close(refused.code, refused.reason)
            self._flush()
            self._end_talk(refused.code)

    def reject(self, status: int, text: str) -> Response:
        return self._protocol.reject(status, text)

    def expire(self, at: float, refusal: SocketRefused) -> None:
        """From now on ``at``, a time of the loop, ends the wire with ``refusal``."""
        self._ends_at, self._refusal = at, refusal
        self._arm(at)

    def hold(self, is_held: bool) -> None:
        """Reads nothing more from the browser, or again."""
        self._is_held = is_held
        self._pause_or_resume()

    def abort(self) -> None:
        """Cuts the connection without a word."""
        self._end_talk("none")
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BEHIND_BYTES)
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
        )
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        if self._host.connected(self):
            self._arm(self._ends_at)
        else:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._take_request(event)
            elif isinstance(event, Frame) and self._talk:
                self._take_frame(self._talk, event)
        self._flush()
        if self._talk and self._protocol.state is not State.OPEN:
            self._end_talk(self._closing())

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._end_talk("none")
        # They refer to it: else all of it would be left to the garbage collector.
        self._protocol.parser.close()
        self._protocol.parser_exc = self._protocol.handshake_exc = None
        self._host.backlogs.end(self)
        self._host.gone(self)

    def pause_writing(self) -> None:
        self._host.backlogs.begin(self)
        # Who does not read gets no answers either.
        self._pause_or_resume()

    def resume_writing(self) -> None:
        self._host.backlogs.end(self)
        self._pause_or_resume()

    # Receiving

    def _take_request(self, request: Request) -> None:
        response = self._host.answer(self, request)
        if response is None:
            response = self._protocol.accept(request)
        self._protocol.send_response(response)
        self._ends_at = self._loop.time() + self._host.limits.close
        if self._protocol.state is State.OPEN:
            self._talk = self._host.opened(self)

    def _take_frame(self, talk: TransportHandler, frame: Frame) -> None:
        limits, now = self._host.limits, self._loop.time()
        self._heard_at = now
        try:
            if not self._allowance.take(now, limits.frames, limits.frames_per_second):
                raise SocketRefused(
                    Close.TOO_MANY, f"more than {limits.frames_per_second} frames/s"
                )
            message = self._text(frame)
            if message is not None:
                talk.received(message)
        except SocketRefused as refused:
            self.close(refused)

    def _text(self, frame: Frame) -> str | None:
        """The message that ``frame`` completes. Raises SocketRefused."""
        if frame.opcode is Opcode.BINARY:
            raise SocketRefused(
                Close.BAD_FRAME, "a binary frame; accepted are text frames with JSON"
            )
        if frame.opcode is not Opcode.TEXT and frame.opcode is not Opcode.CONT:
            return None
        data = frame.data
        if self._message is not None or not frame.fin:
            self._message = self._message or bytearray()
            self._message += data
            data = self._message
        if len(data) > MAX_FRAME_BYTES:
            raise SocketRefused(Close.TOO_LARGE, f"accepted are at most {MAX_FRAME_BYTES} bytes")
        if not frame.fin:
            return None
        self._message = None
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise SocketRefused(Close.NO_UTF8, f"no UTF-8 at byte {error.start}") from error

    # Ending

    def _closing(self) -> int | str:
        """Of the close frames that were exchanged, whose was first: our code, or the browser."""
        sent = self._protocol.close_sent
        return "browser" if not sent or self._protocol.close_rcvd_then_sent else sent.code

    def _end_talk(self, code: int | str) -> None:
        """``code`` is for the metrics."""
        talk, self._talk = self._talk, None
        if not talk:
            return
        metrics.CLOSINGS.labels(code).inc()
        talk.closed()
        self._message = None
        self._ends_at, self._refusal = self._loop.time() + self._host.limits.close, None
        self._arm(self._ends_at)

    @property
    def unread(self) -> int:
        return self._transport.get_write_buffer_size()

    def disconnect_slow(self) -> None:
        if self._talk:
            logger.warning("%s: reader too slow (%d)", self._talk, Close.TOO_SLOW)
            self._end_talk(Close.TOO_SLOW)
        self._transport.abort()

    def _check_deadlines(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now, limits = self._loop.time(), self._host.limits
        if now >= self._ends_at:
            self._expire()
        elif self._talk and now >= self._heard_at + limits.silence:
            self.close(SocketRefused(Close.SILENT, f"no frame within {limits.silence:g} s"))
        else:
            silent = self._heard_at + limits.silence if self._talk else self._ends_at
            self._arm(min(self._ends_at, silent))

    def _expire(self) -> None:
        if self._talk and self._refusal:
            self.close(self._refusal)
        else:
            self._transport.abort()

    def _arm(self, at: float) -> None:
        """Looks at the deadlines ``at`` the latest."""
        if at >= self._timer_at or self._transport.is_closing():
            return
        if self._timer:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._check_deadlines), at

    # Writing

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            else:
                self._transport.write_eof()

    def _pause_or_resume(self) -> None:
        if self._transport.is_closing():
            return
        if self._is_held or self in self._host.backlogs:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
