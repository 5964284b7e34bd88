"""Subscribing again whenever the broker was lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from bus.errors import BrokerUnavailable
from bus.runtime.backoff import Backoff
from bus.topology import Queue
from bus.transport import Subscription, subscribe

logger = logging.getLogger(__name__)


def resubscribe(
    url: str,
    queue: Queue,
    stop: threading.Event,
    use: Callable[[Subscription], None],
    *,
    prefetch: int,
    instance: str = "1",
    before: Callable[[], None] = lambda: None,
) -> None:
    """Calls ``use`` with a source, and with a new one after the broker was lost, until ``stop``.

    ``before`` is called before each subscription.
    """
    backoff = Backoff()
    while not stop.is_set():
        try:
            before()
            source = subscribe(url, queue, prefetch=prefetch, instance=instance)
            backoff.reset()
            logger.info("consuming %s", queue.name)
            try:
                use(source)
            finally:
                source.close()
        except BrokerUnavailable as error:
            delay = backoff.next()
            logger.warning("%s; next attempt in %.1f s", error, delay)
            stop.wait(delay)
