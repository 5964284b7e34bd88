"""Reads rooms and memberships."""

from __future__ import annotations

import uuid

from bus.ticket import MAX_ROOMS
from webapp.accounts.models import User
from webapp.project.errors import Forbidden, NotFound
from webapp.rooms.models import Membership, Role, Room


def membership_of(user: User, room_id: uuid.UUID) -> Membership:
    """The membership of ``user``, with its room. Raises NotFound (no such room) or Forbidden."""
    membership = (
        Membership.objects.select_related("room").filter(room_id=room_id, user=user).first()
    )
    if membership:
        return membership
    if Room.objects.filter(id=room_id).exists():
        raise Forbidden("You are not a member of this room.")
    raise NotFound("There is no such room.")


def managing_membership(user: User, room_id: uuid.UUID) -> Membership:
    """The membership of ``user``, who may manage the room. Raises NotFound or Forbidden."""
    membership = membership_of(user, room_id)
    if not membership.may_manage:
        raise Forbidden("Only owners and admins of the room may do this.")
    return membership


def owning_membership(user: User, room_id: uuid.UUID) -> Membership:
    """The membership of ``user``, who is an owner. Raises NotFound or Forbidden."""
    membership = membership_of(user, room_id)
    if membership.role != Role.OWNER:
        raise Forbidden("Only an owner of the room may do this.")
    return membership


def memberships_of(user: User) -> list[Membership]:
    """All memberships of ``user``, with their rooms, by the room's name."""
    return list(
        Membership.objects.select_related("room")
        .filter(user=user)
        .order_by("room__name", "room_id")[:MAX_ROOMS]
    )


def public_rooms_page(query: str, after: uuid.UUID | None, limit: int) -> tuple[list[Room], bool]:
    """Up to ``limit`` public rooms by id, and whether more follow; without archived ones.

    ``query`` is a part of their names, in capitals or not; ``after`` the id of the last one seen.
    """
    found = Room.objects.filter(is_public=True, archived_at=None, name__icontains=query)
    if after:
        found = found.filter(id__gt=after)
    rooms = list(found.order_by("id")[: limit + 1])
    return rooms[:limit], len(rooms) > limit


def room_ids_of(user: User) -> list[uuid.UUID]:
    """The rooms of ``user``, as a socket ticket lists them."""
    return list(Membership.objects.filter(user=user).values_list("room_id", flat=True)[:MAX_ROOMS])


def members_page(room_id: uuid.UUID, after: int, limit: int) -> tuple[list[Membership], bool]:
    """Up to ``limit`` members with a user id above ``after``, by id, and whether more follow."""
    members = list(
        Membership.objects.select_related("user")
        .filter(room_id=room_id, user_id__gt=after)
        .order_by("user_id")[: limit + 1]
    )
    return members[:limit], len(members) > limit
