"""The loop of every event consumer: batches in, one sink, and a place for what cannot be sunk.

* A delivery is acknowledged only after the sink accepted it.
* A sink that is down pauses the consumer with the batch in hand; the queue holds the rest, and
  nothing counts towards a delivery limit.
* What cannot be decoded, or what the sink refuses for good, goes to the dead-letter queue with
  the reason, alone: a batch that fails is tried again one by one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from bus import events, topology
from bus.backoff import Backoff
from bus.errors import BrokerUnavailable, BusError, InvalidEvent, RetryableError
from bus.events import Event
from bus.message import Delivery, Message
from bus.publisher import Publisher
from bus.source import Source, open_source
from bus.topology import Queue

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5


class Sink(Protocol):
    """Where a consumer puts events.

    Putting the same event again must change nothing. Raises a RetryableError when the store
    cannot take anything now; any other error means that this batch will never be accepted.
    """

    def store(self, batch: Sequence[Event]) -> None: ...


class Consumer:
    """Moves the events of one queue into one sink until ``stop`` is set.

    ``batch`` bounds how many events the sink gets at once; a batch is whatever has arrived, so an
    idle queue adds no delay and a full one gives full batches.
    """

    def __init__(
        self,
        *,
        url: str,
        queue: Queue,
        sink: Sink,
        stop: threading.Event,
        batch: int,
        instance: str = "1",
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._queue = queue
        self._sink = sink
        self._stop = stop
        self._batch = batch
        self._instance = instance
        self._on_connected = on_connected
        self._publisher = Publisher(url, [queue])

    def run(self) -> None:
        """Consumes, and connects again whenever the broker was lost. Returns when stopped."""
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                self._consume(backoff)
            except BrokerUnavailable as error:
                delay = backoff.next()
                logger.warning("%s; next attempt in %.1f s", error, delay)
                self._stop.wait(delay)
        self._publisher.close()

    def _consume(self, backoff: Backoff) -> None:
        source = open_source(
            self._url, self._queue, prefetch=2 * self._batch, instance=self._instance
        )
        logger.info("consuming %s", self._queue.name)
        self._on_connected()
        backoff.reset()
        try:
            while not self._stop.is_set():
                self._step(source)
        finally:
            source.close()

    def _step(self, source: Source) -> None:
        """Receives a batch and settles it, unless it must go back to the queue."""
        deliveries = source.receive(self._batch, POLL_SECONDS)
        if self._settle(source, deliveries):
            source.ack(deliveries)

    def _settle(self, source: Source, deliveries: list[Delivery]) -> bool:
        """Puts each delivery into the sink or among the dead letters; False if stopped before."""
        batch: list[tuple[Delivery, Event]] = []
        for delivery in deliveries:
            try:
                batch.append((delivery, events.decode(delivery.body)))
            except InvalidEvent as error:
                self._bury(source, delivery, "invalid_event", error)
        return not batch or self._store(source, batch)

    def _store(self, source: Source, batch: list[tuple[Delivery, Event]]) -> bool:
        backoff = Backoff()
        while True:
            try:
                self._sink.store([event for _, event in batch])
                return True
            except RetryableError as error:
                delay = backoff.next()
                logger.warning("%s; the queue waits, next attempt in %.1f s", error, delay)
                if self._stopped_within(delay, source):
                    return False
            except Exception as error:  # noqa: BLE001 - a sink may fail in any way
                return self._isolate(source, batch, error)

    def _isolate(
        self, source: Source, batch: list[tuple[Delivery, Event]], error: Exception
    ) -> bool:
        """The sink refused ``batch`` for good: find out which of its events it cannot take."""
        if len(batch) > 1:
            return all(self._store(source, [item]) for item in batch)
        self._bury(source, batch[0][0], "refused_by_sink", error)
        return True

    def _bury(self, source: Source, delivery: Delivery, reason: str, error: Exception) -> None:
        """Publishes a delivery to the dead-letter queue, and waits until the broker has it."""
        logger.error(
            "dead letter from %s: %s: %s",
            self._queue.name,
            reason,
            error,
            extra={"event_id": delivery.message_id},
        )
        letter = dead_letter(self._queue, delivery, reason, error)
        backoff = Backoff()
        while True:
            try:
                return self._publisher.publish(letter)
            except BusError as unpublished:
                logger.warning("%s", unpublished)
                if self._stopped_within(backoff.next(), source):
                    raise BrokerUnavailable("stopped before the dead letter was kept") from error

    def _stopped_within(self, seconds: float, source: Source) -> bool:
        """Waits ``seconds``, or until stopped, and keeps the connection alive."""
        deadline = time.monotonic() + seconds
        while not self._stop.is_set() and (remaining := deadline - time.monotonic()) > 0:
            source.idle(min(remaining, POLL_SECONDS))
        return self._stop.is_set()


def dead_letter(queue: Queue, delivery: Delivery, reason: str, error: Exception) -> Message:
    """``delivery`` as it goes to ``<queue>.dead``: the body untouched, the reason in headers."""
    headers = dict(delivery.headers) | {
        "x-reason": reason,
        "x-exception": f"{type(error).__name__}: {error}"[:1_000],
        "x-consumer": queue.name,
        "x-time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "x-routing-key": delivery.routing_key,
    }
    return Message(
        exchange=topology.DEAD.name,
        routing_key=queue.name,
        body=delivery.body,
        message_id=delivery.message_id or str(events.new_id()),
        type=delivery.type or "unknown",
        content_type=delivery.content_type or "application/octet-stream",
        headers=headers,
    )
