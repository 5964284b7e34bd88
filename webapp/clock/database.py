"""Reads the database's clock and moves the stored point of the time line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import Error, close_old_connections, connection

from bus.errors import StoreUnavailable, reason
from webapp.clock.models import TimelinePoint
from webapp.clock.timeline import Offset, Point, line_now

_ROW = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """The time line was at ``time``, and the database's wall clock at ``wall``, between ``sent``
    and ``received`` of this process's monotonic clock, when the machine's clock said ``local``.
    All in microseconds."""

    steady: int
    wall: int
    time: int
    sent: int
    received: int
    local: int

    @property
    def skew(self) -> int:
        """How far this machine's clock is ahead of the database's."""
        return self.local - self.wall

    @property
    def ahead(self) -> int:
        """How far the time line is ahead of the database's clock: 0 unless that was set back."""
        return self.time - self.wall


def monotonic() -> int:
    return time.monotonic_ns() // 1_000


class DatabaseTime:
    """Where the time line is, by the database. Use it from one thread."""

    def read(self, offset: Offset | None) -> Reading:
        """The time line now; at least what ``offset`` says. Raises StoreUnavailable."""
        with _store_errors():
            close_old_connections()
            connection.ensure_connection()
            known = TimelinePoint.objects.filter(id=_ROW).first()
            sent = monotonic()
            steady, wall = _clocks()
            received = monotonic()
        point = Point(known.steady, known.time) if known else None
        line = line_now(point, offset, steady=steady, wall=wall, sent=sent)
        local = time.time_ns() // 1_000 - (received - sent) // 2
        return Reading(steady, wall, line, sent, received, local)

    def store(self, reading: Reading) -> None:
        """Stores the point, unless another process has stored a later one.

        No lock is held between two statements: a process that stops there would stop all others.
        Raises StoreUnavailable.
        """
        values = {"steady": reading.steady, "time": reading.time}
        with _store_errors():
            earlier = TimelinePoint.objects.filter(id=_ROW, time__lt=reading.time)
            if not earlier.update(**values):
                TimelinePoint.objects.get_or_create(id=_ROW, defaults=values)


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except Error as error:
        connection.close()
        raise StoreUnavailable(f"the database's clock cannot be read: {reason(error)}") from error


def _clocks() -> tuple[int, int]:
    """The database's steady clock and its wall clock.

    MySQL has only one, and in a local time zone an hour of it may come twice. SQLite has the
    clocks of its machine, and they are the same for all its processes.
    """
    if connection.vendor != "mysql":
        return monotonic(), time.time_ns() // 1_000
    with connection.cursor() as cursor:
        cursor.execute("SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))")
        [wall] = cursor.fetchone()
    return wall, wall
