"""The process ``outbox_relay``: publishes what a request committed and could not publish."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from datetime import timedelta

import django

from bus.errors import BusError
from bus.process import notify_ready, stop_event
from bus.settings import Environment

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5
# Younger rows are most likely just being published by the request that wrote them.
GRACE = timedelta(seconds=1)
ROOMS_PER_SWEEP = 100


def main(environment: Environment) -> None:
    """Sweeps until SIGTERM or SIGINT; outages of the database and the broker are waited out."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.project.settings")
    django.setup()
    stop = stop_event()
    notify_ready()
    run(stop)


def run(stop: threading.Event) -> None:
    from django.db import DatabaseError, close_old_connections

    while not stop.wait(SWEEP_SECONDS):
        try:
            sweep()
        except (BusError, DatabaseError) as error:
            logger.warning("trying again in %s s: %s", SWEEP_SECONDS, error)
        finally:
            close_old_connections()


def sweep() -> None:
    """Publishes the rooms that have waited longest. Raises BusError or DatabaseError."""
    from webapp.outbox.services import flush_room

    for room_id in _waiting_rooms():
        flush_room(room_id)


def _waiting_rooms() -> list[uuid.UUID]:
    from django.db.models import Min
    from django.utils import timezone

    from webapp.outbox.models import OutboxEvent

    waiting = OutboxEvent.objects.filter(created_at__lt=timezone.now() - GRACE)
    oldest_first = waiting.values("room_id").annotate(oldest=Min("id")).order_by("oldest")
    return [row["room_id"] for row in oldest_first[:ROOMS_PER_SWEEP]]
