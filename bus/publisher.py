"""Publishing with confirms: when ``publish`` returns, the broker has the messages.

One thread per process owns the connection. Callers hand it messages and wait for their future,
so a caller's deadline holds even while the thread is stuck in a connect or a write, and messages
of several callers share one round of confirms. After any error the connection is thrown away:
a late confirm could otherwise be taken for the next message's
(https://www.rabbitmq.com/docs/confirms; py-amqp's own confirm wait takes *any* ack).
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import kombu

from bus.broker import Link
from bus.errors import BrokerUnavailable, BusError, PublishRefused, PublishTimeout
from bus.message import Message
from bus.topology import MAX_PRIORITY, Queue

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 5.0
# How many messages may share one round of confirms.
ROUND = 2_000


class _Request:
    """Messages of one caller, until when they are worth sending, and the caller's future."""

    def __init__(self, messages: Sequence[Message], timeout: float) -> None:
        self.messages = messages
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.refusal: str | None = None
        self.done: Future[None] = Future()

    def begin(self) -> bool:
        """Whether to send it: not when its caller gave up or its deadline passed."""
        if not self.done.set_running_or_notify_cancel():
            return False
        if time.monotonic() < self.deadline:
            return True
        self.done.set_exception(PublishTimeout(self.timeout))
        return False

    def settle(self) -> None:
        if self.refusal:
            self.done.set_exception(PublishRefused(self.refusal))
        else:
            self.done.set_result(None)


class Publisher:
    """Publishes to one broker; safe to share between threads, and to use after a fork.

    ``queues`` are declared on every new connection, before anything is published: an exchange
    that lost a queue would otherwise confirm what it dropped.
    """

    def __init__(
        self, url: str, queues: Iterable[Queue] = (), timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self._url = url
        self._queues = tuple(queues)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._process = 0
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def publish(self, *messages: Message, timeout: float | None = None) -> None:
        """Publishes ``messages`` in order and returns when the broker has confirmed them all.

        ``timeout`` in seconds bounds the whole: connecting, sending, confirming. Raises
        BrokerUnavailable (nothing answered), PublishRefused (no queue, or a full one) or
        PublishTimeout; after the last, and after a lost connection, the messages may or may not
        be there, so publish again with the same ids.
        """
        request = self._submit(messages, timeout)
        try:
            request.done.result(request.timeout)
        except TimeoutError:
            request.done.cancel()
            raise PublishTimeout(request.timeout) from None

    def submit(self, *messages: Message, timeout: float | None = None) -> Future[None]:
        """Like ``publish``, without waiting. Cancelling the future works until they are sent."""
        return self._submit(messages, timeout).done

    def close(self) -> None:
        """Sends what was submitted, then ends the thread and the connection."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread and self._process == os.getpid():
            self._requests.put(None)
            thread.join(self._timeout)

    def _submit(self, messages: Sequence[Message], timeout: float | None) -> _Request:
        request = _Request(messages, timeout or self._timeout)
        with self._lock:
            if self._thread is None or self._process != os.getpid():
                self._start()
            self._requests.put(request)
        return request

    def _start(self) -> None:
        self._process = os.getpid()
        self._requests = queue.SimpleQueue()
        worker = _Worker(self._url, self._queues, self._requests)
        self._thread = threading.Thread(target=worker.run, name="publisher", daemon=True)
        self._thread.start()


class _Worker:
    """The thread that owns the connection."""

    def __init__(
        self, url: str, queues: tuple[Queue, ...], requests: queue.SimpleQueue[_Request | None]
    ) -> None:
        self._url = url
        self._queues = queues
        self._requests = requests
        self._link: _PublishingLink | None = None

    def run(self) -> None:
        while (first := self._requests.get()) is not None:
            batch = [request for request in self._round(first) if request.begin()]
            if batch:
                self._publish(batch)
        self._discard()

    def _round(self, first: _Request) -> list[_Request]:
        """``first`` and what waits behind it, up to a round."""
        batch, size = [first], len(first.messages)
        with suppress(queue.Empty):
            while size < ROUND:
                request = self._requests.get_nowait()
                if request is None:
                    self._requests.put(None)
                    break
                batch.append(request)
                size += len(request.messages)
        return batch

    def _publish(self, batch: list[_Request]) -> None:
        try:
            link = self._connected()
            link.publish(batch)
        except BusError as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - whatever it was, this connection is done for
            self._fail(batch, BrokerUnavailable(f"publishing failed: {error!r}"), error)

    def _fail(
        self, batch: list[_Request], error: BusError, cause: BaseException | None = None
    ) -> None:
        error.__cause__ = cause or error.__cause__
        logger.warning("not published: %s", error)
        self._discard()
        for request in batch:
            if not request.done.done():
                request.done.set_exception(error)

    def _connected(self) -> _PublishingLink:
        if self._link and not self._link.is_alive():
            self._discard()
        if self._link is None:
            self._link = _PublishingLink(self._url, self._queues)
        return self._link

    def _discard(self) -> None:
        link, self._link = self._link, None
        if link:
            link.close()


class _PublishingLink(Link):
    """A link in confirm mode that knows which message each confirm is for.

    Brokers behind kombu's other transports know no confirms; there the write itself is the
    answer of the server, and a missing binding is looked up, for nothing would report it.
    """

    def __init__(self, url: str, queues: tuple[Queue, ...]) -> None:
        super().__init__(url)
        try:
            self.declare(queues)
            self._producer = kombu.Producer(self.channel, auto_declare=False)
            if self.is_amqp:
                self._select_confirms()
        except self.errors as error:
            self.close()
            raise BrokerUnavailable(f"cannot set up publishing: {error}") from error
        self._sent = 0
        self._unconfirmed: dict[int, _Request] = {}
        self._senders: dict[str, _Request] = {}

    def _select_confirms(self) -> None:
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self._on_ack)
        self.channel.events["basic_nack"].add(self._on_nack)
        self.channel.events["basic_return"].add(self._on_return)

    def is_alive(self) -> bool:
        """Reads what the broker said meanwhile; False when it hung up or blocks publishers."""
        if not self.is_amqp:
            return True
        try:
            while True:
                self.connection.drain_events(timeout=0.000_1)
        except TimeoutError:
            return True
        except self.errors:
            return False

    def publish(self, batch: list[_Request]) -> None:
        """Sends all messages of ``batch`` and settles each request by what the broker said."""
        for request in batch:
            for message in request.messages:
                self._send(message, request)
        if self.is_amqp:
            self._wait_for_confirms(max(request.deadline for request in batch))
        self._senders.clear()
        for request in batch:
            request.settle()

    def _send(self, message: Message, request: _Request) -> None:
        self._sent += 1
        if self.is_amqp:
            self._unconfirmed[self._sent] = request
            self._senders[message.message_id] = request
        elif message.exchange and not self._has_route(message):
            request.refusal = f"no queue takes {message.routing_key}"
            return
        self._producer.publish(message.body, **_arguments(message, self.is_amqp))

    def _has_route(self, message: Message) -> bool:
        table = self.channel.get_table(message.exchange)
        exchange = self.channel.typeof(message.exchange)
        return bool(exchange.lookup(table, message.exchange, message.routing_key, None))

    def _wait_for_confirms(self, deadline: float) -> None:
        while self._unconfirmed:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise BrokerUnavailable("the broker did not confirm in time")
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=remaining)

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        self._confirmed(delivery_tag, multiple)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for request in self._confirmed(delivery_tag, multiple):
            request.refusal = "the broker refused the message: a queue is full or failing"

    def _confirmed(self, delivery_tag: int, multiple: bool) -> list[_Request]:
        """Takes the messages up to ``delivery_tag``, or that one, off the unconfirmed ones."""
        if not multiple:
            return [self._unconfirmed.pop(delivery_tag)]
        tags = [tag for tag in self._unconfirmed if tag <= delivery_tag]
        return [self._unconfirmed.pop(tag) for tag in tags]

    def _on_return(self, error: Any, exchange: str, routing_key: str, message: Any) -> None:
        """A mandatory message that no queue took; RabbitMQ sends this before the ack."""
        sender = self._senders[message.properties["message_id"]]
        sender.refusal = f"no queue takes {routing_key}: {error}"


def _arguments(message: Message, amqp: bool) -> dict[str, Any]:
    """A message as arguments of kombu's ``Producer.publish``."""
    arguments: dict[str, Any] = {
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "content_type": message.content_type,
        "content_encoding": "utf-8" if message.content_type == "application/json" else "binary",
        "headers": dict(message.headers),
        "message_id": message.message_id,
        "type": message.type,
        "delivery_mode": 2 if message.persistent else 1,
        "retry": False,
    }
    optional = {
        "timestamp": message.timestamp,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "expiration": message.expires_in,
    }
    arguments |= {name: value for name, value in optional.items() if value is not None}
    if amqp:
        arguments["mandatory"] = True
    if message.priority is not None:
        # On RabbitMQ 9 goes first, on kombu's Redis transport 0 does.
        arguments["priority"] = message.priority if amqp else MAX_PRIORITY - message.priority
    return arguments
