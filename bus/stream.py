"""Reading a RabbitMQ stream from the beginning or from a time (pika).

Streams are read by an ordinary consumer with a prefetch and acknowledgements; the offset to start
at goes into ``x-stream-offset`` (https://www.rabbitmq.com/docs/streams#consuming).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from bus.amqp_source import AmqpSource
from bus.errors import BrokerUnavailable
from bus.message import Delivery
from bus.topology import Queue

BATCH = 1_000
# How long the broker may take to send the first of what is there, and the next.
ANSWER_SECONDS = 10.0
END_SECONDS = 1.0


def read_stream(url: str, stream: Queue, start: datetime | None = None) -> Iterator[list[Delivery]]:
    """Batches of what the stream holds now, oldest first; perhaps a little of what comes later.

    ``start``: skip what was stored before that time, to the chunk that holds it. Raises
    BrokerUnavailable, also when there is no such stream, or when the broker stalls before the
    end: a part never looks like the whole.
    """
    end = _end(url, stream)
    if end is None:
        return
    # A time must be given as a datetime: a number would be taken for an offset.
    source = AmqpSource(url, stream, BATCH, {"x-stream-offset": start or "first"})
    offset = None
    try:
        while offset is None or offset < end:
            batch = source.receive(BATCH, ANSWER_SECONDS)
            if not batch and offset is None and start:
                return  # nothing is as new as that
            if not batch:
                raise BrokerUnavailable(f"{stream.name} stalls after {offset}; its end is {end}")
            yield batch
            source.ack(batch)
            offset = _offset(batch)
    finally:
        source.close()


def _end(url: str, stream: Queue) -> int | None:
    """The offset of the newest that the stream holds; None when it is empty."""
    source = AmqpSource(url, stream, BATCH, {"x-stream-offset": "last"})
    end, deadline = None, time.monotonic() + ANSWER_SECONDS
    try:
        while batch := source.receive(BATCH, max(0.0, deadline - time.monotonic())):
            source.ack(batch)
            end, deadline = _offset(batch), min(deadline, time.monotonic() + END_SECONDS)
    finally:
        source.close()
    return end


def _offset(batch: list[Delivery]) -> int:
    return int(batch[-1].headers["x-stream-offset"])
