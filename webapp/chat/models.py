"""What a repeated POST is recognised by."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class IdempotencyKey(models.Model):
    """The message that a user's POST with this key became.

    The key is kept as its SHA-256, because MySQL's usual collations take "a" and "A" for the
    same. ``request_hash`` is that of room and body: a key stands for one request only. Once
    ``confirmed`` the message is not published again: sinks remember an id for an hour only.
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
