"""Changes who is in a room, and as what. The events go through the outbox."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime
from typing import cast

from bus import events
from bus.events import (
    JoinedData,
    MemberAdded,
    MemberRemoved,
    MemberRoleChanged,
    RemovedData,
    RoleData,
    UserData,
    UserJoined,
    UserLeft,
    UserRoleChanged,
    UserRoleData,
    channel_of,
)
from bus.runtime import clock
from bus.ticket import MAX_ROOMS
from webapp.accounts.models import User
from webapp.audit.models import Action
from webapp.audit.services import record
from webapp.outbox import services as outbox
from webapp.project.errors import Conflict, Forbidden, InvalidInput, NotFound
from webapp.project.transactions import atomic
from webapp.rooms.models import Membership, Removal, Role, Room
from webapp.rooms.selectors import managing_membership, owning_membership

logger = logging.getLogger(__name__)


@atomic
def add_member(room_id: uuid.UUID, user: User, *, actor: User) -> None:
    """Makes ``user`` a member without asking, unless they are one or are in MAX_ROOMS rooms.

    For operators' commands: people invite each other. Raises NotFound.
    """
    room = lock_room(room_id)
    if room.memberships.filter(user=user).exists():
        return
    if _is_full(user):
        logger.info("user %s is in %s rooms and was not added to %s", user.id, MAX_ROOMS, room_id)
        return
    publish(add(room, user, Role.MEMBER, actor=actor))


@atomic
def join(room_id: uuid.UUID, user: User, *, invited_at: datetime | None = None) -> Membership:
    """Makes ``user`` a member by their own will; returns the membership that there is already.

    ``invited_at``: when they themselves were invited. Raises NotFound, Forbidden if they were
    removed since then, or Conflict for an archived room and at MAX_ROOMS rooms.
    """
    room = lock_room(room_id)
    membership = room.memberships.filter(user=user).first()
    if membership:
        return membership
    check_not_archived(room)
    check_not_full(user)
    removal = room.removals.filter(user=user).first()
    if removal and (invited_at is None or invited_at <= removal.at):
        raise Forbidden("You were removed from this room. Only a new invitation brings you back.")
    record(Action.MEMBER_JOINED, actor=user, room_id=room_id)
    return publish(add(room, user, Role.MEMBER, actor=user))


@atomic
def join_public(room_id: uuid.UUID, user: User) -> Membership:
    """As ``join``, for a room that is open to everybody. Raises Forbidden for another."""
    room = lock_room(room_id)
    if not room.is_public and not room.memberships.filter(user=user).exists():
        raise Forbidden("This room is not public. Somebody in it has to invite you.")
    return join(room_id, user)


@atomic
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
        _announce_added(member, actor=user)
        publish(member)
    elif _is_full(user):
        logger.info("user %s is in %s rooms and does not own %s", user.id, MAX_ROOMS, room_id)
    else:
        publish(add(room, user, Role.OWNER, actor=user))


@atomic
def change_role(room_id: uuid.UUID, user_id: int, role: object, *, actor: User) -> Membership:
    """Gives a member another role. To hand a room over, an owner makes another one owner first.

    Raises InvalidInput, NotFound, Forbidden unless ``actor`` is an owner, or Conflict for the
    last owner.
    """
    wanted = _role(role)
    room = lock_room(room_id)
    owning_membership(actor, room_id)
    member = room.memberships.select_related("user").filter(user_id=user_id).first()
    if member is None:
        raise NotFound("There is no such member.")
    if member.role != wanted:
        _check_an_owner_stays(member)
        member.role = wanted
        member.save(update_fields=["role"])
        if not member.may_manage:
            _end_invitations_by(member)
        announce(room, MemberRoleChanged, _role_data(member), actor=actor)
        record(Action.ROLE_CHANGED, actor=actor, user_id=user_id, room_id=room_id, detail=wanted)
        announce(room, UserRoleChanged, UserRoleData(user_id, _role_of(member)), actor=actor)
        publish(member)
    return member


def remove_member(room_id: uuid.UUID, user_id: int, *, actor: User) -> None:
    """Removes a member and returns when the broker has confirmed the event.

    Anybody but the last owner may leave; the owners and admins may remove others, but only an
    owner an owner. A repeated call publishes the event if an earlier call could not. Raises
    NotFound, Forbidden, Conflict or a BusError.
    """
    _remove_if_member(room_id, user_id, actor)
    outbox.flush_room(room_id)
    outbox.try_flush([channel_of(user_id)])


@atomic
def _remove_if_member(room_id: uuid.UUID, user_id: int, actor: User) -> None:
    room = lock_room(room_id)
    by = None if user_id == actor.id else managing_membership(actor, room_id)
    member = room.memberships.select_related("user").filter(user_id=user_id).first()
    if member:
        _check_removable(member, by)
        _remove(member, actor)


def add(room: Room, user: User, role: Role, *, actor: User) -> Membership:
    """Adds ``user`` to a room that the caller has locked; then ``publish`` it."""
    room.removals.filter(user=user).delete()
    membership = Membership.objects.create(room=room, user=user, role=role, joined_at=clock.now())
    _announce_added(membership, actor=actor)
    return membership


def lock_room(room_id: uuid.UUID) -> Room:
    """Locks the room until commit, so that its outbox rows are in the order of the commits.

    Raises NotFound.
    """
    room = Room.objects.select_for_update().filter(id=room_id).first()
    if room is None:
        raise NotFound("There is no such room.")
    return room


def announce(room: Room, kind: type[events.Event], data: events.Part, *, actor: User) -> None:
    """Stores an event about a locked room, to be published."""
    outbox.add(events.make(kind, room_id=room.id, actor=person(actor), data=data))


def publish(member: Membership) -> Membership:
    """Publishes after the commit what was announced to the room and to the member themselves."""
    outbox.publish_after_commit(member.room_id, channel_of(member.user_id))
    return member


def check_not_full(user: User) -> None:
    """Raises Conflict at MAX_ROOMS rooms."""
    if _is_full(user):
        raise Conflict(
            f"You are in {MAX_ROOMS} rooms, the most that one user can be in. Leave one first.",
            "too_many_rooms",
        )


def check_not_archived(room: Room) -> None:
    """Raises Conflict."""
    if room.archived_at:
        raise Conflict(
            "This room is archived. It can be read, but nothing can be added.", "room_archived"
        )


def person(user: User) -> events.Person:
    return events.Person(user.id, user.display_name)


def _remove(member: Membership, actor: User) -> None:
    is_leaving = member.user_id == actor.id
    if not is_leaving:
        _keep_out(member)
    action = Action.MEMBER_LEFT if is_leaving else Action.MEMBER_REMOVED
    record(action, actor=actor, user_id=member.user_id, room_id=member.room_id)
    _end_invitations_by(member)
    member.delete()
    announce(member.room, MemberRemoved, RemovedData(person(member.user)), actor=actor)
    announce(member.room, UserLeft, UserData(member.user_id), actor=actor)


def _keep_out(member: Membership) -> None:
    """Ends what would bring a removed member back: an offer to them, any link, the public door."""
    # By the clock that an invitation's time is from: the two are compared.
    now = clock.now()
    Removal.objects.update_or_create(room=member.room, user=member.user, defaults={"at": now})
    member.room.invitations.filter(email=member.user.email, ended_at=None).update(ended_at=now)


def _check_removable(member: Membership, by: Membership | None) -> None:
    """``by`` is who removes others; None: the member leaves."""
    if by and member.role == Role.OWNER != by.role:
        raise Forbidden("Only an owner may remove an owner.")
    _check_an_owner_stays(member)


def _check_an_owner_stays(member: Membership) -> None:
    owners = Membership.objects.filter(room=member.room_id, role=Role.OWNER)
    if member.role == Role.OWNER and not owners.exclude(id=member.id).exists():
        raise Conflict(
            "A room keeps an owner. Make another member owner first, or delete the room.",
            "last_owner",
        )


def _end_invitations_by(member: Membership) -> None:
    """What was offered by who may no longer invite cannot be accepted."""
    invitations = member.room.invitations.filter(inviter=member.user, ended_at=None)
    invitations.update(ended_at=clock.now())
    member.room.invitation_links.filter(inviter=member.user).delete()


def _announce_added(member: Membership, *, actor: User) -> None:
    room, role = member.room, _role_of(member)
    announce(room, MemberAdded, _role_data(member), actor=actor)
    announce(room, UserJoined, JoinedData(member.user_id, room.name, role), actor=actor)


def _role_data(member: Membership) -> RoleData:
    return RoleData(person(member.user), _role_of(member))


def _role_of(member: Membership) -> events.Role:
    return cast(events.Role, Role(member.role).value)


def _role(role: object) -> Role:
    try:
        return Role(role)
    except ValueError:
        accepted = ", ".join(f"“{each.value}”" for each in Role)
        raise InvalidInput(f"“role” must be one of {accepted}.") from None


def _is_full(user: User) -> bool:
    return Membership.objects.filter(user=user).count() >= MAX_ROOMS
