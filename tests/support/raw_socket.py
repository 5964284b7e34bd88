"""A WebSocket client that sends whatever it is told to, byte by byte."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Self

from tests.support.frames import payloads
from tests.support.ports import HOST
from tests.support.wait import patience

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
FIN = 0x80
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


def frame(
    opcode: int, payload: bytes = b"", *, first: int | None = None, mask: bytes | None = None
) -> bytes:
    """A masked frame; ``first`` is its whole first byte, else it is final."""
    mask = os.urandom(4) if mask is None else mask
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 2**16:
        length = b"\xfe" + len(payload).to_bytes(2)
    else:
        length = b"\xff" + len(payload).to_bytes(8)
    masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    return bytes([FIN | opcode if first is None else first]) + length + mask + masked


class RawSocket:
    """A connection to a bridge, with or without its handshake."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(patience(10))
        self.socket.connect((HOST, port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, *fields: str, line: str = "GET / HTTP/1.1") -> bytes:
        """Sends a request, and returns the head of the answer."""
        self.send("\r\n".join((line, *fields, "", "")).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.socket.recv(1)
            if not data:
                break
            head += data
        return head

    def shake_hands(self, origin: str) -> bytes:
        return self.request(
            f"Host: {HOST}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
            f"Origin: {origin}",
        )

    def read_to_the_end(self) -> bytes:
        received = b""
        while chunk := self._receive():
            received += chunk
        return received

    def until_closed(self) -> tuple[list[bytes], int | None]:
        """All messages and pongs until the connection ends, and the close code; None without a
        close frame, 0 if it had no code. Answers a close frame as a browser does."""
        received = b""
        while chunk := self._receive():
            received += chunk
            *_, (opcode, payload) = [(TEXT, b""), *payloads(received)]
            if opcode == CLOSE:
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.send(frame(CLOSE, payload))
                break
        received += self.read_to_the_end()
        frames = list(payloads(received))
        code = None
        if frames and frames[-1][0] == CLOSE:
            code = int.from_bytes(frames.pop()[1][:2])
        assert all(opcode != CLOSE for opcode, _ in frames), "frames after the close frame"
        return [payload for _, payload in frames], code

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65_536)
        except ConnectionResetError:
            return b""
