"""The in-flight window: which unacknowledged events to try next. No I/O.

All of them are tried as one batch. When the sink fails, the batch is retried after a pause. When
it has failed TRIES times, or the sink refuses it for good, smaller and smaller pieces are tried,
down to a single event; every success allows larger pieces again.

An event that fails alone is parked, and retried later while the others go on. The others show
whether the event is at fault or the sink is down: a failure counts as the event's own attempt
only when nothing else failed between two successes. So a sink that is down, or hardly works, uses
up no attempts, however long that lasts.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from bus.events import Event
from bus.message import Delivery
from bus.runtime.backoff import Backoff

# How often a batch is tried before its events are tried alone.
TRIES = 5
# How often an event that fails alone is tried, while the sink accepts others: spread over about
# half a minute.
ATTEMPTS = 8
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0


class Unacked(Struct, eq=False, gc=False):
    """A delivery that is not settled yet, and its event.

    ``published`` is in seconds since 1970. ``attempts`` counts only the failures of this event
    itself.
    """

    delivery: Delivery
    event: Event
    published: float
    attempts: int = 0
    due: float = 0.0


class InFlight:
    """The unsettled deliveries of one subscription. Times are those of ``time.monotonic``.

    The caller passes every piece that ``next`` returns to exactly one of ``accepted``, ``failed``
    and ``refused``. ``in_order``: an event waits behind an earlier one of its room.
    """

    def __init__(self, batch: int, *, in_order: bool) -> None:
        self._batch = batch
        self._in_order = in_order
        self._size = batch
        self._ready: list[Unacked] = []
        # Events that failed alone, each followed by those that must wait behind it.
        self._parked: dict[Any, deque[Unacked]] = {}
        self._failures = 0
        # The only event that has failed since the last success.
        self._suspect: Unacked | None = None
        self._backoff = Backoff()
        self._rest_until = 0.0

    def add(self, items: Iterable[Unacked]) -> None:
        if not self._parked:
            self._ready += items
            return
        for item in items:
            waiting = self._parked.get(self._ordering_key(item))
            (self._ready if waiting is None else waiting).append(item)

    def next(self, now: float) -> list[Unacked]:
        """What to put into the sink now; nothing during a pause, or when there is nothing to do.

        After a failure something else goes first: it shows whether the sink is down.
        """
        if now < self._rest_until:
            return []
        head = self._next_head()
        if head and head.due <= now and not (self._failures and self._ready):
            return [head]
        return self._ready[: self._size]

    def wait(self, now: float) -> float | None:
        """Seconds until ``next`` returns something; None if that takes another delivery."""
        head = self._next_head()
        if not self._ready and head is None:
            return None
        due = 0.0 if self._ready or head is None else head.due
        return max(0.0, self._rest_until - now, due - now)

    @property
    def is_empty(self) -> bool:
        return not self._ready and not self._parked

    def oldest(self) -> float | None:
        """When the oldest of these events was published; None without any."""
        times = [item.published for item in self._ready]
        times += (item.published for waiting in self._parked.values() for item in waiting)
        return min(times, default=None)

    def is_down(self) -> bool:
        """Whether the sink seems to be down: it accepted nothing between two or more failures."""
        return self._failures > 1

    def accepted(self, piece: list[Unacked]) -> None:
        if self._suspect:
            self._suspect.attempts += 1
        self._suspect = None
        self._failures = 0
        self._backoff.reset()
        self._size = min(self._batch, self._size * 2)
        self._remove(piece)

    def failed(self, piece: list[Unacked], now: float) -> bool:
        """The sink could not accept ``piece`` now; True if that was the event's last attempt."""
        alone = piece[0] if len(piece) == 1 else None
        self._suspect = alone if not self._failures or alone is self._suspect else None
        self._failures += 1
        if self._failures > 1 or len(piece) > 1:
            self._rest_until = now + self._backoff.next()
        if len(piece) > 1:
            self._shrink(len(piece))
            return False
        self._park(piece[0], now)
        return piece[0].attempts >= ATTEMPTS

    def refused(self, piece: list[Unacked]) -> bool:
        """The sink will never accept ``piece``; True if it is one event, and so is at fault."""
        self._size = max(1, len(piece) // 2)
        return len(piece) == 1

    def drop(self, item: Unacked) -> None:
        """``item`` was dead-lettered: the events behind it may go on."""
        self._remove([item])

    def _shrink(self, length: int) -> None:
        if self._size < self._batch:
            self._size = max(1, length // 2)
        elif self._failures >= TRIES:
            self._size = 1

    def _park(self, item: Unacked, now: float) -> None:
        item.due = now + _pause(item.attempts)
        key = self._ordering_key(item)
        if key in self._parked:
            return
        behind = [other for other in self._ready if self._ordering_key(other) == key]
        self._ready = [other for other in self._ready if self._ordering_key(other) != key]
        self._parked[key] = deque(behind)

    def _remove(self, piece: list[Unacked]) -> None:
        if self._parked and len(piece) == 1:
            waiting = self._parked.get(self._ordering_key(piece[0]))
            if waiting and waiting[0] is piece[0]:
                del self._parked[self._ordering_key(piece[0])]
                waiting.popleft()
                self._ready[:0] = waiting
                return
        del self._ready[: len(piece)]

    def _next_head(self) -> Unacked | None:
        """The parked event that is due first."""
        heads = (waiting[0] for waiting in self._parked.values())
        return min(heads, key=lambda item: item.due, default=None)

    def _ordering_key(self, item: Unacked) -> Any:
        return item.event.channel_id if self._in_order else item.event.id


def _pause(attempts: int) -> float:
    bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**attempts)
    return random.uniform(bound / 2, bound)
