"""The outbox: events that are committed and not yet published, and log-outs not yet told."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class OutboxEvent(models.Model):
    """One event; within a room the order of ids is the order to publish in."""

    room_id = models.UUIDField()
    event = models.TextField()
    # Of the request that caused it (see bus.runtime.trace). An older release knows no such column.
    traceparent = models.CharField(max_length=55, db_default="")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        indexes = (models.Index(fields=("room_id", "id"), name="outbox_room_order"),)

    def __str__(self) -> str:
        return self.event


class OutboxLogout(models.Model):
    """A login session that has ended, by its name in tickets (see webapp.chat.sessions)."""

    user_id = models.BigIntegerField()
    session = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"a session of user {self.user_id}"
