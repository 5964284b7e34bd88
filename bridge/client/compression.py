"""permessage-deflate (RFC 7692), at the price of one compression for all readers of an event.

No message is compressed with the help of an earlier one ("no context takeover"). So a compressed
frame is the same bytes for every socket with a window of that size, and no socket keeps a window:
those of a compressor and a decompressor are 300 KB at their usual size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from websockets.extensions import ServerExtensionFactory
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode

from bridge.protocol import Encoded

# Windows are of 2 to the power of so many bytes; zlib has no smaller ones (zlib issue 171).
SMALLEST_WINDOW, LARGEST_WINDOW = 9, 15
# Messages up to that hardly shrink.
SHORT_BYTES = 100
# What several sockets get is written to one after the other, of some rooms in turn.
REMEMBERED = 16


def extensions(window_bits: int) -> Sequence[ServerExtensionFactory]:
    """What a server may agree to; 0 for nothing."""
    if not window_bits:
        return []
    return [
        ServerPerMessageDeflateFactory(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=window_bits,
            client_max_window_bits=window_bits,
        )
    ]


@lru_cache(REMEMBERED)
def deflated(frames: Encoded, window_bits: int) -> Encoded:
    """``frames``, each of them compressed, or as it was where that is shorter."""
    deflate = [PerMessageDeflate(True, True, window_bits, window_bits)]
    pieces = []
    for payload in _payloads(frames):
        frame = Frame(Opcode.TEXT, payload)
        variants = [frame.serialize(mask=False)]
        if len(payload) > SHORT_BYTES:
            variants.append(frame.serialize(mask=False, extensions=deflate))
        pieces.append(min(variants, key=len))
    return Encoded(b"".join(pieces))


def _payloads(frames: Encoded) -> Iterator[bytes]:
    """Of frames as bridge.protocol encodes them: whole messages without a mask."""
    start = 0
    while start < len(frames):
        size = frames[start + 1]
        start += 2
        if size > 125:
            digits = 2 if size == 126 else 8
            size = int.from_bytes(frames[start : start + digits])
            start += digits
        yield frames[start : start + size]
        start += size
