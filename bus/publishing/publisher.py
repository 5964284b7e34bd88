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

from bus.errors import (
    BrokerBlocked,
    BrokerUnavailable,
    BusError,
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

    ``queues`` are declared on every new connection, before anything is published. Where they
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
        """Without a thread: it starts with the first message, in whichever process that is."""
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[PublishRequest | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def publish(self, *messages: Message, timeout: float | None = None) -> None:
        """Publishes ``messages`` in order and returns when the broker has confirmed them all.

        Without messages: asks the broker, and returns when some could be published now.

        ``timeout`` in seconds bounds the whole: connecting, sending, confirming. Raises
        BrokerUnavailable (nothing answered), BrokerBlocked (it has no memory or disk left),
        TopologyBroken (by the guard), PublishRefused (no queue, or a full one), InvalidMessage
        (it cannot be encoded), PublishUnconfirmed or PublishTimeout; after the last two the
        messages may or may not be there, so publish again with the same ids.
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
        self._link: PublishChannel | None = None
        self._was_connected = False

    def run(self) -> None:
        while (first := self._requests.get()) is not None:
            batch = [request for request in self._round(first) if request.begin()]
            if batch:
                self._publish(batch)
        self._discard()

    def _round(self, first: PublishRequest) -> list[PublishRequest]:
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

    def _publish(self, batch: list[PublishRequest]) -> None:
        kind: type[BrokerUnavailable] = BrokerUnavailable
        try:
            link = self._connected()
            self._check_topology(max(request.deadline for request in batch))
            kind = PublishUnconfirmed  # from here on something may have been sent
            link.publish(batch)
        except (TopologyBroken, BrokerBlocked) as error:
            logger.warning("not published: %s", error)
            self._fail(batch, type(error), error)
        except Exception as error:  # noqa: BLE001 - whatever it was, this connection is done for
            logger.warning("not published: %s", error)
            self._fail(batch, kind, error)
            self._discard()

    def _fail(self, batch: list[PublishRequest], kind: type[BusError], cause: Exception) -> None:
        """Every caller gets an error of its own: a raised one belongs to its thread."""
        for request in batch:
            if not request.done.done():
                error = kind(f"publishing failed: {cause}")
                error.__cause__ = cause
                request.done.set_exception(error)

    def _check_topology(self, deadline: float) -> None:
        if self._guard and (problem := self._guard.problem(deadline - time.monotonic())):
            raise TopologyBroken(problem)

    def _connected(self) -> PublishChannel:
        if self._link and not self._link.is_alive():
            self._discard()
        if self._link is None:
            if self._guard:
                self._guard.problem(0.0)  # it looks while the connection is made
            self._link = open_publish_channel(self._url, self._queues)
            if self._was_connected:
                RECONNECTS.labels("publisher").inc()
            self._was_connected = True
        return self._link

    def _discard(self) -> None:
        link, self._link = self._link, None
        try:
            if link:
                link.close()
        except Exception as error:  # noqa: BLE001 - it is given up in any case
            logger.warning("closing the connection failed: %r", error)
