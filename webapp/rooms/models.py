"""Rooms, memberships, and who was removed."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

MAX_ROOM_NAME = 100
MAX_DESCRIPTION = 500


class Room(models.Model):
    """A room. A transaction that adds an event about its members locks its row until commit.

    ``key_hash`` and ``request_hash`` belong to the Idempotency-Key with which it was made.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_ROOM_NAME)
    # Older releases insert no value for what has a default in the database.
    description = models.CharField(
        max_length=MAX_DESCRIPTION, blank=True, default="", db_default=""
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)
    # Everybody with an account finds it and may join.
    is_public = models.BooleanField(default=False, db_default=False)
    archived_at = models.DateTimeField(null=True, blank=True)
    key_hash = models.CharField(max_length=64, null=True, blank=True)
    request_hash = models.CharField(max_length=64, blank=True, default="", db_default="")

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("created_by", "key_hash"), name="one_room_per_key"),
        )
        indexes = (models.Index(fields=("is_public", "id"), name="public_rooms"),)

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
        """Whether this member may invite and remove others, and rename the room."""
        return self.role in (Role.OWNER, Role.ADMIN)


class Removal(models.Model):
    """Others removed ``user`` from ``room``; only a later invitation brings them back."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="removals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("room", "user"), name="one_removal_per_user"),
        )

    def __str__(self) -> str:
        return f"{self.user} from {self.room}"
