"""Deletes login sessions that have expired; Django leaves them in the database for ever."""

from __future__ import annotations

import time

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.utils import timezone

CHECK_SECONDS = 60.0
BATCH = 1_000


class ExpiredSessions:
    """Deletes them in batches, so that no transaction of it is long; looks once a minute."""

    def __init__(self) -> None:
        self._next_check = 0.0

    def delete(self) -> None:
        """Deletes a batch if it is time for that. Raises Django's database errors."""
        if time.monotonic() < self._next_check:
            return
        if _delete_batch() < BATCH:
            self._next_check = time.monotonic() + CHECK_SECONDS


def _delete_batch() -> int:
    """The number of expired sessions found. One that is renewed meanwhile stays, without the note
    of where it began, which its next socket ticket makes again."""
    expired = Session.objects.filter(expire_date__lt=timezone.now())
    keys = list(expired.values_list("session_key", flat=True)[:BATCH])
    expired.filter(session_key__in=keys).delete()
    UserSession.objects.filter(session_key__in=keys).delete()
    return len(keys)
