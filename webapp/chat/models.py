"""The idempotency keys by which a repeated POST is recognised."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class IdempotencyKey(models.Model):
    """The id of the message that a user posted with this key.

    The key is stored as its SHA-256, because MySQL's usual collations treat "a" and "A" as
    equal. ``request_hash`` is the SHA-256 of room and body, because a key stands for one request
    only. A ``confirmed`` message is not published again: sinks remember an id for one hour.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key_hash = models.CharField(max_length=64)
    message_id = models.UUIDField()
    request_hash = models.CharField(max_length=64)
    confirmed = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("user", "key_hash"), name="one_message_per_key"),
        )
        indexes = (models.Index(fields=("user", "created_at"), name="idempotency_key_age"),)

    def __str__(self) -> str:
        return self.key_hash
