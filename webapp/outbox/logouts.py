"""Publishes log-outs to the bridges; the database keeps each one until Redis has taken it."""

from __future__ import annotations

from django.conf import settings

from bus.rooms.ended_sessions import EndedSession, end_session
from bus.runtime import clock
from webapp.outbox.models import OutboxLogout
from webapp.outbox.services import BATCH, GRACE


def add(user_id: int, session: str) -> None:
    """Stores and publishes the end of a login session, which goes by its name in tickets.

    Raises StoreUnavailable when Redis does not take it; ``publish_waiting`` then publishes it.
    """
    logout = OutboxLogout(user_id=user_id, session=session, created_at=clock.now())
    logout.save()
    _publish(logout)


def publish_waiting() -> None:
    """Publishes the log-outs that Redis did not take. Raises StoreUnavailable or Django's
    database errors."""
    if settings.REDIS_URL is None:
        return
    waiting = OutboxLogout.objects.filter(created_at__lt=clock.now() - GRACE)
    for logout in waiting.order_by("id")[:BATCH]:
        _publish(logout)


def _publish(logout: OutboxLogout) -> None:
    end_session(settings.REDIS_URL, EndedSession(logout.user_id, logout.session))
    logout.delete()
