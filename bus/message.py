"""What is put on the bus and what comes off it, whichever broker carries it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

NO_HEADERS: Mapping[str, Any] = MappingProxyType({})


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message to publish.

    ``exchange`` "" is the broker's default exchange, where the routing key is a queue's name.
    ``priority`` runs from 0 to 9, 9 first. ``expires_in`` is in seconds: a queue drops the
    message when nobody took it within that time. A message that is not ``persistent`` does not
    outlive a restart of the broker. Redis as broker keeps both; the latter comes as redelivered.
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
    """One message as a consumer gets it; ``tag`` is the broker's handle for settling it, and
    ``run_id`` the run of Redis as broker that one which is not persistent was published to."""

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
