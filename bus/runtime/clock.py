"""The clock of this process: ids and the times of events come from it.

It is the machine's, unless the process has a better one: the web tier's processes share one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _machine() -> int:
    return time.time_ns() // 1_000


_read: Callable[[], int] = _machine


def use(read: Callable[[], int]) -> None:
    """Makes ``read`` the clock: it returns microseconds since 1970, or raises RetryableError."""
    global _read  # noqa: PLW0603 - a process has one clock
    _read = read


def now_us() -> int:
    """Microseconds since 1970. Raises what the clock raises."""
    return _read()


def now() -> datetime:
    """The time in UTC. Raises what the clock raises."""
    return EPOCH + timedelta(microseconds=now_us())
