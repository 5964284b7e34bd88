"""Inviting somebody to a room by e-mail."""

from __future__ import annotations

import uuid

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from webapp.accounts.models import User, normal_email
from webapp.project.errors import Forbidden, InvalidInput
from webapp.rooms.selectors import membership_of
from webapp.rooms.services import add_member


def invite(room_id: uuid.UUID, email: object, *, actor: User) -> None:
    """Makes whoever has an account with ``email`` a member of the room.

    Returns the same whether or not there is such an account. Raises NotFound, Forbidden or
    InvalidInput.
    """
    if not membership_of(actor, room_id).may_manage:
        raise Forbidden("Only the owner and admins may invite.")
    address = _valid(email)
    user = User.objects.filter(email=address, is_active=True).first()
    if user:
        add_member(room_id, user, actor=actor)


def _valid(email: object) -> str:
    if not isinstance(email, str):
        raise InvalidInput("“email” must be text.", "invalid_email")
    address = normal_email(email)
    try:
        validate_email(address)
    except ValidationError:
        raise InvalidInput(
            "“email” is no e-mail address; accepted is something like name@example.org.",
            "invalid_email",
        ) from None
    return address
