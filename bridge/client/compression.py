"""permessage-deflate (RFC 7692), compressing an event once for all its readers.

Each message is compressed independently ("no context takeover"). So a compressed frame is the same
bytes for every socket with that window size, and no socket keeps a window: a compressor's and a
decompressor's together take 300 KB at their usual size.
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

# A window has 2 to the power of this many bytes; zlib has no smaller one (zlib issue 171).
SMALLEST_WINDOW, LARGEST_WINDOW = 9, 15
# Messages of up to this many bytes hardly shrink.
SHORT_BYTES = 100
# A few suffice: all sockets of a room get the same frames one after the other.
REMEMBERED = 16


def extensions(window_bits: int) -> Sequence[ServerExtensionFactory]:
    """The extensions that the handshake offers; none if ``window_bits`` is 0."""
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
    """``frames``, each compressed unless that makes it longer."""
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
    """The payloads of ``frames`` as bridge.protocol encodes them: whole messages, unmasked."""
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
