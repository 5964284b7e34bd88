"""Reading a RabbitMQ stream from the beginning or from a time (pika).

Streams are read by an ordinary consumer with a prefetch and acknowledgements; the offset to start
at goes into ``x-stream-offset`` (https://www.rabbitmq.com/docs/streams#consuming).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from bus.amqp_source import AmqpSource
from bus.message import Delivery
from bus.topology import Queue

BATCH = 1_000
QUIET_SECONDS = 2.0


def read_stream(url: str, stream: Queue, start: datetime | None = None) -> Iterator[list[Delivery]]:
    """Batches of what the stream holds, oldest first; ends when nothing more comes.

    ``start``: skip what was stored before that time, to the chunk that holds it. The caller ends
    the iteration earlier when it has enough: on a busy system something always comes. Raises
    BrokerUnavailable, also when there is no such stream.
    """
    # A time must be given as a datetime: a number would be taken for an offset.
    source = AmqpSource(url, stream, BATCH, {"x-stream-offset": start or "first"})
    try:
        while batch := source.receive(BATCH, QUIET_SECONDS):
            yield batch
            source.ack(batch)
    finally:
        source.close()
