"""Publishing to RabbitMQ with pipelined confirms."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from contextlib import closing
from typing import Any

import pika
from pika import frame, spec

from bus.errors import BrokerBlocked, BrokerUnavailable, InvalidMessage, PublishRefused
from bus.message import Message
from bus.topology import Queue
from bus.transport.interfaces import PublishRequest
from bus.transport.rabbitmq.admin import RabbitAdmin
from bus.transport.rabbitmq.connection import RabbitChannel, broker_errors
from bus.transport.rabbitmq.frames import END_SIZE, HEADER_SIZE
from bus.transport.urls import CONNECT_SECONDS

# RabbitMQ reports that it is blocked (no memory, no disk) only to a connection that publishes, and
# then reads nothing from it. So the first message of a connection, and a request without messages,
# goes to a queue that does not exist. It has a body, because RabbitMQ confirms a message without
# one even when blocked. https://www.rabbitmq.com/docs/connection-blocked
PROBE = Message(exchange="", routing_key="chatbus.probe", body=b"?", message_id="", type="probe")
# Bytes to encode before serving the socket, so that the broker works on the first messages while
# the next ones are encoded.
SLICE = 64 * 1024


class ConfirmChannel(RabbitChannel):
    """A channel in confirm mode that knows which message each confirm is for."""

    def __init__(self, url: str, queues: tuple[Queue, ...]) -> None:
        if queues:
            with closing(RabbitAdmin(url)) as admin:
                admin.declare(queues)
        self._sent = 0
        self._unconfirmed: OrderedDict[int, PublishRequest] = OrderedDict()
        # By message id: two callers that publish the same message may share a round.
        self._senders: defaultdict[str, list[PublishRequest]] = defaultdict(list)
        self._blocked: str | None = None
        super().__init__(url, heartbeat=0)
        with self._opening():
            self._begin()

    def is_alive(self) -> bool:
        self._run(0)
        return self._lost is None

    def publish(self, batch: list[PublishRequest]) -> None:
        if self._blocked:
            raise BrokerBlocked(self._blocked)
        with broker_errors():
            self._send(batch)
            self._wait_for_confirms(max(request.deadline for request in batch))
        self._senders.clear()

    def _begin(self) -> None:
        """Asks for confirms, and finds out whether the broker is blocked."""
        self.channel.connection.add_on_connection_blocked_callback(self._on_blocked)
        self.channel.connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self.channel.add_on_return_callback(self._on_return)
        # Publishing need not wait for the answer: the broker handles frames in order.
        self.channel.confirm_delivery(self._on_confirm)
        self.channel.connection.send(self._begin_request(PublishRequest((), CONNECT_SECONDS)))
        self._run_until(lambda: not self._unconfirmed or self._is_stopped, CONNECT_SECONDS)
        self._raise_if_lost()
        if self._unconfirmed and not self._blocked:
            raise BrokerUnavailable("the broker does not answer")

    def _send(self, batch: list[PublishRequest]) -> None:
        frames = bytearray()
        for request in batch:
            frames += self._begin_request(request)
            if len(frames) >= SLICE:
                self._flush(frames)
        self._flush(frames)

    def _begin_request(self, request: PublishRequest) -> bytes:
        """The frames of its messages; none when one of them cannot be encoded."""
        messages = request.messages or (PROBE,)
        try:
            frames = b"".join([self._encode(message) for message in messages])
        except InvalidMessage as error:
            request.refuse(error)
            request.settle()
            return b""
        for message in messages:
            self._sent += 1
            self._unconfirmed[self._sent] = request
            self._senders[message.message_id].append(request)
        return frames

    def _encode(self, message: Message) -> bytes:
        """The frames of ``message``. Raises InvalidMessage."""
        try:
            return self._frames(message)
        except Exception as error:  # pika's encoders raise errors of many kinds
            problem = f"message {message.message_id} cannot be encoded: {error!r}"
            raise InvalidMessage(problem) from error

    def _frames(self, message: Message) -> bytes:
        """``message`` on the wire: a method, a header, and the body in pieces.

        Raises ValueError for headers that fill more than a frame: for them the broker would end
        the connection.
        """
        number, limit = self.channel.channel_number, self.channel.connection.body_limit
        body = message.body
        publish = spec.Basic.Publish(
            exchange=message.exchange,
            routing_key=message.routing_key,
            mandatory=message is not PROBE,
        )
        header = frame.Header(number, len(body), _properties(message)).marshal()
        if len(header) > limit + HEADER_SIZE + END_SIZE:
            raise ValueError(f"its headers take {len(header):,} bytes of at most {limit:,}")
        pieces = (
            frame.Body(number, body[start : start + limit]).marshal()
            for start in range(0, len(body), limit)
        )
        return b"".join([frame.Method(number, publish).marshal(), header, *pieces])

    def _flush(self, frames: bytearray) -> None:
        if frames:
            self.channel.connection.send(bytes(frames))
            frames.clear()
            self._run(0)
            self._raise_if_stopped()

    def _wait_for_confirms(self, deadline: float) -> None:
        while self._unconfirmed:
            self._raise_if_stopped()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise BrokerUnavailable("the broker did not confirm in time")
            self._run(remaining)

    @property
    def _is_stopped(self) -> bool:
        return self._lost is not None or self._blocked is not None

    def _raise_if_stopped(self) -> None:
        self._raise_if_lost()
        if self._blocked:
            raise BrokerUnavailable(f"the broker became blocked: {self._blocked}")

    def _on_confirm(self, confirm: Any) -> None:
        tag, multiple = confirm.method.delivery_tag, confirm.method.multiple
        nack = isinstance(confirm.method, spec.Basic.Nack)
        for request in self._confirmed(tag, multiple):
            if nack:
                refusal = "the broker refused the message: a queue is full or failing"
                request.refuse(PublishRefused(refusal))
            request.confirm_one()
        if not self._unconfirmed:
            self._wake()

    def _confirmed(self, tag: int, multiple: bool) -> list[PublishRequest]:
        """Removes the message ``tag``, or all up to it, from the unconfirmed ones."""
        if not multiple:
            return [self._unconfirmed.pop(tag)]
        requests = []
        while self._unconfirmed and next(iter(self._unconfirmed)) <= tag:
            requests.append(self._unconfirmed.popitem(last=False)[1])
        return requests

    def _on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Refuses a mandatory message that no queue took; RabbitMQ returns it before the ack."""
        for sender in self._senders[properties.message_id]:
            sender.refuse(
                PublishRefused(f"no queue takes {method.routing_key}: {method.reply_text}")
            )

    def _on_blocked(self, connection: object, blocked: Any) -> None:
        self._blocked = str(blocked.method.reason)
        self._wake()

    def _on_unblocked(self, connection: object, unblocked: object) -> None:
        self._blocked = None


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
