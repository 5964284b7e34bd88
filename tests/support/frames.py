"""Taking apart what a server wrote: frames of WebSocket (RFC 6455, 5.2), one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def payloads(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each whole frame in ``data``; they must be final and not masked."""
    position = 0
    while position < len(data):
        if position + 2 > len(data):
            return
        first, length = data[position], data[position + 1]
        assert first & 0xF0 == 0x80, "a frame with FIN and without extensions"
        assert length < 0x80, "a frame without a mask"
        position += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(data[position : position + size])
            position += size
        if position + length > len(data):
            return
        yield first & 0x0F, data[position : position + length]
        position += length


def messages(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON of each text frame in ``data``, which must have no other frames."""
    for opcode, payload in payloads(data):
        assert opcode == 1
        yield json.loads(payload)
