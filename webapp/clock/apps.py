"""The Django app of the clock: makes the time line this process's clock."""

from __future__ import annotations

from django.apps import AppConfig

from bus.runtime import clock


class ClockConfig(AppConfig):
    name = "webapp.clock"

    def ready(self) -> None:
        from webapp.clock.shared import shared_clock

        clock.use(shared_clock.now_us)
