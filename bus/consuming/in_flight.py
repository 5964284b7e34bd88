"""What a consumer has in hand and which of it to put into the sink next: decisions without I/O.

All of it is tried as one batch. When the sink fails, the batch is tried again after a pause; when
it fails TRIES times, or when the sink refuses it for good, smaller and smaller pieces are tried
until one event stands alone, and larger ones again with every success.

An event that fails alone is set aside, and tried again later while the others go on. Whether it
is at fault, or the sink is down, shows in the others: it has used up an attempt only when between
two successes nothing but it failed. So a sink that is down, or hardly works, uses up no attempts,
however long that lasts.
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

# Of a batch, before its events are tried alone.
TRIES = 5
# Of an event that fails alone while the sink takes others: spread over about half a minute.
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

    After every piece that ``next`` gives, exactly one of ``accepted``, ``failed`` and ``refused``
    is called with it. ``in_order``: an event waits behind an earlier one of its room.
    """

    def __init__(self, batch: int, *, in_order: bool) -> None:
        self._batch = batch
        self._in_order = in_order
        self._size = batch
        self._ready: list[Unacked] = []
        # What fails alone, each at the head of what must wait behind it.
        self._parked: dict[Any, deque[Unacked]] = {}
        self._failures = 0
        # The only one that failed since the last success.
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
        """What to put into the sink now; nothing while there is a pause or nothing to do.

        After a failure something else is tried first: it tells whether the sink is down.
        """
        if now < self._rest_until:
            return []
        head = self._next_head()
        if head and head.due <= now and not (self._failures and self._ready):
            return [head]
        return self._ready[: self._size]

    def wait(self, now: float) -> float | None:
        """Seconds until ``next`` has something; None while only a delivery can change that."""
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
        """Whether the sink seems to be: nothing was accepted between two failures or more."""
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
        """The sink could not take ``piece`` now; whether that was its last attempt, too."""
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
        """The sink will never take ``piece``; whether it stands alone, and so is at fault."""
        self._size = max(1, len(piece) // 2)
        return len(piece) == 1

    def drop(self, item: Unacked) -> None:
        """``item`` was buried: what waited behind it may go on."""
        self._remove([item])

    def _shrink(self, length: int) -> None:
        if self._size < self._batch:
            self._size = max(1, length // 2)
        elif self._failures >= TRIES:
            self._size = 1

    def _park(self, item: Unacked, now: float) -> None:
        item.due = now + _pause(item.attempts)
        lane = self._ordering_key(item)
        if lane in self._parked:
            return
        behind = [other for other in self._ready if self._ordering_key(other) == lane]
        self._ready = [other for other in self._ready if self._ordering_key(other) != lane]
        self._parked[lane] = deque(behind)

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
        """Of what is set aside, the one that is due first."""
        heads = (waiting[0] for waiting in self._parked.values())
        return min(heads, key=lambda item: item.due, default=None)

    def _ordering_key(self, item: Unacked) -> Any:
        return item.event.room_id if self._in_order else item.event.id


def _pause(attempts: int) -> float:
    bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**attempts)
    return random.uniform(bound / 2, bound)
