"""Deliveries read from the bytes that RabbitMQ sends: pika takes twice as long for it.

A delivery is a method frame, a header frame and body frames up to the size that the header tells
(https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 4.2). Everything else is left to pika.
"""

from __future__ import annotations

import logging
from struct import Struct
from typing import Any

from pika import spec

from bus.message import NO_HEADERS, Delivery

logger = logging.getLogger(__name__)

# Type, channel, size of the payload; behind the payload one more byte.
_FRAME = Struct(">BHL")
HEADER_SIZE = spec.FRAME_HEADER_SIZE
END_SIZE = spec.FRAME_END_SIZE
# Of a header frame: class, weight, size of the body, then the properties.
_CONTENT = Struct(">HHQ")
_METHOD = Struct(">L")
_TAG = Struct(">QB")


def read_frames(data: bytearray, start: int) -> tuple[Delivery | None, int]:
    """What begins at ``start``, and where it ends: a delivery, or a single frame for pika.

    The end is 0 when not all of it is there yet. A delivery with other frames in between is for
    pika, frame by frame.
    """
    end = _frame_end(data, start)
    if not end or not _is_deliver(data, start):
        return None, end
    header, end_of_header = end, _frame_end(data, end)
    if not end_of_header:
        return None, 0
    if data[header] != spec.FRAME_HEADER:
        return None, header
    _, _, left = _CONTENT.unpack_from(data, header + HEADER_SIZE)
    pieces, end = [], end_of_header
    while left > 0:
        piece, end = end, _frame_end(data, end)
        if not end:
            return None, 0
        if data[piece] != spec.FRAME_BODY:
            return None, header
        pieces.append(bytes(data[piece + HEADER_SIZE : end - END_SIZE]))
        left -= len(pieces[-1])
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    encoded = data[header + HEADER_SIZE + _CONTENT.size : end_of_header - END_SIZE]
    return _delivery(data, start, _properties(bytes(encoded)), body), end


def _frame_end(data: bytearray, start: int) -> int:
    if len(data) - start < HEADER_SIZE:
        return 0
    end: int = start + HEADER_SIZE + _FRAME.unpack_from(data, start)[2] + END_SIZE
    return end if end <= len(data) else 0


def _is_deliver(data: bytearray, start: int) -> bool:
    if data[start] != spec.FRAME_METHOD:
        return False
    [method] = _METHOD.unpack_from(data, start + HEADER_SIZE)
    return bool(method == spec.Basic.Deliver.INDEX)


def _delivery(data: bytearray, start: int, properties: Any, body: bytes) -> Delivery:
    """``start`` is where the frame of the method Basic.Deliver begins."""
    at = _after_text(data, start + HEADER_SIZE + _METHOD.size)  # the consumer's tag
    tag, redelivered = _TAG.unpack_from(data, at)
    at = _after_text(data, at + _TAG.size)  # the exchange
    return delivery(
        tag=tag,
        redelivered=bool(redelivered),
        routing_key=data[at + 1 : at + 1 + data[at]].decode(errors="replace"),
        properties=properties,
        body=body,
    )


def _after_text(data: bytearray, at: int) -> int:
    """A short string has its length before it, in one byte."""
    return at + 1 + data[at]


def _properties(encoded: bytes) -> Any:
    """A message with a header that Python cannot hold, such as a time beyond the year 9999, has
    no properties: to pika it would be an error of the connection, at every attempt."""
    try:
        return spec.BasicProperties().decode(encoded)
    except Exception as error:  # noqa: BLE001 - pika raises whatever its decoders run into
        logger.warning("a message came whose properties cannot be read: %r", error)
        return spec.BasicProperties()


def delivery(
    *, tag: int, redelivered: bool, routing_key: str, properties: Any, body: bytes
) -> Delivery:
    """Of what pika makes of the properties."""
    return Delivery(
        tag=tag,
        body=body,
        routing_key=routing_key,
        redelivered=redelivered,
        message_id=properties.message_id,
        type=properties.type,
        content_type=properties.content_type,
        headers=properties.headers or NO_HEADERS,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        timestamp=properties.timestamp,
    )
