"""Rooms and memberships."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

MAX_ROOM_NAME = 100


class Room(models.Model):
    """A room. A transaction that adds an event about its members locks its row until commit."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_ROOM_NAME)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


class Membership(models.Model):
    """One user in one room; ``last_read_id`` is the id of the last message they have seen."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    joined_at = models.DateTimeField(default=timezone.now)
    last_read_id = models.UUIDField(null=True, blank=True)
    muted = models.BooleanField(default=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("room", "user"), name="one_membership_per_user"),
        )

    def __str__(self) -> str:
        return f"{self.user} in {self.room}"

    @property
    def may_manage(self) -> bool:
        """Whether this member may invite and remove others."""
        return self.role in (Role.OWNER, Role.ADMIN)
