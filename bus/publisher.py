"""Publishing with confirms: when ``publish`` returns, the broker has the messages.

One thread per process owns the connection. Callers hand it messages and wait for their future,
so a caller's deadline holds even while the thread is stuck in a connect or a write, and messages
of several callers share one round of confirms. After any error the connection is thrown away:
a late confirm could otherwise be taken for the next message's
(https://www.rabbitmq.com/docs/confirms).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

from bus.broker import is_amqp
from bus.errors import (
    BrokerUnavailable,
    PublishRefused,
    PublishTimeout,
    PublishUnconfirmed,
)
from bus.message import Message
from bus.topology import Queue

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 5.0
# How many messages may share one round of confirms.
ROUND = 2_000


class Request:
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


class PublishingLink(Protocol):
    """A connection in use by one thread; after any error it is closed and another one opened."""

    def is_alive(self) -> bool:
        """Whether the broker still holds the connection; costs no round trip."""
        ...

    def publish(self, batch: list[Request]) -> None:
        """Sends all messages of ``batch`` and settles each request by what the broker said."""
        ...

    def close(self) -> None: ...


def _open_link(url: str, queues: tuple[Queue, ...]) -> PublishingLink:
    """Connects and declares ``queues``. Raises BrokerUnavailable."""
    if is_amqp(url):
        from bus.amqp_link import AmqpLink

        return AmqpLink(url, queues)
    from bus.redis_link import RedisLink

    return RedisLink(url, queues)


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
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def publish(self, *messages: Message, timeout: float | None = None) -> None:
        """Publishes ``messages`` in order and returns when the broker has confirmed them all.

        ``timeout`` in seconds bounds the whole: connecting, sending, confirming. Raises
        BrokerUnavailable (nothing answered), PublishRefused (no queue, or a full one),
        PublishUnconfirmed or PublishTimeout; after the last two the messages may or may not be
        there, so publish again with the same ids.
        """
        request = self._submit(messages, timeout)
        try:
            request.done.result(request.timeout)
        except TimeoutError:
            request.done.cancel()
            raise PublishTimeout(request.timeout) from None

    def submit(self, *messages: Message, timeout: float | None = None) -> Future[None]:
        """Like ``publish``, without waiting. Cancelling the future works until they are sent.

        A PublishTimeout in the future means that nothing was sent.
        """
        return self._submit(messages, timeout).done

    def close(self) -> None:
        """Sends what was submitted, then ends the thread and the connection."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._requests.put(None)
        if thread:
            thread.join(self._timeout)

    def _submit(self, messages: Sequence[Message], timeout: float | None) -> Request:
        request = Request(messages, timeout or self._timeout)
        with self._lock:
            # After a fork only the parent's thread is alive.
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._requests.put(request)
        return request

    def _start(self) -> None:
        self._requests = queue.SimpleQueue()
        worker = _Worker(self._url, self._queues, self._requests)
        self._thread = threading.Thread(target=worker.run, name="publisher", daemon=True)
        self._thread.start()


class _Worker:
    """The thread that owns the connection."""

    def __init__(
        self, url: str, queues: tuple[Queue, ...], requests: queue.SimpleQueue[Request | None]
    ) -> None:
        self._url = url
        self._queues = queues
        self._requests = requests
        self._link: PublishingLink | None = None

    def run(self) -> None:
        while (first := self._requests.get()) is not None:
            batch = [request for request in self._round(first) if request.begin()]
            if batch:
                self._publish(batch)
        self._discard()

    def _round(self, first: Request) -> list[Request]:
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

    def _publish(self, batch: list[Request]) -> None:
        kind: type[BrokerUnavailable] = BrokerUnavailable
        try:
            link = self._connected()
            kind = PublishUnconfirmed  # from here on something may have been sent
            link.publish(batch)
        except Exception as error:  # noqa: BLE001 - whatever it was, this connection is done for
            logger.warning("not published: %s", error)
            self._fail(batch, kind, error)
            self._discard()

    def _fail(self, batch: list[Request], kind: type[BrokerUnavailable], cause: Exception) -> None:
        """Every caller gets an error of its own: a raised one belongs to its thread."""
        for request in batch:
            if not request.done.done():
                error = kind(f"publishing failed: {cause}")
                error.__cause__ = cause
                request.done.set_exception(error)

    def _connected(self) -> PublishingLink:
        if self._link and not self._link.is_alive():
            self._discard()
        if self._link is None:
            self._link = _open_link(self._url, self._queues)
        return self._link

    def _discard(self) -> None:
        link, self._link = self._link, None
        try:
            if link:
                link.close()
        except Exception as error:  # noqa: BLE001 - it is given up in any case
            logger.warning("closing the connection failed: %r", error)
