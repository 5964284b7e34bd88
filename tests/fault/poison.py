"""Messages that are no events, on the way of those that are."""

from __future__ import annotations

import itertools
import json
import uuid
from dataclasses import dataclass

import pika

from bus.topology import EVENT_QUEUES, EVENTS, MONGO_WRITER, REDIS_PUBLISHER, Queue

_EVENT = {
    "v": 1,
    "id": "01900000-0000-7000-8000-000000000001",
    "type": "message.posted",
    "room_id": "7f3c0000-0000-4000-8000-000000000001",
    "actor": {"id": 1, "name": "mallory"},
    "at": "2026-11-21T17:00:00.123Z",
    "data": {"body": "poison"},
}


def _with(**changes: object) -> bytes:
    return json.dumps(_EVENT | changes).encode()


_BODIES = (
    b"",
    b"no JSON",
    b"\xff\xfe",
    b"[" * 10_000,
    _with(v=99),
    _with(type="message.exploded"),
    _with(id="no id"),
    _with(data={}),
)
_WAYS = ((EVENTS.name, EVENT_QUEUES), ("", (MONGO_WRITER,)), ("", (REDIS_PUBLISHER,)))
# Every kind of malformed body, over the exchange and straight into each queue.
_kinds = itertools.cycle(zip(itertools.cycle(_WAYS), _BODIES * 3))


@dataclass(frozen=True, slots=True)
class Poison:
    message_id: str
    queues: tuple[Queue, ...]


def publish(connection: pika.BlockingConnection, room_id: str) -> Poison:
    """Publishes one, confirmed: whatever comes next in the cycle."""
    (exchange, queues), body = next(_kinds)
    message_id = str(uuid.uuid4())
    routing_key = f"room.{room_id}.message.posted" if exchange else queues[0].name
    with connection.channel() as channel:
        channel.confirm_delivery()
        channel.basic_publish(
            exchange,
            routing_key,
            body,
            pika.BasicProperties(message_id=message_id, delivery_mode=2),
            mandatory=True,
        )
    return Poison(message_id, queues)
