"""The machine's clock as the time line, for tests of Django."""

from __future__ import annotations

import time

from webapp.clock.database import Reading, monotonic
from webapp.clock.timeline import Offset


class MachineTime:
    """A time line that is the machine's clock.

    SQLite in memory lets no thread write while a test has a transaction open.
    """

    def read(self, offset: Offset | None) -> Reading:
        sent, now = monotonic(), time.time_ns() // 1_000
        return Reading(now, now, now, sent, monotonic(), now)

    def store(self, reading: Reading) -> None:
        pass
