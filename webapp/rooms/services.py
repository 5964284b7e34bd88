"""Changes rooms and memberships. Their events go through the outbox."""

from __future__ import annotations

import logging
import uuid
from typing import cast

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from bus import events
from bus.events import AddedData, MemberAdded, MemberRemoved, RemovedData, RoomCreated, RoomNameData
from bus.ticket import MAX_ROOMS
from webapp.accounts.models import User
from webapp.outbox import services as outbox
from webapp.project.errors import Conflict, NotFound
from webapp.project.text import clean_name
from webapp.rooms.models import MAX_ROOM_NAME, Membership, Role, Room
from webapp.rooms.selectors import managing_membership

logger = logging.getLogger(__name__)


@transaction.atomic
def create_room(user: User, name: object) -> Membership:
    """Makes a room that ``user`` owns. Raises InvalidInput, or Conflict at MAX_ROOMS rooms."""
    room = Room(name=clean_name(name, "name", MAX_ROOM_NAME), created_by=user)
    _check_not_full(user)
    room.save()
    outbox.add(
        events.make(RoomCreated, room_id=room.id, actor=_person(user), data=RoomNameData(room.name))
    )
    return _add(room, user, Role.OWNER, actor=user)


@transaction.atomic
def add_member(room_id: uuid.UUID, user: User, *, actor: User) -> None:
    """Makes ``user`` a member without asking, unless they are one or are in MAX_ROOMS rooms.

    For operators' commands: people invite each other.
    """
    room = lock_room(room_id)
    if room.memberships.filter(user=user).exists():
        return
    if _is_full(user):
        logger.info("user %s is in %s rooms and was not added to %s", user.id, MAX_ROOMS, room_id)
        return
    _add(room, user, Role.MEMBER, actor=actor)


@transaction.atomic
def join(room_id: uuid.UUID, user: User) -> Membership:
    """Makes ``user``, who may join, a member; returns the membership that there is already.

    Raises NotFound, or Conflict at MAX_ROOMS rooms.
    """
    room = lock_room(room_id)
    membership = room.memberships.filter(user=user).first()
    if membership:
        return membership
    _check_not_full(user)
    return _add(room, user, Role.MEMBER, actor=user)


@transaction.atomic
def ensure_owner(room_id: uuid.UUID, user: User) -> None:
    """Makes ``user`` the owner of a room that has none, unless they are in MAX_ROOMS rooms.

    The event says that a member with the role of owner was added, also of one who was a member.
    """
    room = lock_room(room_id)
    if room.memberships.filter(role=Role.OWNER).exists():
        return
    member = room.memberships.filter(user=user).first()
    if member:
        member.role = Role.OWNER
        member.save(update_fields=["role"])
        _announce(member, actor=user)
    elif _is_full(user):
        logger.info("user %s is in %s rooms and does not own %s", user.id, MAX_ROOMS, room_id)
    else:
        _add(room, user, Role.OWNER, actor=user)


def remove_member(room_id: uuid.UUID, user_id: int, *, actor: User) -> None:
    """Removes a member and returns when the broker has confirmed the event.

    Any member but the owner may leave; the owner and admins may remove others. A repeated call
    publishes the event if an earlier call could not. Raises NotFound, Forbidden, Conflict or a
    BusError.
    """
    with transaction.atomic():
        room = lock_room(room_id)
        if user_id != actor.id:
            managing_membership(actor, room_id)
        member = room.memberships.select_related("user").filter(user_id=user_id).first()
        if member:
            _remove(member, actor)
    outbox.flush_room(room_id)


def _remove(member: Membership, actor: User) -> None:
    if member.role == Role.OWNER:
        raise Conflict("The owner cannot be removed from the room.", "owner_stays")
    _end_invitations(member)
    member.delete()
    outbox.add(
        events.make(
            MemberRemoved,
            room_id=member.room_id,
            actor=_person(actor),
            data=RemovedData(_person(member.user)),
        )
    )


def _add(room: Room, user: User, role: Role, *, actor: User) -> Membership:
    membership = Membership.objects.create(room=room, user=user, role=role)
    _announce(membership, actor=actor)
    return membership


def _announce(member: Membership, *, actor: User) -> None:
    data = AddedData(_person(member.user), cast(events.Role, Role(member.role).value))
    outbox.add(events.make(MemberAdded, room_id=member.room_id, actor=_person(actor), data=data))
    transaction.on_commit(lambda: outbox.try_flush_room(member.room_id))


def _end_invitations(member: Membership) -> None:
    """Ends what would bring ``member`` back, and what they offered to others."""
    concerned = Q(email=member.user.email) | Q(inviter=member.user)
    invitations = member.room.invitations.filter(concerned, ended_at=None)
    invitations.update(ended_at=timezone.now())


def _check_not_full(user: User) -> None:
    if _is_full(user):
        raise Conflict(
            f"You are in {MAX_ROOMS} rooms, the most that one user can be in. Leave one first.",
            "too_many_rooms",
        )


def _is_full(user: User) -> bool:
    return Membership.objects.filter(user=user).count() >= MAX_ROOMS


def lock_room(room_id: uuid.UUID) -> Room:
    """Locks the room until commit, so that its outbox rows are in the order of the commits.

    Raises NotFound.
    """
    room = Room.objects.select_for_update().filter(id=room_id).first()
    if room is None:
        raise NotFound("There is no such room.")
    return room


def _person(user: User) -> events.Person:
    return events.Person(user.id, user.display_name)
