"""UUIDv7s (RFC 9562, 6.2, method 3): 60 bits of this process's clock, then 62 random ones.

The unit of the time is 1/4096 ms, so ids of one millisecond are in order as well.
"""

from __future__ import annotations

import secrets
import threading
import uuid

from bus.runtime import clock
from bus.runtime.after_fork import after_fork


class _Ids:
    def __init__(self) -> None:
        self._last = 0
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()

    def new(self) -> uuid.UUID:
        ticks = clock.now_us() * 4_096 // 1_000
        with self._lock:
            self._last = ticks = max(ticks, self._last + 1)
        time_bits = (ticks >> 12) << 80 | 7 << 76 | (ticks & 0xFFF) << 64
        return uuid.UUID(int=time_bits | 2 << 62 | secrets.randbits(62))


_ids = _Ids()


def new_id() -> uuid.UUID:
    """An id of this moment; ids of one process grow strictly, whatever its clock does.

    Raises RetryableError when the clock has no time yet.
    """
    return _ids.new()
