"""Reading a RabbitMQ stream from the beginning or from a time (pika).

Streams are read by an ordinary consumer with a prefetch and acknowledgements; the offset to start
at goes into ``x-stream-offset`` (https://www.rabbitmq.com/docs/streams#consuming).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime

from bus.errors import BrokerUnavailable
from bus.message import Delivery
from bus.topology import Queue
from bus.transport.rabbitmq.admin import RabbitAdmin
from bus.transport.rabbitmq.subscription import RabbitSubscription

BATCH = 1_000
# How long the broker may take to send the first message, and the next one.
ANSWER_SECONDS = 10.0
END_SECONDS = 1.0
TURN_SECONDS = 0.5


class StreamFeed:
    """What a stream holds when the feed opens, oldest first, and perhaps a little of what follows.

    ``start`` skips the chunks that were stored before that time. Otherwise like ``DeliveryFeed``.
    Raises BrokerUnavailable, also without such a stream, or when the broker stalls before the
    end: a part never looks like the whole.
    """

    def __init__(self, url: str, stream: Queue, start: datetime | None, prefetch: int) -> None:
        self._url = url
        self._stream = stream
        self._start = start
        self._end = _end(url, stream)
        self._first: int | None = None
        self._offset: int | None = None
        self._unsettled = 0
        # A time must be a datetime: RabbitMQ reads a number as an offset.
        self._source = RabbitSubscription(
            url, stream, prefetch, {"x-stream-offset": start or "first"}
        )
        self._heard = time.monotonic()
        self._is_empty = self._end is None

    @property
    def is_at_end(self) -> bool:
        """Whether everything was received."""
        return self._is_empty or (self._offset is not None and self._offset >= (self._end or 0))

    @property
    def fraction(self) -> float:
        """How much was received of what there is to receive, from 0 to 1."""
        if self.is_at_end:
            return 1.0
        if self._first is None or self._offset is None or self._end is None:
            return 0.0
        return (self._offset + 1 - self._first) / (self._end + 1 - self._first)

    def receive(self, limit: int, wait: float) -> list[Delivery]:
        if self.is_at_end:
            self._source.idle(wait)
            return []
        is_silent = not self._unsettled and time.monotonic() - self._heard >= ANSWER_SECONDS
        if is_silent:
            self._check_broker()
        batch = self._source.receive(limit, wait)
        if batch:
            if self._first is None:
                self._first = offset_of(batch[0])
            self._offset = offset_of(batch[-1])
            self._unsettled += len(batch)
        if batch or self._unsettled:
            self._heard = time.monotonic()
        elif is_silent:
            self._is_empty = True
        return batch

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._source.ack(deliveries)
        self._unsettled -= len(deliveries)
        self._heard = time.monotonic()  # the broker owes an answer only from now on

    def idle(self, seconds: float) -> None:
        self._source.idle(seconds)

    def close(self) -> None:
        self._source.close()

    def _check_broker(self) -> None:
        """Raises BrokerUnavailable unless nothing in the stream is as new as ``start``."""
        if self._offset is not None or self._start is None:
            raise BrokerUnavailable(
                f"{self._stream.name} stalls after {self._offset}; its end is {self._end}"
            )
        _end(self._url, self._stream)


def read_stream(url: str, stream: Queue, start: datetime | None = None) -> Iterator[list[Delivery]]:
    """Batches of what the stream holds now. See ``StreamFeed``."""
    with closing(StreamFeed(url, stream, start, BATCH)) as source:
        while not source.is_at_end:
            if batch := source.receive(BATCH, TURN_SECONDS):
                yield batch
                source.ack(batch)


def _end(url: str, stream: Queue) -> int | None:
    """The offset of the newest that the stream holds; None when it is empty."""
    end, deadline = None, time.monotonic() + ANSWER_SECONDS
    with closing(RabbitSubscription(url, stream, BATCH, {"x-stream-offset": "last"})) as source:
        while batch := source.receive(BATCH, max(0.0, deadline - time.monotonic())):
            source.ack(batch)
            end, deadline = offset_of(batch[-1]), min(deadline, time.monotonic() + END_SECONDS)
    if end is None:
        _check_empty(url, stream)
    return end


def _check_empty(url: str, stream: Queue) -> None:
    with closing(RabbitAdmin(url)) as admin:
        if admin.depth(stream):
            raise BrokerUnavailable(f"{stream.name} holds events, and the broker sends none")


def first_of(url: str, stream: Queue) -> Delivery | None:
    """The oldest message of ``stream``; None when it sends none within ANSWER_SECONDS."""
    with closing(RabbitSubscription(url, stream, 1, {"x-stream-offset": "first"})) as source:
        return next(iter(source.receive(1, ANSWER_SECONDS)), None)


def offset_of(delivery: Delivery) -> int:
    """The offset of a delivery in its stream."""
    return int(delivery.headers["x-stream-offset"])
