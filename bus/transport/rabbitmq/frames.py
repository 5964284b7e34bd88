"""Reads deliveries from RabbitMQ's bytes, in half the time that pika takes.

A delivery is a method frame, a header frame and body frames up to the size given in the header
(https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 4.2). Everything else is left to pika.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

from pika import spec
from pika.exceptions import InvalidFrameError

from bus.message import NO_HEADERS, Delivery
from bus.transport.rabbitmq.field_table import read_properties, read_text

# Type, channel, size of the payload; one more byte follows the payload.
_FRAME = Struct(">BHL")
HEADER_SIZE = spec.FRAME_HEADER_SIZE
END_SIZE = spec.FRAME_END_SIZE
# A header frame: class, weight, size of the body, then the properties.
_CONTENT = Struct(">HHQ")
_METHOD = Struct(">L")
_TAG = Struct(">QB")


def read_frames(data: bytearray, start: int) -> tuple[Delivery | None, int]:
    """What begins at ``start``, and where it ends: a delivery, or a single frame for pika.

    The end is 0 when not all of it is there yet. A delivery with other frames in between is for
    pika, frame by frame. Raises pika's InvalidFrameError.
    """
    end = _frame_end(data, start)
    if not end or not _is_deliver(data, start):
        return None, end
    header, end_of_header = end, _frame_end(data, end)
    if not end_of_header:
        return None, 0
    if data[header] != spec.FRAME_HEADER:
        return None, header
    _, _, size = _CONTENT.unpack_from(data, header + HEADER_SIZE)
    body, end = _read_body(data, end_of_header, size)
    if body is None:
        return None, header if end else 0
    encoded = data[header + HEADER_SIZE + _CONTENT.size : end_of_header - END_SIZE]
    return _delivery(data, start, read_properties(bytes(encoded)), body), end


def _read_body(data: bytearray, end: int, size: int) -> tuple[bytes | None, int]:
    """The body whose first frame begins at ``end``, and where its last one ends.

    Without a body the end is 0 when not all of it is there yet, else another frame is in between.
    """
    # Called again with every few kilobytes that arrive, so a large body is read once it is whole.
    if len(data) - end < size:
        return None, 0
    pieces = []
    while size > 0:
        piece, end = end, _frame_end(data, end)
        if not end or data[piece] != spec.FRAME_BODY:
            return None, end
        pieces.append(bytes(data[piece + HEADER_SIZE : end - END_SIZE]))
        size -= len(pieces[-1])
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), end


def _frame_end(data: bytearray, start: int) -> int:
    """Where the frame ends; 0 when not all of it is there yet. Raises InvalidFrameError."""
    if len(data) - start < HEADER_SIZE:
        return 0
    end: int = start + HEADER_SIZE + _FRAME.unpack_from(data, start)[2] + END_SIZE
    if end > len(data):
        return 0
    if data[end - 1] != spec.FRAME_END:
        raise InvalidFrameError(f"a frame ends with {data[end - 1]:#x}")
    return end


def _is_deliver(data: bytearray, start: int) -> bool:
    if data[start] != spec.FRAME_METHOD:
        return False
    [method] = _METHOD.unpack_from(data, start + HEADER_SIZE)
    return bool(method == spec.Basic.Deliver.INDEX)


def _delivery(data: bytearray, start: int, properties: Mapping[str, Any], body: bytes) -> Delivery:
    """The delivery whose frame of the method Basic.Deliver begins at ``start``."""
    at = _after_text(data, start + HEADER_SIZE + _METHOD.size)  # the consumer's tag
    tag, redelivered = _TAG.unpack_from(data, at)
    routing_key, _ = read_text(data, _after_text(data, at + _TAG.size))  # behind the exchange
    return delivery(tag, bool(redelivered), routing_key, properties, body)


def delivery(
    tag: int, redelivered: bool, routing_key: str, properties: Mapping[str, Any], body: bytes
) -> Delivery:
    """``properties`` by their names in AMQP."""
    get = properties.get
    return Delivery(
        tag=tag,
        body=body,
        routing_key=routing_key,
        redelivered=redelivered,
        message_id=get("message_id"),
        type=get("type"),
        content_type=get("content_type"),
        headers=get("headers") or NO_HEADERS,
        correlation_id=get("correlation_id"),
        reply_to=get("reply_to"),
        timestamp=get("timestamp"),
    )


def _after_text(data: bytearray, at: int) -> int:
    """The place behind the short string at ``at``, whose first byte is its length."""
    return at + 1 + data[at]
