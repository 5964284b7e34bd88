"""What is published on the bus and what is consumed from it, whatever the broker."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

NO_HEADERS: Mapping[str, Any] = MappingProxyType({})


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message to publish.

    ``exchange`` "" is the broker's default exchange, where the routing key is a queue's name.
    ``timestamp`` is in seconds since 1970. ``priority`` runs from 0 to 9, 9 first. ``expires_in``
    is in seconds: a queue drops the message when no consumer takes it within that time. A message
    that is not ``persistent`` does not outlive a restart of the broker. Redis as broker keeps
    both kinds of message; after a restart it delivers the latter as redelivered.
    """

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    type: str
    content_type: str = "application/json"
    headers: Mapping[str, Any] = NO_HEADERS
    timestamp: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None
    expires_in: float | None = None
    persistent: bool = True


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message as a consumer gets it.

    ``tag`` is the broker's handle for settling it. ``run_id`` names the run of Redis, as broker,
    to which a message that is not persistent was published.
    """

    tag: Any
    body: bytes
    routing_key: str
    redelivered: bool
    message_id: str | None = None
    type: str | None = None
    content_type: str | None = None
    headers: Mapping[str, Any] = NO_HEADERS
    correlation_id: str | None = None
    reply_to: str | None = None
    timestamp: int | None = None
    run_id: str | None = None
