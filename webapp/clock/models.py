"""The stored point of the time line."""

from __future__ import annotations

from django.db import models


class TimelinePoint(models.Model):
    """A point of the time line (see ``timeline``), in microseconds; the only row has the id 1."""

    steady = models.BigIntegerField()
    time = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.time} at {self.steady}"
