"""Log-outs on their way to the bridges: noted in the database until Redis has taken them."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from bus.rooms.ended_sessions import EndedSession, end_session
from webapp.outbox.models import OutboxLogout
from webapp.outbox.services import BATCH, GRACE


def add(user_id: int, session: str) -> None:
    """Notes that a login session, by its name in tickets, has ended, and tells it.

    Raises StoreUnavailable; then it stays noted, and ``tell_waiting`` tells it.
    """
    _tell(OutboxLogout.objects.create(user_id=user_id, session=session))


def tell_waiting() -> None:
    """Tells what could not be told at once. Raises StoreUnavailable, or a database error."""
    if settings.REDIS_URL is None:
        return
    waiting = OutboxLogout.objects.filter(created_at__lt=timezone.now() - GRACE)
    for logout in waiting.order_by("id")[:BATCH]:
        _tell(logout)


def _tell(logout: OutboxLogout) -> None:
    end_session(settings.REDIS_URL, EndedSession(logout.user_id, logout.session))
    logout.delete()
