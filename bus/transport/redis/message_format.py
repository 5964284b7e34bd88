"""The JSON in which kombu's virtual transports write a message."""

from __future__ import annotations

import base64

import msgspec

from bus.message import Delivery

# What decoding raises for an entry that neither kombu nor chatbus wrote.
_FOREIGN = (
    msgspec.DecodeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)


def decode(raw: bytes) -> Delivery:
    """The message ``raw``; an entry in another form is a body alone, for the consumer to refuse."""
    try:
        return _decoded(raw)
    except _FOREIGN:
        return Delivery(tag=raw, body=raw, routing_key="", redelivered=False)


def as_redelivered(raw: bytes) -> bytes:
    """``raw`` as a message that was delivered before."""
    try:
        message = msgspec.json.decode(raw)
        message["properties"]["delivery_info"]["redelivered"] = True
    except _FOREIGN:
        return raw
    return msgspec.json.encode(message)


def _decoded(raw: bytes) -> Delivery:
    message = msgspec.json.decode(raw)
    properties = message["properties"]
    is_base64 = properties.get("body_encoding") == "base64"
    body = base64.b64decode(message["body"]) if is_base64 else message["body"].encode()
    return Delivery(
        tag=raw,
        body=body,
        routing_key=properties["delivery_info"]["routing_key"],
        redelivered=properties["delivery_info"].get("redelivered", False),
        run_id=properties["delivery_info"].get("run_id"),
        message_id=properties.get("message_id"),
        type=properties.get("type"),
        content_type=message.get("content-type"),
        headers=dict(message.get("headers") or {}),
        correlation_id=properties.get("correlation_id"),
        reply_to=properties.get("reply_to"),
        timestamp=properties.get("timestamp"),
    )
