"""Backfill: re-reads from the archive what a deleted queue lost.

A queue that is declared again gets only what is published from then on. What was on the deleted
queue, or was published while there was none, is in the stream ``chat.archive``. The consumer reads
the stream from the time up to which it had processed everything, less CLOCK_SKEW.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

from bus import events
from bus.message import Delivery
from bus.topology import ARCHIVE, CONSUMERS, Queue
from bus.transport import connect_admin, depth, has_streams

logger = logging.getLogger(__name__)

# Clocks of the web tier and the broker may differ by this much.
CLOCK_SKEW = timedelta(minutes=1)
# How long a consumer that was not active leaves the backfill to the one that was.
PRECEDENCE_SECONDS = 3.0
POLL_SECONDS = 0.1


class ArchiveFeed:
    """The archived events that one queue is bound to. See ``DeliveryFeed``.

    ``taken`` counts the events returned. Raises BrokerUnavailable.
    """

    def __init__(self, url: str, queue: Queue, start: datetime, prefetch: int) -> None:
        from bus.transport.rabbitmq.stream import StreamFeed

        self._queue = queue
        self._stream = StreamFeed(url, ARCHIVE, start, prefetch)
        self.taken = 0

    @property
    def is_at_end(self) -> bool:
        return self._stream.is_at_end

    def receive(self, limit: int, wait: float) -> list[Delivery]:
        taken: list[Delivery] = []
        others: list[Delivery] = []
        for delivery in self._stream.receive(limit, wait):
            (taken if self._queue.takes(delivery.routing_key) else others).append(delivery)
        self.ack(others)
        self.taken += len(taken)
        return taken

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._stream.ack(deliveries)

    def idle(self, seconds: float) -> None:
        self._stream.idle(seconds)

    def close(self) -> None:
        self._stream.close()


class Backfill:
    """Whether this consumer must still read something that the queue lost, and since when."""

    def __init__(self, url: str, queue: Queue) -> None:
        self._url = url
        self._queue = queue
        self._is_open = False
        self._since: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self._is_open

    def find(self, since: datetime | None) -> None:
        """Opens the backfill if the queue is missing. Everything before ``since`` was processed,
        if that is known."""
        with closing(connect_admin(self._url)) as admin:
            if admin.is_missing(self._queue):
                self.open(since)

    def open(self, since: datetime | None) -> None:
        """Does nothing if the backfill is open: then it began earlier."""
        if not self._is_open:
            self._is_open, self._since = True, since

    def close(self) -> None:
        self._is_open = False

    def is_left_to_active_consumer(self, stop: threading.Event) -> bool:
        """Whether another consumer, which knows what the queue lost, subscribes to it soon."""
        if not self._is_open or self._since is None or not has_streams(self._url):
            return False
        deadline = time.monotonic() + PRECEDENCE_SECONDS
        with closing(connect_admin(self._url)) as admin:
            while time.monotonic() < deadline and not stop.is_set():
                if admin.consumers(self._queue):
                    return True
                stop.wait(POLL_SECONDS)
        return False

    def open_archive(self, prefetch: int) -> ArchiveFeed | None:
        """A feed of what was lost; None, with a line in the log, if there is none to read."""
        archived = self._archived()
        if self._since is None:
            if archived:
                logger.warning(
                    "%s was missing, and the archive has events: if the queue ever existed, it"
                    " has lost some. Re-read them with: %s",
                    self._queue.name,
                    self._replay("TIME"),
                )
            return None
        if archived is None:
            logger.error(
                "%s was deleted, and there is no %s: its events since %s may be lost",
                self._queue.name,
                ARCHIVE.name,
                events.format_time(self._since),
            )
            return None
        return ArchiveFeed(self._url, self._queue, self._since - CLOCK_SKEW, prefetch)

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Logs an error if the block ends, or fails, before everything lost was read."""
        try:
            yield
        finally:
            if self._is_open:
                since = events.format_time(self._since - CLOCK_SKEW) if self._since else "TIME"
                logger.error(
                    "stopped before reading all that %s lost. Re-read it with: %s",
                    self._queue.name,
                    self._replay(since),
                )

    def _archived(self) -> int | None:
        """How many events the archive holds; None without an archive."""
        return depth(self._url, ARCHIVE) if has_streams(self._url) else None

    def _replay(self, since: str) -> str:
        names = (name for name, queue in CONSUMERS.items() if queue.name == self._queue.name)
        # Not --from, which is about the events' own times: an import publishes old events.
        return f"chatbus replay --into {next(names, self._queue.name)} --archived-from {since}"
