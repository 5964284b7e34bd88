"""The process ``outbox_relay``: publishes what a request committed and could not publish, and
tells the bridges of log-outs that Redis did not take."""

from __future__ import annotations

import logging
import threading
import uuid
from contextlib import closing

from bus.errors import PermanentError, RetryableError
from bus.runtime.backoff import Backoff
from bus.runtime.health import Check, Probes
from bus.runtime.ops_server import start_ops
from bus.runtime.process import notify_ready, stop_event
from bus.runtime.settings import Environment
from webapp.project import setup

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5
ROOMS_PER_SWEEP = 100


def main(environment: Environment) -> None:
    """Sweeps until SIGTERM or SIGINT; outages of what it needs are waited out."""
    setup()
    stop = stop_event()
    with closing(start_ops(environment, ready=Probes(_checks()))):
        notify_ready()
        run(stop)


def _checks() -> dict[str, Check]:
    from webapp.project.health import broker, database, topology

    return {"database": database, "broker": broker, "topology": topology}


def run(stop: threading.Event) -> None:
    from django.db import Error, close_old_connections

    from webapp.outbox import logouts

    backoff = Backoff(SWEEP_SECONDS)
    delay, position = SWEEP_SECONDS, 0
    while not stop.wait(delay):
        try:
            position = sweep(position)
            logouts.tell_waiting()
            delay = SWEEP_SECONDS
            backoff.reset()
        except (RetryableError, Error) as error:
            delay = backoff.next()
            logger.warning("trying again in %.1f s: %s", delay, error)
        finally:
            close_old_connections()


def sweep(position: int = 0) -> int:
    """Publishes the rooms that have waited longest, of those whose oldest row's id is greater
    than ``position``; returns where to go on. Raises RetryableError or Django's database errors.

    A room with an event that cannot be published keeps its rows, for somebody to look at, and
    holds up no other room: however many there are, the next sweep begins behind them.
    """
    from webapp.outbox.services import flush_room

    rooms = _waiting_rooms(position)
    for room_id, _ in rooms:
        try:
            flush_room(room_id)
        except PermanentError as error:
            logger.error("events of room %s stay in the outbox: %s", room_id, error)
    return rooms[-1][1] if len(rooms) == ROOMS_PER_SWEEP else 0


def _waiting_rooms(position: int) -> list[tuple[uuid.UUID, int]]:
    """Each with the id of its oldest row."""
    from django.db.models import Min
    from django.utils import timezone

    from webapp.outbox.models import OutboxEvent
    from webapp.outbox.services import GRACE

    waiting = OutboxEvent.objects.filter(created_at__lt=timezone.now() - GRACE)
    rooms = waiting.values_list("room_id").annotate(oldest=Min("id")).order_by("oldest")
    return list(rooms.filter(oldest__gt=position)[:ROOMS_PER_SWEEP])
