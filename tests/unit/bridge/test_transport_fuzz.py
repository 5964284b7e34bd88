"""One mutated frame on a socket of its own, again and again: it ends well, whatever it is."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
from typing import Any

import pytest
from websockets.typing import Origin

from bridge import protocol
from bridge.acceptor import Acceptor
from bridge.client.compression import extensions
from bridge.client.slow_readers import SlowReaders
from bridge.client.transport import SocketTransport, TransportContext
from bridge.hub.registry import ConnectionRegistry
from bridge.limits import Limits
from bridge.protocol import Close
from tests.contract.test_bridge_frames import _mutated, _some_frame
from tests.support.frames import payloads
from tests.support.raw_socket import CLOSE, KEY, PONG

FRAMES = int(os.environ.get("FUZZ", "5000"))
HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nOrigin: http://x\r\n"
).encode()
HANDSHAKES = (
    HANDSHAKE + b"\r\n",
    HANDSHAKE + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
)
# Of a frame that breaks the rules, or says what is no text or no frame of ours; and what a close
# frame of the other side says is echoed.
EXPECTED = {1002, 1007, 1009, *(code.value for code in Close)}


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None: ...

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else self

    def setsockopt(self, *option: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Handler:
    """Reads frames as a connection does."""

    def __init__(self) -> None:
        self.is_closed = False

    def received(self, message: str) -> None:
        assert not self.is_closed
        protocol.decode(message)

    def closed(self) -> None:
        assert not self.is_closed
        self.is_closed = True


def context(handler: Handler) -> TransportContext:
    limits = Limits()
    return TransportContext(
        limits=limits,
        origins=(Origin("http://x"),),
        extensions=extensions(12),
        acceptor=Acceptor(limits, ConnectionRegistry()),
        slow_readers=SlowReaders(asyncio.get_running_loop(), limits),
        open_handler=lambda _: handler,
    )


async def fuzz(chance: random.Random) -> set[int]:
    """Every close code that was sent."""
    codes = set()
    loop = asyncio.get_running_loop()
    for _ in range(FRAMES):
        handler, transport = Handler(), Transport()
        connection = SocketTransport(context(handler), loop)
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(chance.choice(HANDSHAKES))
        head, _, _ = transport.written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        transport.written = b""
        data = _mutated(chance, _some_frame(chance))
        for piece in (data, _some_frame(chance)) if chance.random() < 0.5 else (data,):
            connection.data_received(piece)
        frames = list(payloads(transport.written))
        closing = [int.from_bytes(payload[:2]) for opcode, payload in frames if opcode == CLOSE]
        assert len(closing) <= 1
        assert handler.is_closed == bool(closing)
        assert all(opcode in (PONG, CLOSE) for opcode, _ in frames)
        codes |= set(closing)
        connection.eof_received()
        connection.connection_lost(None)
        assert handler.is_closed
    return codes


def test_a_transport_that_has_ended_leaves_nothing_to_the_garbage_collector() -> None:
    async def end_many() -> int:
        loop = asyncio.get_running_loop()
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                transport = Transport()
                connection = SocketTransport(context(Handler()), loop)
                connection.connection_made(transport)  # type: ignore[arg-type]
                connection.data_received(HANDSHAKES[-1])
                connection.eof_received()
                connection.connection_lost(None)
            del connection
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(end_many()) < 100


def test_every_mutated_frame_ends_well(caplog: pytest.LogCaptureFixture) -> None:
    codes = asyncio.run(fuzz(random.Random(6455)))
    assert codes >= {1002, 4400}
    echoed = {code for code in codes if code not in EXPECTED}
    assert all(code == 0 or 1000 <= code < 5000 for code in echoed)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
