"""One consumer's metrics, health status and progress."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from bus.consuming.in_flight import Unacked
from bus.runtime import metrics
from bus.runtime.health import CONNECTING, OK, PAUSED
from bus.topology import Queue

LONGEST_STATUS = 200


class ConsumerStatus:
    """Written by the consumer's thread, read by any. Times are in seconds since 1970.

    ``is_active``: the latest subscription has delivered something, or the backfill runs. The
    standbys of a queue with a single active consumer see an empty queue, which means nothing.
    """

    def __init__(self, queue: Queue) -> None:
        name = queue.name
        self.status = CONNECTING
        self.is_active = False
        self._began = time.time()
        self._oldest: float | None = None
        self._processed: float | None = None
        self._is_idle = False
        self._has_lost_broker = False
        self._paused = metrics.PAUSED.labels(name)
        self._consumed = metrics.CONSUMED.labels(name)
        self._retried = metrics.RETRIED.labels(name)
        self._subscriptions = metrics.SUBSCRIPTIONS.labels(name)
        self._batches = metrics.BATCH_SIZE.labels(name)
        self._sink_seconds = metrics.SINK_SECONDS.labels(name)
        self._event_seconds = metrics.EVENT_SECONDS.labels(name)
        metrics.OLDEST_SECONDS.labels(name).set_function(self._age)

    @property
    def processed(self) -> datetime | None:
        """The consumer has processed all events published before this; None when unknown."""
        known = [time for time in (self._processed, self._oldest) if time is not None]
        return datetime.fromtimestamp(min(known), UTC) if known else None

    def disconnected(self) -> None:
        """Nothing is in flight any more, and what arrives is unknown."""
        known = self.processed
        self._processed = known.timestamp() if known else None
        self._oldest = None
        self._is_idle = False
        self.status = CONNECTING
        self._subscriptions.set(0)

    def connection_lost(self) -> None:
        self._has_lost_broker = True

    def connected(self) -> None:
        self.is_active = False
        self.status = OK
        self._paused.set(0)
        self._subscriptions.set(1)
        if self._has_lost_broker:
            metrics.RECONNECTS.labels("consumer").inc()
            self._has_lost_broker = False

    def paused(self) -> None:
        self.status = PAUSED
        self._paused.set(1)

    def idle(self) -> None:
        """The queue is empty, and nothing is in flight."""
        self._processed = time.time()
        self._is_idle = True

    def in_flight_since(self, oldest: float | None) -> None:
        """``oldest`` is when the oldest event in flight was published; None without any."""
        self._is_idle &= oldest is None
        # A publisher's clock may be ahead: nothing was published after now.
        self._oldest = None if oldest is None else min(oldest, time.time())

    def accepted(self, piece: list[Unacked], seconds: float) -> None:
        """The sink took ``seconds`` for ``piece``."""
        now = time.time()
        # The time of publishing, by which the queue and the archive are ordered; an event's own
        # time may lie years before it, or in the future.
        newest = min(now, piece[-1].published)
        self._processed = max(newest, self._processed or newest)
        self._consumed.inc(len(piece))
        self._batches.observe(len(piece))
        self._sink_seconds.observe(seconds)
        oldest = min(item.published for item in piece)
        self._event_seconds.observe(max(0.0, now - oldest))
        self.status = OK

    def failed(self, piece: list[Unacked]) -> None:
        self._retried.inc(len(piece))

    def sink_is_down(self, why: object) -> None:
        self.status = f"sink: {why}"[:LONGEST_STATUS]

    def _age(self) -> float:
        if self._is_idle:
            return 0.0
        known = self.processed
        return max(0.0, time.time() - (known.timestamp() if known else self._began))
