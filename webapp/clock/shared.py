"""The clock of this process: the time line, read again and again in a thread of its own.

Between two readings the time passes by the machine's monotonic clock, which nobody sets. While the
database cannot be asked, the process goes on with what it knows.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from django.conf import settings

from bus.errors import StoreUnavailable
from bus.runtime.after_fork import after_fork
from webapp.clock import timeline
from webapp.clock.database import DatabaseTime, Reading, monotonic
from webapp.clock.timeline import Offset
from webapp.project.metrics import CLOCK_AHEAD, CLOCK_ERROR, CLOCK_SKEW

logger = logging.getLogger(__name__)

SECOND = 1_000_000
READ_EVERY = 5.0
# Until the first reading.
FIRST_EVERY = 1.0
FIRST_READINGS = 3
FIRST_SECONDS = 5.0
# So many seconds without a reading are reported: the clocks may have drifted apart by milliseconds.
STALE_SECONDS = 60.0


class TimeSource(Protocol):
    """What keeps the time line. Both methods raise StoreUnavailable."""

    def read(self, offset: Offset | None) -> Reading: ...
    def store(self, reading: Reading) -> None: ...


class SharedClock:
    """It starts reading when it is first asked, in each process of a fork anew."""

    def __init__(self, source: TimeSource) -> None:
        self.source = source
        self._last = 0
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._offset: Offset | None = None
        self._reading: Reading | None = None
        self._problem = "the database's clock has not been read yet"
        self._thread: threading.Thread | None = None
        self._has_tried = threading.Event()

    def now_us(self) -> int:
        """Microseconds since 1970; never less than before.

        Raises StoreUnavailable until the database has been read for the first time.
        """
        offset = self._offset or self._first()
        with self._lock:
            self._last = max(self._last, monotonic() + offset.value)
            return self._last

    def problem(self) -> str | None:
        """What is wrong with the clocks, in a few words; None when nothing is.

        None of it stops the process: the time line goes on.
        """
        self._first()
        reading, bound = self._reading, settings.CLOCK_SKEW
        assert reading
        if (age := (monotonic() - reading.received) / SECOND) > STALE_SECONDS:
            return f"the database's clock was last read {age:.0f} s ago"
        if reading.ahead / SECOND > bound:
            return f"new ids are {reading.ahead / SECOND:.1f} s ahead of the database's clock"
        if abs(reading.skew) / SECOND > bound:
            where = "ahead of" if reading.skew > 0 else "behind"
            return (
                f"this machine's clock is {abs(reading.skew) / SECOND:.1f} s {where} the database's"
            )
        return None

    def _first(self) -> Offset:
        """The offset, once it is known."""
        self.start()
        self._has_tried.wait(FIRST_SECONDS)
        if self._offset is None:
            raise StoreUnavailable(self._problem)
        return self._offset

    def start(self) -> None:
        """Starts reading, unless it has begun."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        was_well = True
        # The first round trip is seldom the fastest.
        for _ in range(FIRST_READINGS - 1):
            self._read()
        while True:
            problem = self._read()
            if problem and was_well:
                logger.warning("%s", problem)
            elif not problem and not was_well:
                logger.info("the database's clock is read again")
            was_well = not problem
            self._has_tried.set()
            time.sleep(READ_EVERY if self._offset else FIRST_EVERY)

    def _read(self) -> StoreUnavailable | None:
        """Reads the time line; what kept it from that."""
        try:
            reading = self.source.read(self._offset)
            self._reading = reading
            self._offset = timeline.fitted(
                self._offset, reading.time, reading.sent, reading.received
            )
            CLOCK_SKEW.set(reading.skew / SECOND)
            CLOCK_AHEAD.set(reading.ahead / SECOND)
            CLOCK_ERROR.set((reading.received - reading.sent) / SECOND)
            self.source.store(reading)
        except StoreUnavailable as error:
            self._problem = str(error)
            return error
        return None


shared_clock = SharedClock(DatabaseTime())
