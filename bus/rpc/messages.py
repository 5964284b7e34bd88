"""The messages on the queues of held requests, in MessagePack, decoded strictly at both ends."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from bus.errors import InvalidRpcMessage
from bus.message import Delivery, Message
from bus.topology import WEB_REQUESTS, Queue

logger = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_REPLY_BYTES = 8 * 1024 * 1024
CONTENT_TYPE = "application/x-msgpack"

Headers = tuple[tuple[str, str], ...]


class HeldRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An HTTP request. ``target`` is the raw path with its query; ``headers`` are text in
    Latin-1, in their order; ``client`` is an IP address; ``deadline`` is in seconds since 1970.
    """

    method: Annotated[str, Meta(min_length=1, max_length=32)]
    target: Annotated[str, Meta(pattern="^/")]
    headers: Headers
    body: bytes
    client: str
    scheme: Literal["http", "https"]
    deadline: float


class Reply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="reply"):
    """The application's response."""

    status: Annotated[int, Meta(ge=200, le=599)]
    headers: Headers
    body: bytes


class Failure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="failure"):
    """Why there is no response of the application."""

    code: Literal["worker_lost", "application_failed", "reply_too_large"]


Answer = Reply | Failure

_requests = msgspec.msgpack.Decoder(HeldRequest)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: HeldRequest | Answer) -> bytes:
    return msgspec.msgpack.encode(message)


def request_message(request: HeldRequest, call_id: str, replies: Queue, priority: int) -> Message:
    return Message(
        exchange="",
        routing_key=WEB_REQUESTS.name,
        body=encode(request),
        message_id=call_id,
        type="request",
        content_type=CONTENT_TYPE,
        correlation_id=call_id,
        reply_to=replies.name,
        priority=priority,
        expires_in=max(0.0, request.deadline - time.time()),
        persistent=False,
    )


def answer_message(delivery: Delivery, body: bytes, expires_in: float) -> Message:
    return Message(
        exchange="",
        routing_key=delivery.reply_to or "",
        body=body,
        message_id=uuid.uuid4().hex,
        type="answer",
        content_type=CONTENT_TYPE,
        correlation_id=delivery.correlation_id,
        expires_in=expires_in,
        persistent=False,
    )


def decode_request(delivery: Delivery) -> HeldRequest:
    """Raises InvalidRpcMessage."""
    if not delivery.reply_to or not delivery.correlation_id:
        raise InvalidRpcMessage("a request without reply_to or correlation_id")
    try:
        return _requests.decode(delivery.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRpcMessage(f"not a request: {error}") from error


def decode_answer(delivery: Delivery) -> Answer | InvalidRpcMessage:
    try:
        return _answers.decode(delivery.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        logger.error("unreadable answer to %s: %s", delivery.correlation_id, error)
        return InvalidRpcMessage(f"not an answer: {error}")
