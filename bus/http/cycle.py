"""One request of a connection and its answer: uvicorn's, with two changes."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# A larger body is written by itself, which costs less than a copy of it.
JOINED_BYTES = 64 * 1024


class _Collected:
    """Stands for a transport, and keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


class _Joined:
    """Stands for ``transport``, and writes ``head`` together with the first bytes after it."""

    def __init__(self, transport: asyncio.Transport, head: bytes) -> None:
        self._transport = transport
        self._head = head

    def write(self, data: bytes) -> None:
        if len(data) > JOINED_BYTES:
            self._transport.write(self._head)
            self._transport.write(data)
        else:
            self._transport.write(self._head + data)
        self._head = b""

    def close(self) -> None:
        self._transport.close()


class Cycle(RequestResponseCycle):
    """An answer that is earlier than the end of the body is the connection's last. Head and body
    are written at once: each write is a call of the kernel, and often a packet."""

    is_early = False
    _head = b""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        else:
            await self._continue(message)

    async def _start(self, message: Any) -> None:
        if self.more_body:
            self.is_early = True
            self.keep_alive = False
        transport, collected = self.transport, _Collected()
        self.transport = collected  # type: ignore[assignment]
        try:
            await super().send(message)
        finally:
            self.transport = transport
        self._head = collected.written
        if self.is_early:
            # It has said "connection: close". The protocol ends the connection, in its own way.
            self.keep_alive = True

    async def _continue(self, message: Any) -> None:
        transport, head, self._head = self.transport, self._head, b""
        if self.scope["method"] == "HEAD":
            transport.write(head)  # nothing else is
        elif head:
            self.transport = _Joined(transport, head)  # type: ignore[assignment]
        try:
            await super().send(message)
        finally:
            self.transport = transport
