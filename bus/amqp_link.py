"""Publishing to RabbitMQ with pipelined confirms."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import pika

from bus.amqp import AmqpChannel, broker_errors
from bus.broker import declare
from bus.errors import BrokerUnavailable
from bus.message import Message
from bus.publisher import Request
from bus.topology import Queue


class AmqpLink(AmqpChannel):
    """A channel in confirm mode that knows which message each confirm is for."""

    def __init__(self, url: str, queues: tuple[Queue, ...]) -> None:
        declare(url, queues)
        self._sent = 0
        self._unconfirmed: dict[int, Request] = {}
        # By message id: a caller and another that repeats it may share a round.
        self._senders: defaultdict[str, list[Request]] = defaultdict(list)
        super().__init__(url, heartbeat=0)
        self.channel.add_on_return_callback(self._on_return)
        # Publishing need not wait for the answer: the broker takes frames in order.
        self.channel.confirm_delivery(self._on_confirm)

    def is_alive(self) -> bool:
        self._run(0)
        return self._lost is None

    def publish(self, batch: list[Request]) -> None:
        with broker_errors():
            for request in batch:
                for message in request.messages:
                    self._send(message, request)
            self._wait_for_confirms(max(request.deadline for request in batch))
        self._senders.clear()
        for request in batch:
            request.settle()

    def _send(self, message: Message, request: Request) -> None:
        self.channel.basic_publish(
            message.exchange,
            message.routing_key,
            message.body,
            _properties(message),
            mandatory=True,
        )
        self._sent += 1
        self._unconfirmed[self._sent] = request
        self._senders[message.message_id].append(request)

    def _wait_for_confirms(self, deadline: float) -> None:
        while self._unconfirmed:
            self._raise_if_lost()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise BrokerUnavailable("the broker did not confirm in time")
            self._run(remaining)

    def _on_confirm(self, frame: Any) -> None:
        confirmed = self._confirmed(frame.method.delivery_tag, frame.method.multiple)
        if isinstance(frame.method, pika.spec.Basic.Nack):
            for request in confirmed:
                request.refusal = "the broker refused the message: a queue is full or failing"
        if not self._unconfirmed:
            self._wake()

    def _confirmed(self, delivery_tag: int, multiple: bool) -> list[Request]:
        """Takes the messages up to ``delivery_tag``, or that one, off the unconfirmed ones."""
        if not multiple:
            return [self._unconfirmed.pop(delivery_tag)]
        tags = [tag for tag in self._unconfirmed if tag <= delivery_tag]
        return [self._unconfirmed.pop(tag) for tag in tags]

    def _on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """A mandatory message that no queue took; RabbitMQ sends this before the ack."""
        for sender in self._senders[properties.message_id]:
            sender.refusal = f"no queue takes {method.routing_key}: {method.reply_text}"


def _properties(message: Message) -> pika.BasicProperties:
    expires_in = message.expires_in
    return pika.BasicProperties(
        content_type=message.content_type,
        headers=dict(message.headers),
        delivery_mode=2 if message.persistent else 1,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if expires_in is None else str(max(1, int(expires_in * 1000))),
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
    )
