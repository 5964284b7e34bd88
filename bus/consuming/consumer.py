"""Consumes a queue in batches into one sink; what the sink rejects is dead-lettered.

* The consumer acknowledges a delivery only after the sink has accepted it.
* While the sink is down, the consumer keeps its batch and retries it. The queue holds the rest,
  and nothing counts towards a delivery limit.
* The consumer dead-letters, alone and with the reason, an event that cannot be decoded, one that
  the sink refuses for good, and one that keeps failing while the sink accepts others
  (``in_flight``).
* The consumer declares a deleted queue again, and re-reads from the archive what the queue lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Protocol

from bus import events
from bus.consuming import dead_letter
from bus.consuming.backfill import Backfill
from bus.consuming.consumer_status import ConsumerStatus
from bus.consuming.dead_letter_publisher import DeadLetterPublisher
from bus.consuming.in_flight import InFlight, Unacked
from bus.consuming.pause import PauseWatch
from bus.consuming.resubscribe import Attempt, resubscribing
from bus.errors import BrokerUnavailable, InvalidEvent, RetryableError, SubscriptionCancelled
from bus.events import Event
from bus.message import Delivery
from bus.runtime.trace import log_ids
from bus.topology import Queue
from bus.transport import DeliveryFeed, Subscription

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5


class Sink(Protocol):
    """Where a consumer puts events.

    Storing the same event again must change nothing. Raises a RetryableError when the store
    can accept nothing now; any other error means that it will never accept this batch.
    """

    def store(self, batch: Sequence[Event]) -> None: ...


class Consumer:
    """Moves the events of one queue into one sink until ``stop`` is set.

    ``batch`` bounds how many events the sink gets at once. A batch is whatever has arrived, so an
    idle queue adds no delay and a full one gives full batches. At most twice as many are in
    flight. ``instance`` tells apart the consumers of one queue where the broker is Redis.
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
        self._in_order = "x-single-active-consumer" in queue.arguments
        self._dead_letters = DeadLetterPublisher(url, queue, stop)
        self._watch = PauseWatch(url, queue)
        self._status = ConsumerStatus(queue)
        self._backfill = Backfill(url, queue)
        self._in_flight = InFlight(batch, in_order=self._in_order)

    def status(self) -> str:
        """“ok”, “paused”, “connecting”, or “sink: ” and what is wrong with it. For any thread."""
        return self._status.status

    def run(self) -> None:
        """Consumes until stopped, and connects again whenever the broker is lost.

        Events in flight then return to the queue, in order.
        """
        with closing(self._watch), closing(self._dead_letters), self._backfill.reported():
            for attempt in resubscribing(self._stop):
                with attempt, self._noting_losses():
                    self._watch.rest(self._stop, self._on_paused)
                    self._consume(attempt)

    @contextmanager
    def _noting_losses(self) -> Iterator[None]:
        """Wraps whatever may lose the broker: the events in flight are lost with it."""
        try:
            yield
        except BrokerUnavailable as error:
            processed = self._let_go()
            if isinstance(error, SubscriptionCancelled):
                self._backfill.open(processed)
            self._status.connection_lost()
            raise

    def _on_paused(self) -> None:
        """A paused process is ready: it does what it should."""
        self._status.paused()
        self._on_connected()

    def _consume(self, attempt: Attempt) -> None:
        """Returns when stopped or paused."""
        if self._stop.is_set():
            return
        self._find_backfill()
        source = attempt.subscribe(
            self._url, self._queue, prefetch=2 * self._batch, instance=self._instance
        )
        with closing(source):
            self._status.connected()
            self._on_connected()
            self._run_backfill(source)
            while self._goes_on():
                if self._step(source):
                    self._status.is_active = True
                else:
                    self._status.idle()
            self._let_go()

    def _goes_on(self) -> bool:
        return not self._stop.is_set() and not self._watch.is_paused()

    def _let_go(self) -> datetime | None:
        """Forgets the events in flight; the time up to which all is processed, if known."""
        self._status.in_flight_since(self._in_flight.oldest())
        self._status.disconnected()
        self._in_flight = InFlight(self._batch, in_order=self._in_order)
        return self._status.processed

    def _find_backfill(self) -> None:
        """Opens the backfill of a missing queue, unless the active consumer will do it.

        A standby knows less of what the queue lost than the consumer that was active.
        """
        self._backfill.find(self._status.processed)
        was_standby = self._in_order and not self._status.is_active
        if was_standby and self._backfill.is_left_to_active_consumer(self._stop):
            logger.info("%s: the active consumer re-reads what the queue lost", self._queue.name)
            self._backfill.close()

    def _run_backfill(self, source: Subscription) -> None:
        """Re-reads what the queue lost, while ``source`` keeps this consumer the active one."""
        if not self._backfill.is_open:
            return
        self._status.is_active = True
        archive = self._backfill.open_archive(2 * self._batch)
        if archive:
            with closing(archive):
                while not archive.is_at_end or not self._in_flight.is_empty:
                    if not self._goes_on():
                        return
                    self._step(archive)
                    source.idle(0)
            logger.warning(
                "%s: re-read %d events from the archive", self._queue.name, archive.taken
            )
        self._backfill.close()

    def _step(self, source: DeliveryFeed) -> bool:
        """Receives what has arrived, puts one piece into the sink; False if there is nothing."""
        pause = self._in_flight.wait(time.monotonic())
        wait = POLL_SECONDS if pause is None else min(pause, POLL_SECONDS)
        deliveries = source.receive(self._batch, wait)
        self._in_flight.add(self._decoded(source, deliveries))
        self._status.in_flight_since(self._in_flight.oldest())
        if piece := self._in_flight.next(time.monotonic()):
            self._put(source, piece)
        return bool(deliveries) or not self._in_flight.is_empty

    def _decoded(self, source: DeliveryFeed, deliveries: list[Delivery]) -> list[Unacked]:
        """The events in ``deliveries``; what cannot be decoded is dead-lettered."""
        items = []
        for delivery in deliveries:
            try:
                event = events.decode(delivery.body)
            except InvalidEvent as error:
                self._dead_letters.publish(delivery, dead_letter.INVALID, error, 0, source.idle)
                source.ack([delivery])
            else:
                items.append(Unacked(delivery, event, events.published_at(delivery, event)))
        return items

    def _put(self, source: DeliveryFeed, piece: list[Unacked]) -> None:
        """Puts ``piece`` into the sink, and settles it by the outcome."""
        began = time.monotonic()
        try:
            self._sink.store([item.event for item in piece])
        except RetryableError as error:
            self._failed(source, piece, error)
        except Exception as error:  # noqa: BLE001 - a sink may fail in any way
            if self._in_flight.refused(piece):
                self._dead_letter(
                    source, piece[0], dead_letter.REFUSED, error, piece[0].attempts + 1
                )
        else:
            source.ack([item.delivery for item in piece])
            self._in_flight.accepted(piece)
            self._status.accepted(piece, time.monotonic() - began)
            self._trace("accepted by the sink", piece)

    def _failed(self, source: DeliveryFeed, piece: list[Unacked], error: RetryableError) -> None:
        self._status.failed(piece)
        self._trace("the sink failed", piece)
        if self._in_flight.failed(piece, time.monotonic()):
            self._dead_letter(source, piece[0], dead_letter.EXHAUSTED, error, piece[0].attempts)
        elif self._in_flight.is_down():
            self._status.sink_is_down(error)
            logger.warning("sink unavailable, %d events in flight: %s", len(piece), error)

    def _dead_letter(
        self, source: DeliveryFeed, item: Unacked, reason: str, error: Exception, attempts: int
    ) -> None:
        self._dead_letters.publish(item.delivery, reason, error, attempts, source.idle)
        source.ack([item.delivery])
        self._in_flight.drop(item)

    def _trace(self, what: str, piece: list[Unacked]) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            for item in piece:
                logger.debug("%s: %s", self._queue.name, what, extra=log_ids(item.delivery))
