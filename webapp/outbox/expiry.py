"""Deletes rows that have expired; Django leaves login sessions in the database for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.utils import timezone

CHECK_SECONDS = 60.0
BATCH = 1_000


class Expiry:
    """Deletes rows in batches, so that no transaction of it is long; looks once a minute.

    ``delete_batch`` deletes up to so many rows, and returns how many it found.
    """

    def __init__(self, delete_batch: Callable[[int], int]) -> None:
        self._delete_batch = delete_batch
        self._next_check = 0.0

    def delete(self) -> None:
        """Deletes a batch if it is time for that. Raises Django's database errors."""
        if time.monotonic() < self._next_check:
            return
        if self._delete_batch(BATCH) < BATCH:
            self._next_check = time.monotonic() + CHECK_SECONDS


def delete_sessions(most: int) -> int:
    """Deletes up to ``most`` expired sessions. One that is renewed meanwhile stays, without the
    note of where it began, which its next socket ticket makes again."""
    expired = Session.objects.filter(expire_date__lt=timezone.now())
    keys = list(expired.values_list("session_key", flat=True)[:most])
    expired.filter(session_key__in=keys).delete()
    UserSession.objects.filter(session_key__in=keys).delete()
    return len(keys)
