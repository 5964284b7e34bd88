"""Reads invitations."""

from __future__ import annotations

import uuid

from django.db.models import QuerySet

from bus.runtime import clock
from webapp.accounts.models import User
from webapp.accounts.selectors import has_confirmed_address
from webapp.invitations.models import Invitation
from webapp.project.errors import NotFound
from webapp.rooms.selectors import managing_membership

MOST_LISTED = 1_000


def open_invitations() -> QuerySet[Invitation]:
    return Invitation.objects.filter(ended_at=None, expires_at__gt=clock.now())


def invitations_to(user: User) -> list[Invitation]:
    """What is offered to ``user``, newest first; without the rooms that they are in."""
    found = _offered_to(user).exclude(room__memberships__user=user)
    return list(found.select_related("room", "inviter").order_by("-created_at")[:MOST_LISTED])


def invitation_to(user: User, invitation_id: uuid.UUID) -> Invitation:
    """Raises NotFound unless it is open and offered to ``user``."""
    found = _offered_to(user).filter(id=invitation_id).first()
    if found is None:
        raise NotFound("There is no such invitation. It may have been withdrawn, or have expired.")
    return found


def invitations_of_room(room_id: uuid.UUID, reader: User) -> list[Invitation]:
    """The open ones, newest first. Raises NotFound or Forbidden."""
    managing_membership(reader, room_id)
    found = open_invitations().filter(room_id=room_id)
    return list(found.select_related("inviter").order_by("-created_at")[:MOST_LISTED])


def _offered_to(user: User) -> QuerySet[Invitation]:
    if not has_confirmed_address(user):
        return Invitation.objects.none()
    return open_invitations().filter(email=user.email)
