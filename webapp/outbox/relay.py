"""The process ``outbox_relay``: publishes events and log-outs that requests have left behind.

A request publishes what it has committed, unless the broker or Redis is away, or the process dies.
All mails are left to this process. A thread sends them: a slow mail server delays no event.
It also deletes login sessions that have expired, and old entries of the audit log.
"""

from __future__ import annotations

import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from bus.errors import PermanentError, RetryableError
from bus.runtime import clock
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
    """Sweeps until SIGTERM or SIGINT; waits while the database, the broker or Redis is away."""
    setup()
    stop = stop_event()
    from webapp.mail import sender

    with (
        closing(start_ops(environment, ready=Probes(_checks()))),
        ThreadPoolExecutor(1, "mail") as pool,
    ):
        mails = pool.submit(sender.run, stop)
        # Neither part runs on without the other: the process ends, and is started again.
        mails.add_done_callback(lambda _: stop.set())
        try:
            notify_ready()
            run(stop)
        finally:
            stop.set()
        mails.result()


def _checks() -> dict[str, Check]:
    from webapp.project.health import broker, database, topology

    return {"database": database, "broker": broker, "topology": topology}


def run(stop: threading.Event) -> None:
    from django.db import Error, close_old_connections

    from webapp.audit.services import delete_expired
    from webapp.outbox import logouts
    from webapp.outbox.expiry import Expiry, delete_sessions

    backoff = Backoff(SWEEP_SECONDS)
    expiries = [Expiry(delete_sessions), Expiry(delete_expired)]
    delay, position = SWEEP_SECONDS, 0
    while not stop.wait(delay):
        try:
            position = sweep(position)
            logouts.publish_waiting()
            for expiry in expiries:
                expiry.delete()
            delay = SWEEP_SECONDS
            backoff.reset()
        except (RetryableError, Error) as error:
            delay = backoff.next()
            logger.warning("trying again in %.1f s: %s", delay, error)
        finally:
            close_old_connections()


def sweep(position: int = 0) -> int:
    """Publishes the events of the rooms that have waited longest; returns the next position.

    It looks only at rooms whose oldest row has an id above ``position``. A room with an event
    that cannot be published keeps its rows for an operator to look at. It delays no other room,
    because the next sweep begins behind it. Raises RetryableError or Django's database errors.
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
    """Rooms with the id of their oldest row."""
    from django.db.models import Min

    from webapp.outbox.models import OutboxEvent
    from webapp.outbox.services import GRACE

    waiting = OutboxEvent.objects.filter(created_at__lt=clock.now() - GRACE)
    rooms = waiting.values_list("room_id").annotate(oldest=Min("id")).order_by("oldest")
    return list(rooms.filter(oldest__gt=position)[:ROOMS_PER_SWEEP])
