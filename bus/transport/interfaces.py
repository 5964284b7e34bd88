"""What a connection to a broker can do: protocols (PEP 544) that each kind of broker implements."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from typing import Protocol

from bus.errors import BusError, PublishExpired, PublishRefused
from bus.message import Delivery, Message
from bus.runtime.metrics import CONFIRMED, PUBLISH_SECONDS, PUBLISHED, REFUSED, UNPUBLISHED
from bus.topology import Exchange, Queue

# ``AdminConnection.has_message`` keeps a message from others for less than this.
LOOK_SECONDS = 0.1

Renew = Callable[[], None]


class AdminConnection(Protocol):
    """A connection for questions to a broker and for declarations there.

    Use it from one thread. Every method raises BrokerUnavailable; then close the connection and
    open another. A question that the broker cannot answer returns None.
    """

    def close(self) -> None: ...

    def ping(self) -> None:
        """Returns when the broker has answered."""
        ...

    def depth(self, queue: Queue) -> int | None:
        """How many messages on ``queue`` no consumer has taken; None without such a queue."""
        ...

    def consumers(self, queue: Queue) -> int | None:
        """How many consumers ``queue`` has; None without such a queue."""
        ...

    def is_missing(self, queue: Queue) -> bool:
        """Whether ``queue`` was deleted or never made."""
        ...

    def has_message(self, queue: Queue) -> bool:
        """Whether a consumer of ``queue`` would get a message now. Surer than ``depth``."""
        ...

    def purge(self, queue: Queue) -> int:
        """Removes all messages that no consumer has taken, and returns their number."""
        ...

    def declare(self, queues: Iterable[Queue]) -> None:
        """Makes the exchanges, queues and bindings of ``queues`` exist, dead letters first.

        A queue that exists stays as it is, with any arguments: another release may own it.
        """
        ...

    def bindings(self, exchanges: Iterable[Exchange]) -> set[tuple[str, str, str]] | None:
        """Exchange, routing key and queue of each binding of ``exchanges``."""
        ...

    def bind(self, queue: Queue) -> bool:
        """Makes the bindings of ``queue`` exist; False when it or an exchange does not."""
        ...

    def return_unsettled(self, queue: Queue, instance: str) -> None:
        """Returns to ``queue`` what its consumer ``instance`` left unsettled when it was killed."""
        ...

    def queue_lock(self, queue: Queue) -> AbstractContextManager[Renew]:
        """Locks ``queue`` against other operators until the block ends or the connection breaks.

        Yields a function to call before every step, at least once in 60 s. It, and entering the
        block, raise QueueBusy while another command holds the lock.
        """
        ...


class DeliveryFeed(Protocol):
    """A source of deliveries that its user settles. Use it from one thread.

    Every method raises BrokerUnavailable when the connection is lost; unsettled deliveries then
    come again, marked ``redelivered``. After that error, close the feed and open another.
    """

    def receive(self, limit: int, wait: float) -> list[Delivery]:
        """What has arrived, at most ``limit``; waits up to ``wait`` seconds for the first."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settles ``deliveries``, in any order: they never come again."""
        ...

    def idle(self, seconds: float) -> None:
        """Keeps the connection alive for ``seconds`` without returning deliveries."""
        ...

    def close(self) -> None:
        """Closes the connection; unsettled deliveries return to the queue, in order."""
        ...


class Subscription(DeliveryFeed, Protocol):
    """One consumer's subscription to one queue.

    A SubscriptionCancelled, which is a BrokerUnavailable, means that the queue was deleted, or
    may have been.
    """

    def cancel(self) -> None:
        """Asks for nothing more. Received deliveries may still be settled, and deliveries on their
        way may still be received.

        Call it before the last acknowledgement, which would otherwise bring another delivery, and
        that one would return to the queue marked as redelivered. The next consumer gets the queue
        at once, so do not cancel where the queue's order matters.
        """
        ...


class PublishRequest:
    """Messages of one caller, the deadline for sending them, and the caller's future.

    A request without messages asks whether the broker would take some.
    """

    def __init__(self, messages: Sequence[Message], timeout: float) -> None:
        self.messages = messages
        self.timeout = timeout
        self.started = time.monotonic()
        self.deadline = self.started + timeout
        self.unconfirmed = len(messages) or 1
        self.refusal: BusError | None = None
        self.done: Future[None] = Future()
        if messages:
            PUBLISHED.inc(len(messages))
            self.done.add_done_callback(self._count)

    def begin(self) -> bool:
        """Whether to send it: False when its caller gave up or its deadline passed."""
        if not self.done.set_running_or_notify_cancel():
            return False
        if time.monotonic() < self.deadline:
            return True
        self.done.set_exception(PublishExpired(self.timeout))
        return False

    def refuse(self, refusal: BusError) -> None:
        """Notes why one of its messages cannot be published; the first reason counts."""
        self.refusal = self.refusal or refusal

    def confirm_one(self) -> None:
        """Counts one answer of the broker, and settles the request with the last one."""
        self.unconfirmed -= 1
        if self.unconfirmed == 0:
            self.settle()

    def settle(self) -> None:
        """Gives the outcome to the caller."""
        if self.refusal:
            self.done.set_exception(self.refusal)
        else:
            self.done.set_result(None)

    def _count(self, done: Future[None]) -> None:
        error = CancelledError() if done.cancelled() else done.exception()
        if error is None:
            CONFIRMED.inc(len(self.messages))
            PUBLISH_SECONDS.observe(time.monotonic() - self.started)
        elif isinstance(error, PublishRefused):
            REFUSED.inc(len(self.messages))
        else:
            UNPUBLISHED.inc(len(self.messages))


class PublishChannel(Protocol):
    """A connection for one thread; after any error, close it and open another."""

    def is_alive(self) -> bool:
        """Whether the broker still holds the connection."""
        ...

    def publish(self, batch: list[PublishRequest]) -> None:
        """Sends all messages of ``batch`` and settles each request by the broker's answers.

        Raises BrokerBlocked, after which nothing was sent and the channel may be used again, or
        BrokerUnavailable.
        """
        ...

    def close(self) -> None: ...
