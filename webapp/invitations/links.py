"""Links that let whoever has them into a room, a number of times and for some days."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import timedelta

from django.db.models import QuerySet

from bus.runtime import clock
from webapp.accounts.models import User
from webapp.audit.models import Action
from webapp.audit.services import record
from webapp.invitations.models import InvitationLink
from webapp.project.errors import Conflict, InvalidInput, NotFound
from webapp.project.transactions import atomic
from webapp.rooms.memberships import check_not_archived, join, lock_room
from webapp.rooms.models import Membership
from webapp.rooms.selectors import managing_membership

TOKEN_BYTES = 24
MOST_OPEN = 50
MOST_DAYS, DEFAULT_DAYS = 30, 7
MOST_USES, DEFAULT_USES = 1_000, 10


@atomic
def make_link(
    room_id: uuid.UUID, *, actor: User, days: object = DEFAULT_DAYS, uses: object = DEFAULT_USES
) -> tuple[InvitationLink, str]:
    """A link that holds for ``days`` (1 to 30) and ``uses`` (1 to 1,000), and its token.

    Nobody can read the token again. Raises NotFound, Forbidden, InvalidInput, or Conflict for an
    archived room and while MOST_OPEN links are open.
    """
    life = timedelta(days=_number("days", days, MOST_DAYS))
    count = _number("uses", uses, MOST_USES)
    room = lock_room(room_id)
    managing_membership(actor, room_id)
    check_not_archived(room)
    now = clock.now()
    room.invitation_links.exclude(id__in=_open().values("id")).delete()
    if room.invitation_links.count() >= MOST_OPEN:
        raise Conflict(
            f"The room has {MOST_OPEN} open links, the most that it can have. Revoke one first.",
            "too_many_links",
        )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    link = InvitationLink.objects.create(
        room=room,
        inviter=actor,
        token_hash=_hash(token),
        uses_left=count,
        created_at=now,
        expires_at=now + life,
    )
    record(Action.LINK_MADE, actor=actor, room_id=room_id, detail=str(link.id))
    return link, token


def links_of_room(room_id: uuid.UUID, reader: User) -> list[InvitationLink]:
    """The open links, newest first. Raises NotFound or Forbidden."""
    managing_membership(reader, room_id)
    found = _open().filter(room_id=room_id).select_related("inviter")
    return list(found.order_by("-created_at"))


@atomic
def revoke_link(room_id: uuid.UUID, link_id: uuid.UUID, *, actor: User) -> None:
    """Makes a link useless; a repeated call changes nothing. Raises NotFound or Forbidden."""
    room = lock_room(room_id)
    managing_membership(actor, room_id)
    deleted, _ = room.invitation_links.filter(id=link_id).delete()
    if deleted:
        record(Action.LINK_REVOKED, actor=actor, room_id=room_id, detail=str(link_id))


def link_of(token: str) -> InvitationLink:
    """The open link with this token, with its room and inviter. Raises NotFound."""
    found = _open().filter(token_hash=_hash(token)).select_related("room", "inviter").first()
    if found is None:
        raise NotFound("This link leads nowhere. It may be used up, revoked, or have expired.")
    return found


@atomic
def accept_link(token: str, user: User) -> Membership:
    """Makes ``user`` a member, which uses the link once unless they were one before.

    Raises NotFound, and Forbidden or Conflict as ``join``.
    """
    room = lock_room(link_of(token).room_id)
    link = link_of(token)
    is_member = room.memberships.filter(user=user).exists()
    membership = join(room.id, user)
    if not is_member:
        link.uses_left -= 1
        link.save(update_fields=["uses_left"])
    return membership


def _open() -> QuerySet[InvitationLink]:
    return InvitationLink.objects.filter(uses_left__gt=0, expires_at__gt=clock.now())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _number(name: str, value: object, maximum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
        raise InvalidInput(f"“{name}” must be a whole number from 1 to {maximum}.")
    return value
