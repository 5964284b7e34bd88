"""The outbox: events and log-outs that are committed but not yet published."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class OutboxEvent(models.Model):
    """One event. The events of a room are published in the order of their ids.

    ``room_id`` is the room, or the user's own channel.
    """

    room_id = models.UUIDField()
    event = models.TextField()
    # Of the request that caused it (see bus.runtime.trace). Older releases insert no value.
    traceparent = models.CharField(max_length=55, db_default="")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        indexes = (models.Index(fields=("room_id", "id"), name="outbox_room_order"),)

    def __str__(self) -> str:
        return self.event


class OutboxLogout(models.Model):
    """The end of a login session, by its name in tickets (see webapp.accounts.sessions)."""

    user_id = models.BigIntegerField()
    session = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"a session of user {self.user_id}"
