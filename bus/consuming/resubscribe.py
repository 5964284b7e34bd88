"""The loop of whatever consumes a queue: subscribe, consume, and begin again after a loss::

for attempt in resubscribing(stop):
    with attempt, closing(attempt.subscribe(url, queue, prefetch=1)) as source:
        ...
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from types import TracebackType

from bus.errors import BrokerUnavailable, SubscriptionCancelled
from bus.runtime.backoff import Backoff
from bus.topology import Queue
from bus.transport import Subscription, subscribe

logger = logging.getLogger(__name__)


def resubscribing(stop: threading.Event) -> Iterator[Attempt]:
    """Attempts at a subscription, one after the other, until ``stop`` is set."""
    attempt = Attempt(stop)
    while not stop.is_set():
        yield attempt


class Attempt:
    """A block in which the broker may be lost: a BrokerUnavailable ends the block, and no more.

    It is followed by a pause, which grows until a subscription succeeds. A cancelled subscription
    is not: the broker does answer, and the queue must be declared again soon.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._backoff = Backoff()

    def subscribe(
        self, url: str, queue: Queue, *, prefetch: int, instance: str = "1"
    ) -> Subscription:
        """Declares ``queue`` and subscribes to it. Raises BrokerUnavailable."""
        source = subscribe(url, queue, prefetch=prefetch, instance=instance)
        self._backoff.reset()
        logger.info("consuming %s", queue.name)
        return source

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, SubscriptionCancelled):
            logger.warning("%s", error)
        elif isinstance(error, BrokerUnavailable):
            delay = self._backoff.next()
            logger.warning("%s; next attempt in %.1f s", error, delay)
            self._stop.wait(delay)
        return isinstance(error, BrokerUnavailable)
