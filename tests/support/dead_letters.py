"""Dead letters for tests, made as the consumers make them."""

from __future__ import annotations

from bus import events
from bus.consuming.dead_letter import REFUSED, to_dead_letter
from bus.events import Event
from bus.message import Delivery, Message
from bus.publishing import Publisher
from bus.topology import MONGO_WRITER, Queue

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def bury(
    publisher: Publisher,
    buried: list[Event],
    *,
    reason: str = REFUSED,
    error: str = "no",
    queue: Queue = MONGO_WRITER,
) -> list[str]:
    """Makes ``buried`` dead letters of ``queue``; their ids, in order."""
    messages = [events.to_message(event) for event in buried]
    publisher.publish(
        *(to_dead_letter(queue, _delivery(m), reason, ValueError(error), 3) for m in messages)
    )
    return [message.message_id for message in messages]


def _delivery(message: Message) -> Delivery:
    return Delivery(
        tag=0,
        body=message.body,
        routing_key=message.routing_key,
        redelivered=False,
        message_id=message.message_id,
        type=message.type,
        content_type=message.content_type,
        headers={**message.headers, "traceparent": TRACE},
    )
