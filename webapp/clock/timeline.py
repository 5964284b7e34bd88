"""The time line, without I/O. All times and durations are in microseconds.

It follows the wall clock of the database, but never goes back: when that clock is set back, the
time line goes on from where it was, and a thousandth slower until the clock has caught up. So it
is a function of the database's clock and of one stored point, and all processes that know both
agree on it, also those that start later.
"""

from __future__ import annotations

from dataclasses import dataclass

SLOWER = 1_000
"""The time line falls back to the wall clock by this fraction of the time that passes."""


@dataclass(frozen=True, slots=True)
class Point:
    """The time line was at ``time`` when a clock that is not set said ``steady``."""

    steady: int
    time: int


def advanced(point: Point, steady: int, wall: int) -> int:
    """Where the time line is, by the database's clocks."""
    # A steady clock that is behind belongs to a machine that has started again.
    elapsed = max(0, steady - point.steady)
    return max(wall, point.time + elapsed - elapsed // SLOWER)


@dataclass(frozen=True, slots=True)
class Offset:
    """How far the time line is ahead of one process's monotonic clock.

    ``since`` is when that was found out, by the monotonic clock.
    """

    value: int
    since: int

    def least(self, monotonic: int) -> int:
        """The earliest time that the line can have: this process has handed out all before it."""
        return monotonic + self.value - (monotonic - self.since) // SLOWER


def line_now(
    point: Point | None, offset: Offset | None, *, steady: int, wall: int, sent: int
) -> int:
    """Where the time line is, by the database's clocks as asked for at ``sent``.

    A process with an ``offset`` that it has handed out times by does not let the line fall behind
    those: that is how it notices that the database's clock was set back.
    """
    line = advanced(point, steady, wall) if point else wall
    return max(line, offset.least(sent)) if offset else line


def fitted(offset: Offset | None, time: int, sent: int, received: int) -> Offset:
    """The offset after the time line was read as ``time``, at some moment of a round trip.

    The reading proves that the offset is between two bounds. A known offset is only moved into
    them: a slow round trip, whose bounds are far apart, moves it by nothing.
    """
    low, high = time - received, time - sent
    value = (low + high) // 2 if offset is None else min(max(offset.value, low), high)
    return Offset(value, received)
