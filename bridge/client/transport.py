"""A browser's TCP connection: handshake, frames, deadlines, and writes that never wait.

websockets' Sans-I/O layer speaks RFC 6455
(https://websockets.readthedocs.io/en/stable/howto/sansio.html). The library's asyncio layer is not
used: its tasks, queues and timers for each connection cost more memory and time than all the rest,
and its sends wait for slow readers, or with its broadcast never drop them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from websockets.extensions import ServerExtensionFactory
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin

from bridge import metrics
from bridge.acceptor import Acceptor, HttpAnswer
from bridge.client.compression import deflated
from bridge.client.messages import MessageAssembler
from bridge.client.slow_readers import SlowReaders
from bridge.limits import Allowance, Limits
from bridge.protocol import MAX_FRAME_BYTES, Close, Encoded, SocketRefused

logger = logging.getLogger(__name__)
# At INFO it logs every socket, which is not the life cycle of the process.
library_logger = logging.getLogger("websockets.server")
library_logger.setLevel(logging.WARNING)

# Above our own limit, so that most messages that are too large get our close code.
MAX_MESSAGE_BYTES = 4 * MAX_FRAME_BYTES
# A reader with more than this unsent is behind.
BEHIND_BYTES = 64 * 1024
# What the kernel accepts before it can send it. By default it accepts megabytes, and a reader that
# does not read would be noticed only after that.
UNSENT_BYTES = 16 * 1024


class TransportHandler(Protocol):
    """The conversation on an open transport. No method waits; ``closed`` does not raise. Its
    ``str`` is for logs."""

    def received(self, message: str) -> None:
        """Handles a message. Raises SocketRefused, which closes the transport."""
        ...

    def closed(self) -> None:
        """Nothing more can be sent. Called once."""
        ...


@dataclass(frozen=True, slots=True)
class TransportContext:
    """What all transports of one bridge share. ``open_handler`` makes the handler of a transport
    whose handshake is done; it does not wait or raise."""

    limits: Limits
    origins: Sequence[Origin]
    extensions: Sequence[ServerExtensionFactory]
    acceptor: Acceptor
    slow_readers: SlowReaders
    open_handler: Callable[[SocketTransport], TransportHandler]


class SocketTransport(asyncio.Protocol):
    """A connection from accept to end."""

    __slots__ = (
        "_allowance",
        "_context",
        "_ends_at",
        "_handler",
        "_heard_at",
        "_is_paused",
        "_loop",
        "_messages",
        "_protocol",
        "_refusal",
        "_timer",
        "_timer_at",
        "_transport",
        "address",
    )

    _transport: asyncio.Transport

    def __init__(self, context: TransportContext, loop: asyncio.AbstractEventLoop) -> None:
        self.address = ""
        self._context = context
        self._loop = loop
        self._protocol = ServerProtocol(
            origins=context.origins,
            extensions=context.extensions,
            max_size=MAX_MESSAGE_BYTES,
            logger=library_logger,
        )
        now = loop.time()
        self._allowance = Allowance(context.limits.frames, now)
        self._handler: TransportHandler | None = None
        self._messages = MessageAssembler()
        self._is_paused = False
        self._heard_at = now
        # When this phase of the connection ends, and how: None cuts it off.
        self._ends_at = now + context.limits.handshake
        self._refusal: SocketRefused | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    # For the handler, the acceptor and the slow readers

    def send(self, frames: Encoded) -> None:
        """Writes ``frames``, unless the conversation has ended."""
        if self._handler:
            self._transport.write(frames)

    @property
    def push(self) -> Callable[[Encoded], object]:
        """``send`` for fan-out: asyncio's own method, valid until the handler is closed.

        It does not wait. A reader with too much unsent is disconnected soon after.
        """
        write = self._transport.write
        for extension in self._protocol.extensions:
            if isinstance(extension, PerMessageDeflate):
                bits = extension.local_max_window_bits
                return lambda frames: write(deflated(frames, bits))
        return write

    def close(self, refused: SocketRefused) -> None:
        """Starts the closing handshake, and cuts the connection off if the browser does not
        answer within ``limits.close`` seconds."""
        # An earlier frame of the same packet may have closed it.
        if self._handler and self._protocol.state is State.OPEN:
            logger.debug("%s: closed with %s", self._handler, refused)
            self._protocol.send_close(refused.code, refused.reason)
            self._flush()
            self._end_conversation(refused.code)

    def expire(self, at: float, refusal: SocketRefused) -> None:
        """Sets the deadline: ``at``, a time of the loop, closes the transport with ``refusal``."""
        self._ends_at, self._refusal = at, refusal
        self._arm(at)

    def pause_reading(self) -> None:
        """Reads nothing more from the browser until ``resume_reading``."""
        self._is_paused = True
        self._apply_pause()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._apply_pause()

    def abort(self) -> None:
        """Cuts the connection off without a closing handshake."""
        self._end_conversation("none")
        self._transport.abort()

    @property
    def unread(self) -> int:
        """Bytes that the browser has not read and the kernel has not accepted."""
        return self._transport.get_write_buffer_size()

    def disconnect_slow(self) -> None:
        if self._handler:
            logger.warning("%s: reader too slow (%d)", self._handler, Close.TOO_SLOW)
            self._end_conversation(Close.TOO_SLOW)
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BEHIND_BYTES)
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
        )
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        if self._context.acceptor.admit(self):
            self._arm(self._ends_at)
        else:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._take_request(event)
            elif isinstance(event, Frame) and self._handler:
                self._take_frame(self._handler, event)
        self._flush()
        if self._handler and self._protocol.state is not State.OPEN:
            self._end_conversation(self._closing())

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._end_conversation("none")
        # The parser and its exceptions refer to the protocol: without this, only the garbage
        # collector would free it.
        self._protocol.parser.close()
        self._protocol.parser_exc = self._protocol.handshake_exc = None
        self._context.slow_readers.discard(self)
        self._context.acceptor.release(self)

    def pause_writing(self) -> None:
        self._context.slow_readers.add(self)
        # A browser that does not read gets no answers either.
        self._apply_pause()

    def resume_writing(self) -> None:
        self._context.slow_readers.discard(self)
        self._apply_pause()

    # Receiving

    def _take_request(self, request: Request) -> None:
        answer = self._context.acceptor.answer(self, request)
        response = self._reject(answer) if answer else self._protocol.accept(request)
        self._protocol.send_response(response)
        self._ends_at = self._loop.time() + self._context.limits.close
        if self._protocol.state is State.OPEN:
            self._handler = self._context.open_handler(self)

    def _reject(self, answer: HttpAnswer) -> Response:
        response = self._protocol.reject(answer.status, answer.text)
        if answer.retry_after:
            response.headers["Retry-After"] = str(answer.retry_after)
        return response

    def _take_frame(self, handler: TransportHandler, frame: Frame) -> None:
        limits, now = self._context.limits, self._loop.time()
        self._heard_at = now
        try:
            if not self._allowance.take(now, limits.frames, limits.frames_per_second):
                raise SocketRefused(
                    Close.TOO_MANY, f"more than {limits.frames_per_second} frames/s"
                )
            message = self._messages.add(frame)
            if message is not None:
                handler.received(message)
        except SocketRefused as refused:
            self.close(refused)

    # Ending

    def _closing(self) -> int | str:
        """Which side closed first: the code that the bridge sent, or "browser"."""
        sent = self._protocol.close_sent
        return "browser" if not sent or self._protocol.close_rcvd_then_sent else sent.code

    def _end_conversation(self, code: int | str) -> None:
        """``code`` is for the metrics."""
        handler, self._handler = self._handler, None
        if not handler:
            return
        metrics.CLOSINGS.labels(code).inc()
        handler.closed()
        self._messages.clear()
        self._ends_at, self._refusal = self._loop.time() + self._context.limits.close, None
        self._arm(self._ends_at)

    def _check_deadlines(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now, limits = self._loop.time(), self._context.limits
        if now >= self._ends_at:
            self._expire()
        elif self._handler and now >= self._heard_at + limits.silence:
            self.close(SocketRefused(Close.SILENT, f"no frame within {limits.silence:g} s"))
        else:
            silent = self._heard_at + limits.silence if self._handler else self._ends_at
            self._arm(min(self._ends_at, silent))

    def _expire(self) -> None:
        if self._handler and self._refusal:
            self.close(self._refusal)
        else:
            self._transport.abort()

    def _arm(self, at: float) -> None:
        """Checks the deadlines at ``at`` or before."""
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

    def _apply_pause(self) -> None:
        if self._transport.is_closing():
            return
        if self._is_paused or self in self._context.slow_readers:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
