"""Invitations: offers of membership in a room."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

from webapp.accounts.addresses import MAX_EMAIL
from webapp.rooms.models import Room

LIFE = timedelta(days=30)


class Invitation(models.Model):
    """An offer to the owner of an e-mail address, whether or not there is an account with it.

    It is open until it is accepted, declined or revoked (``ended_at``), or expires. Every change
    of it holds the lock on the room's row.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    room = models.ForeignKey(Room, null=True, on_delete=models.SET_NULL, related_name="invitations")
    inviter = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    email = models.EmailField(max_length=MAX_EMAIL)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (
            models.Index(fields=("email", "created_at"), name="invitations_of_address"),
            models.Index(fields=("inviter", "created_at"), name="invitations_by_inviter"),
        )

    def __str__(self) -> str:
        return f"{self.email} to {self.room}"


class InvitationLink(models.Model):
    """An offer to whoever has the link, while ``uses_left`` lasts. Only the token's hash is kept.

    Who was removed from the room cannot use it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="invitation_links")
    inviter = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    token_hash = models.CharField(max_length=64, unique=True)
    uses_left = models.PositiveIntegerField()
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.uses_left} more to {self.room}"
