"""Mails that are committed but not yet sent."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class WaitingMail(models.Model):
    """One mail to one address. It is deleted when it is sent: it may hold a secret link."""

    recipient = models.EmailField(max_length=254)
    subject = models.TextField()
    body = models.TextField()
    # The same at every attempt, so that a mailbox can recognise a mail that came twice.
    message_id = models.CharField(max_length=255)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    # Not to be tried before. Whoever tries moves it, so that no other process tries too.
    due_at = models.DateTimeField(default=timezone.now, db_index=True)
    attempts = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"mail {self.id}"
