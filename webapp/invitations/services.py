"""Invites users to a room by e-mail address."""

from __future__ import annotations

import uuid

from webapp.accounts.addresses import normal_email
from webapp.accounts.models import User
from webapp.project.errors import Forbidden
from webapp.rooms.selectors import membership_of
from webapp.rooms.services import add_member


def invite(room_id: uuid.UUID, email: object, *, actor: User) -> None:
    """Makes the user with the address ``email`` a member of the room.

    The result is the same whether or not there is such a user. Raises NotFound, Forbidden or
    InvalidInput.
    """
    if not membership_of(actor, room_id).may_manage:
        raise Forbidden("Only the owner and admins may invite.")
    user = User.objects.filter(email=normal_email(email), is_active=True).first()
    if user:
        add_member(room_id, user, actor=actor)
