"""Publishing with confirms: when ``publish`` returns, the broker has the messages.

One thread per process owns the connection. Callers hand it messages and wait for their future,
so a caller's deadline holds even while the thread is stuck in a connect or a write, and messages
of several callers share one round of confirms. After any error the thread throws the connection
away: a late confirm could otherwise pass for the next message's
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

from bus.errors import (
    BrokerBlocked,
    BrokerUnavailable,
    BusError,
    PublishExpired,
    PublishTimeout,
    PublishUnconfirmed,
    TopologyBroken,
)
from bus.message import Message
from bus.publishing.topology_guard import TopologyGuard
from bus.runtime.after_fork import after_fork
from bus.runtime.metrics import RECONNECTS
from bus.topology import Queue
from bus.transport import PublishChannel, open_publish_channel
from bus.transport.interfaces import PublishRequest

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 5.0
# How many messages may share one round of confirms.
ROUND = 2_000


class Publisher:
    """Publishes to one broker; safe to share between threads, and to use after a fork.

    ``queues`` are declared on every new connection, before anything is published. For queues that
    belong to others, give a ``guard`` instead: nothing is published while it finds a problem.
    """

    def __init__(
        self,
        url: str,
        queues: Iterable[Queue] = (),
        timeout: float = DEFAULT_TIMEOUT,
        guard: TopologyGuard | None = None,
    ) -> None:
        self._url = url
        self._queues = tuple(queues)
        self._timeout = timeout
        self._guard = guard
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        """Starts no thread: the first message does, in the process that publishes it."""
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[PublishRequest | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def publish(self, *messages: Message, timeout: float | None = None) -> None:
        """Publishes ``messages`` in order and returns when the broker has confirmed them all.

        ``timeout`` in seconds bounds the whole: connecting, sending, confirming. Raises
        BrokerUnavailable (nothing answered), BrokerBlocked (it has no memory or disk left),
        TopologyBroken (by the guard), PublishRefused (no queue, or a full one), InvalidMessage
        (it cannot be encoded), PublishExpired (nothing was sent in time), PublishUnconfirmed or
        PublishTimeout; after the last two the messages may or may not be there, so publish again
        with the same ids.
        """
        if messages:
            _wait(self._submit(messages, timeout))

    def submit(self, *messages: Message, timeout: float | None = None) -> Future[None]:
        """Like ``publish``, without waiting. Cancelling the future works until they are sent.

        The future never holds a PublishTimeout: the thread that publishes knows what it sent.
        """
        if messages:
            return self._submit(messages, timeout).done
        nothing: Future[None] = Future()
        nothing.set_result(None)
        return nothing

    def check(self, timeout: float | None = None) -> None:
        """Asks the broker, and returns if a message could be published now. Raises like
        ``publish``."""
        _wait(self._submit((), timeout))

    def submit_check(self, timeout: float | None = None) -> Future[None]:
        """Like ``check``, without waiting."""
        return self._submit((), timeout).done

    def close(self) -> None:
        """Sends what was submitted, then ends the thread and the connection."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._requests.put(None)
        if thread:
            thread.join(self._timeout)

    def _submit(self, messages: Sequence[Message], timeout: float | None) -> PublishRequest:
        request = PublishRequest(messages, timeout or self._timeout)
        with self._lock:
            if self._thread is None:
                self._start()
            self._requests.put(request)
        return request

    def _start(self) -> None:
        self._requests = queue.SimpleQueue()
        worker = _Worker(self._url, self._queues, self._guard, self._requests)
        thread = threading.Thread(target=worker.run, name="publisher", daemon=True)
        thread.start()
        self._thread = thread


def _wait(request: PublishRequest) -> None:
    try:
        request.done.result(request.timeout)
    except TimeoutError:
        # A request that can still be cancelled was not sent.
        error = PublishExpired if request.done.cancel() else PublishTimeout
        raise error(request.timeout) from None


class _Worker:
    """The thread that owns the connection."""

    def __init__(
        self,
        url: str,
        queues: tuple[Queue, ...],
        guard: TopologyGuard | None,
        requests: queue.SimpleQueue[PublishRequest | None],
    ) -> None:
        self._url = url
        self._queues = queues
        self._guard = guard
        self._requests = requests
        self._channel: PublishChannel | None = None
        self._was_connected = False

    def run(self) -> None:
        while (first := self._requests.get()) is not None:
            batch = [request for request in self._round(first) if request.begin()]
            if batch:
                self._publish(batch)
        self._discard()

    def _round(self, first: PublishRequest) -> list[PublishRequest]:
        """``first`` and the requests that wait behind it, up to a round."""
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

    def _publish(self, batch: list[PublishRequest]) -> None:
        kind: type[BrokerUnavailable] = BrokerUnavailable
        try:
            channel = self._connected()
            self._check_topology(max(request.deadline for request in batch))
            kind = PublishUnconfirmed  # from here on something may have been sent
            channel.publish(batch)
        except (TopologyBroken, BrokerBlocked) as error:
            logger.warning("not published: %s", error)
            self._fail(batch, type(error), error)
        except Exception as error:  # noqa: BLE001 - after any error, this connection is closed
            logger.warning("not published: %s", error)
            self._fail(batch, kind, error)
            self._discard()

    def _fail(self, batch: list[PublishRequest], kind: type[BusError], cause: Exception) -> None:
        """Gives every caller its own error: a raised error belongs to one thread."""
        for request in batch:
            if not request.done.done():
                error = kind(f"publishing failed: {cause}")
                error.__cause__ = cause
                request.done.set_exception(error)

    def _check_topology(self, deadline: float) -> None:
        if self._guard and (problem := self._guard.problem(deadline - time.monotonic())):
            raise TopologyBroken(problem)

    def _connected(self) -> PublishChannel:
        if self._channel and not self._channel.is_alive():
            self._discard()
        if self._channel is None:
            if self._guard:
                self._guard.problem(0.0)  # the guard looks while the connection is made
            self._channel = open_publish_channel(self._url, self._queues)
            if self._was_connected:
                RECONNECTS.labels("publisher").inc()
            self._was_connected = True
        return self._channel

    def _discard(self) -> None:
        channel, self._channel = self._channel, None
        try:
            if channel:
                channel.close()
        except Exception as error:  # noqa: BLE001 - the connection is given up in any case
            logger.warning("closing the connection failed: %r", error)
