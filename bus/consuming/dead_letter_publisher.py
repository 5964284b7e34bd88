"""Publishes to ``<queue>.dead``, with the reason, what a sink will not accept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import msgspec

from bus.consuming.dead_letter import to_dead_letter
from bus.errors import BrokerUnavailable, BusError, InvalidMessage
from bus.message import NO_HEADERS, Delivery
from bus.publishing import Publisher
from bus.runtime.backoff import Backoff
from bus.runtime.metrics import DEAD_LETTERED
from bus.runtime.trace import log_ids
from bus.topology import Queue

logger = logging.getLogger(__name__)


class DeadLetterPublisher:
    """Publishes the dead letters of one queue, one at a time."""

    def __init__(self, url: str, queue: Queue, stop: threading.Event) -> None:
        self._queue = queue
        self._stop = stop
        # Not the queue itself: whatever declares it again must know that it was missing.
        self._publisher = Publisher(url, [queue.dead_letters] if queue.dead_letters else [])

    def publish(
        self,
        delivery: Delivery,
        reason: str,
        error: Exception,
        attempts: int,
        idle: Callable[[float], None],
    ) -> None:
        """Returns when the broker has the dead letter; ``idle`` waits between attempts.

        The message's own headers and properties are left out where their type or size keeps them
        from being published again. Raises BrokerUnavailable when stopped first.
        """
        logger.error(
            "dead letter from %s: %s: %s", self._queue.name, reason, error, extra=log_ids(delivery)
        )
        fallbacks = iter([_without_headers(delivery), _without_properties(delivery)])
        letter = to_dead_letter(self._queue, delivery, reason, error, attempts)
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                self._publisher.publish(letter)
                DEAD_LETTERED.labels(self._queue.name, reason).inc()
                return
            except BusError as unpublished:
                logger.warning("dead letter: %s", unpublished, extra=log_ids(delivery))
                is_invalid = isinstance(unpublished, InvalidMessage)
                if is_invalid and (fallback := next(fallbacks, None)):
                    letter = to_dead_letter(self._queue, fallback, reason, error, attempts)
                else:
                    idle(backoff.next())
        raise BrokerUnavailable("stopped before the broker confirmed the dead letter") from error

    def close(self) -> None:
        self._publisher.close()


def _without_headers(delivery: Delivery) -> Delivery:
    return msgspec.structs.replace(delivery, headers=NO_HEADERS)


def _without_properties(delivery: Delivery) -> Delivery:
    """Without anything that its publisher put around the body."""
    return msgspec.structs.replace(
        _without_headers(delivery),
        message_id=None,
        type=None,
        content_type=None,
        timestamp=None,
    )
