"""Deliveries from RabbitMQ, by pika: three times the rate of kombu's consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from bus.amqp import broker_errors, parameters
from bus.message import NO_HEADERS, Delivery
from bus.topology import Queue

HEARTBEAT = 30


class AmqpSource:
    """A subscription to a RabbitMQ queue. See ``bus.source.Source``."""

    def __init__(self, url: str, queue: Queue, prefetch: int) -> None:
        self._arrived: deque[Delivery] = deque()
        with broker_errors():
            self._connection = pika.BlockingConnection(parameters(url, heartbeat=HEARTBEAT))
            self._channel = self._connection.channel()
            self._channel.basic_qos(prefetch_count=prefetch)
            self._channel.add_on_cancel_callback(self._on_cancel)
            self._subscription = self._channel.basic_consume(queue.name, self._on_delivery)

    def receive(self, limit: int, wait: float) -> list[Delivery]:
        with broker_errors():
            # Without time the call still takes in what lies in the socket's buffer.
            self._connection.process_data_events(0 if self._arrived else wait)
        return [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settles ``deliveries``, which must be the oldest unsettled ones, in one frame."""
        if deliveries:
            with broker_errors():
                self._channel.basic_ack(deliveries[-1].tag, multiple=True)

    def cancel(self) -> None:
        with broker_errors():
            self._channel.basic_cancel(self._subscription)

    def idle(self, seconds: float) -> None:
        with broker_errors():
            self._connection.sleep(seconds)

    def close(self) -> None:
        with suppress(AMQPError, OSError):
            self._connection.close()

    def _on_delivery(
        self,
        channel: BlockingChannel,
        method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        self._arrived.append(
            Delivery(
                tag=method.delivery_tag,
                body=body,
                routing_key=method.routing_key,
                redelivered=method.redelivered,
                message_id=properties.message_id,
                type=properties.type,
                content_type=properties.content_type,
                headers=properties.headers or NO_HEADERS,
                correlation_id=properties.correlation_id,
                reply_to=properties.reply_to,
                timestamp=properties.timestamp,
            )
        )

    def _on_cancel(self, frame: Any) -> None:
        """The broker ended the subscription: the queue was deleted, or its node went away."""
        self._channel.close()
