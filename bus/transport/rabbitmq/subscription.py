"""Deliveries from RabbitMQ."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pika
from pika.exceptions import AMQPError

from bus.errors import BrokerUnavailable, SubscriptionCancelled
from bus.message import Delivery
from bus.topology import Queue
from bus.transport.rabbitmq.connection import CLOSE_SECONDS, RabbitChannel, broker_errors
from bus.transport.rabbitmq.frames import delivery
from bus.transport.urls import IO_TIMEOUT

# While a sink or a handler works, the consumer does not answer the broker, which gives up after
# one to one and a half times this. So this is as long as a request may be held.
HEARTBEAT = 60


class RabbitSubscription(RabbitChannel):
    """A subscription to a RabbitMQ queue. See ``Subscription``."""

    def __init__(
        self, url: str, queue: Queue, prefetch: int, arguments: dict[str, Any] | None = None
    ) -> None:
        self._queue = queue.name
        self._cancelled = False
        self._arrived: deque[Delivery] = deque()
        # Every delivery before this tag is settled, and these after it.
        self._oldest = 1
        self._settled: set[int] = set()
        super().__init__(url, heartbeat=HEARTBEAT)
        with self._opening():
            self._subscribe(prefetch, arguments)

    def _subscribe(self, prefetch: int, arguments: dict[str, Any] | None) -> None:
        """Returns when the broker has this consumer: until then another may get ahead of it."""
        answers, answered = self._answers()
        self.channel.add_on_cancel_callback(self._on_cancel)
        self.channel.connection.take_deliveries(self._take)
        self.channel.basic_qos(prefetch_count=prefetch)
        self._subscription = self.channel.basic_consume(
            self._queue, self._on_delivery, arguments=arguments, callback=answered
        )
        self._run_until(lambda: bool(answers) or self._lost is not None, IO_TIMEOUT)
        self._raise_if_lost()
        if not answers:
            raise BrokerUnavailable(f"RabbitMQ does not answer the subscription to {self._queue}")

    def receive(self, limit: int, wait: float) -> list[Delivery]:
        with broker_errors():
            if not self._arrived:
                self._run(wait)
            self._take_in(limit)
        self._raise_if_lost()
        return [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settles ``deliveries``: the oldest unsettled ones in one frame, each other in its own."""
        tags = sorted(delivery.tag for delivery in deliveries)
        self._settled.update(tags)
        while self._oldest in self._settled:
            self._settled.remove(self._oldest)
            self._oldest += 1
        oldest = bisect_left(tags, self._oldest)
        with broker_errors():
            if oldest:
                # Not a tag that was settled before: the broker has forgotten it.
                self.channel.basic_ack(tags[oldest - 1], multiple=True)
            for tag in tags[oldest:]:
                self.channel.basic_ack(tag)

    def cancel(self) -> None:
        answers, answered = self._answers()
        with broker_errors():
            self.channel.basic_cancel(self._subscription, callback=answered)
            # pika would return deliveries on their way; they are received like any other.
            self.channel._cancelled.discard(self._subscription)
            self._run_until(lambda: bool(answers) or self._lost is not None, IO_TIMEOUT)
        self._raise_if_lost()

    def idle(self, seconds: float) -> None:
        deadline, remaining = time.monotonic() + seconds, seconds
        while True:
            with broker_errors():
                self._run(max(0.0, remaining))
            self._raise_if_lost()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return

    def close(self) -> None:
        """Waits until the broker has the acknowledgements, then drops the connection.

        Unsettled deliveries then return at once and in order. After a cancel, or a channel closed
        by AMQP's rules, they return only once RabbitMQ has activated the next consumer of a queue
        with a single active consumer, which would get newer messages first.
        """
        with suppress(AMQPError, OSError):
            self._round_trip()
        self._drop()

    def _answers(self) -> tuple[list[object], Callable[[object], None]]:
        """A list, and a callback that puts the broker's answer into it."""
        answers: list[object] = []

        def answered(frame: object) -> None:
            answers.append(frame)
            self._wake()

        return answers, answered

    def _round_trip(self) -> None:
        """Returns when the broker has handled all that was sent before, or does not answer."""
        answers, answered = self._answers()
        if self._lost is None:
            self.channel.basic_qos(prefetch_count=1, callback=answered)
            self._run_until(lambda: bool(answers) or self._lost is not None, CLOSE_SECONDS)

    def _take_in(self, limit: int) -> None:
        """Empties the socket's buffer, of which one turn of the loop reads only a part."""
        before = -1
        while before < len(self._arrived) < limit:
            before = len(self._arrived)
            self._run(0)

    def _on_delivery(
        self,
        channel: object,
        method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        """Takes a delivery that other frames interrupted; ``take_deliveries`` gets the rest."""
        tag, key = method.delivery_tag, method.routing_key
        self._take(delivery(tag, method.redelivered, key, vars(properties), body))

    def _take(self, delivery: Delivery) -> None:
        self._arrived.append(delivery)
        self._wake()

    def _raise_if_lost(self) -> None:
        if self._cancelled:
            raise SubscriptionCancelled(f"RabbitMQ ended the subscription to {self._queue}")
        super()._raise_if_lost()

    def _on_cancel(self, frame: object) -> None:
        """The broker ended the subscription: the queue was deleted, or its node went away."""
        self._cancelled = True
        self._on_lost(None, "the subscription was cancelled")
