"""Where a consumer puts what its sink will not take: ``<queue>.dead``, with the reason."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from bus import events, topology
from bus.errors import BrokerUnavailable, BusError, InvalidMessage
from bus.message import NO_HEADERS, Delivery, Message
from bus.publishing import Publisher
from bus.runtime import trace
from bus.runtime.backoff import Backoff
from bus.runtime.metrics import DEAD_LETTERED
from bus.topology import Queue

logger = logging.getLogger(__name__)

INVALID = "invalid_event"
REFUSED = "refused_by_sink"
EXHAUSTED = "retries_exhausted"
LONGEST_EXCEPTION = 1_000


class Burial:
    """Publishes the dead letters of one queue, one after the other."""

    def __init__(self, url: str, queue: Queue, stop: threading.Event) -> None:
        self._queue = queue
        self._stop = stop
        # Not the queue itself: who makes that anew must know that it was gone.
        self._publisher = Publisher(url, [queue.dead_letters] if queue.dead_letters else [])

    def bury(
        self,
        delivery: Delivery,
        reason: str,
        error: Exception,
        attempts: int,
        idle: Callable[[float], None],
    ) -> None:
        """Returns when the broker has the dead letter; ``idle`` is how to wait meanwhile.

        Its own headers and properties are left out where they cannot be published again, for
        their type or size. Raises BrokerUnavailable when stopped before.
        """
        logger.error(
            "dead letter from %s: %s: %s", self._queue.name, reason, error, extra=ids(delivery)
        )
        lighter_ones = iter([_without_headers(delivery), _bare(delivery)])
        letter = dead_letter(self._queue, delivery, reason, error, attempts)
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                self._publisher.publish(letter)
                DEAD_LETTERED.labels(self._queue.name, reason).inc()
                return
            except BusError as unpublished:
                logger.warning("dead letter: %s", unpublished, extra=ids(delivery))
                is_invalid = isinstance(unpublished, InvalidMessage)
                if is_invalid and (lighter := next(lighter_ones, None)):
                    letter = dead_letter(self._queue, lighter, reason, error, attempts)
                else:
                    idle(backoff.next())
        raise BrokerUnavailable("stopped before the dead letter was kept") from error

    def close(self) -> None:
        self._publisher.close()


def dead_letter(
    queue: Queue, delivery: Delivery, reason: str, error: Exception, attempts: int
) -> Message:
    """``delivery`` as it goes to ``<queue>.dead``: the body untouched, the reason in headers.

    ``attempts`` is how often the sink had it alone. A letter that was tried again keeps the
    routing key that it had at first.
    """
    first_key = delivery.headers.get("x-routing-key", delivery.routing_key)
    headers = dict(delivery.headers) | {
        "x-reason": reason,
        "x-exception": _text_of(error),
        "x-consumer": queue.name,
        "x-time": events.format_time(datetime.now(UTC)),
        "x-routing-key": first_key,
        "x-attempts": attempts,
    }
    return Message(
        exchange=topology.DEAD.name,
        routing_key=queue.name,
        body=delivery.body,
        message_id=delivery.message_id or str(events.new_id()),
        type=delivery.type or "unknown",
        content_type=delivery.content_type or "application/octet-stream",
        timestamp=delivery.timestamp,
        headers=headers,
    )


def _without_headers(delivery: Delivery) -> Delivery:
    return msgspec.structs.replace(delivery, headers=NO_HEADERS)


def _bare(delivery: Delivery) -> Delivery:
    """With nothing of what somebody else may have put around the body."""
    return msgspec.structs.replace(
        _without_headers(delivery),
        message_id=None,
        type=None,
        content_type=None,
        timestamp=None,
    )


def _text_of(error: Exception) -> str:
    """Without what UTF-8 cannot encode."""
    text = f"{type(error).__name__}: {error}"[:LONGEST_EXCEPTION]
    return text.encode(errors="backslashreplace").decode()


def ids(delivery: Delivery) -> dict[str, object]:
    """What a log record tells of ``delivery``."""
    headers = delivery.headers
    return {
        "event_id": delivery.message_id,
        "room_id": headers.get("room_id"),
        "trace_id": trace.trace_id_of(headers.get(trace.HEADER)),
    }
