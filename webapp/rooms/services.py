"""Makes, changes and deletes rooms. Their events go through the outbox."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bus import events
from bus.events import (
    DescriptionData,
    EmptyData,
    RoomArchived,
    RoomCreated,
    RoomDeleted,
    RoomDescribed,
    RoomNameData,
    RoomRenamed,
    RoomUnarchived,
    RoomVisibilityChanged,
    UserData,
    UserLeft,
    VisibilityData,
    channel_of,
)
from bus.runtime import clock
from webapp.accounts.models import User
from webapp.audit.models import Action
from webapp.audit.services import record
from webapp.limits.rates import ROOMS
from webapp.limits.services import spend
from webapp.outbox import services as outbox
from webapp.project import idempotency
from webapp.project.errors import InvalidInput
from webapp.project.text import clean_name, clean_text
from webapp.project.transactions import atomic
from webapp.rooms.memberships import add, announce, check_not_full, lock_room, person, publish
from webapp.rooms.models import MAX_DESCRIPTION, MAX_ROOM_NAME, Membership, Role, Room
from webapp.rooms.selectors import managing_membership, membership_of, owning_membership


def create_room(user: User, name: object, key: str | None = None) -> Membership:
    """Makes a room that ``user`` owns.

    The same ``key`` (Idempotency-Key) returns the same room. Raises InvalidInput, TooMany, or
    Conflict at MAX_ROOMS rooms.
    """
    cleaned = clean_name(name, "name", MAX_ROOM_NAME)
    key_hash = None if key is None else idempotency.hash_key(key)
    spend({ROOMS: 1}, user=user)
    return _create(user, cleaned, key_hash)


@atomic
def _create(user: User, name: str, key_hash: str | None) -> Membership:
    request_hash = idempotency.hash_request(name)
    # Requests of one user come one after the other: the second sees what the first has made.
    User.objects.select_for_update().get(id=user.id)
    known = key_hash and Room.objects.filter(created_by=user, key_hash=key_hash).first()
    if known:
        idempotency.check_same(known.request_hash, request_hash)
        return membership_of(user, known.id)
    check_not_full(user)
    room = Room.objects.create(
        name=name,
        created_by=user,
        created_at=clock.now(),
        key_hash=key_hash,
        request_hash=request_hash,
    )
    announce(room, RoomCreated, RoomNameData(room.name), actor=user)
    return publish(add(room, user, Role.OWNER, actor=user))


@atomic
def change_room(room_id: uuid.UUID, changes: Mapping[str, object], *, actor: User) -> Membership:
    """Changes ``name``, ``description``, ``public`` and ``archived``, whichever are given.

    Owners and admins may rename and describe; only owners may open the room to everybody, archive
    it, and take either back. What is the same already causes no event. Raises InvalidInput,
    NotFound or Forbidden.
    """
    room = lock_room(room_id)
    membership = managing_membership(actor, room_id)
    unknown = changes.keys() - _CHANGES.keys()
    if unknown or not changes:
        accepted = ", ".join(f"“{name}”" for name in _CHANGES)
        raise InvalidInput(f"Accepted are {accepted}, at least one of them.")
    for name, value in changes.items():
        _CHANGES[name](room, value, actor)
    outbox.publish_after_commit(room.id)
    membership.room = room
    return membership


@atomic
def delete_room(room_id: uuid.UUID, *, actor: User) -> None:
    """Deletes a room with its memberships. Raises NotFound, or Forbidden unless an owner does it.

    Nobody can read its messages any more; they stay in the history's store.
    """
    room = lock_room(room_id)
    owning_membership(actor, room_id)
    announce(room, RoomDeleted, EmptyData(), actor=actor)
    outbox.add_all(_departures(room, actor))
    outbox.publish_after_commit(room.id, channel_of(actor.id))
    # They count towards their inviters' bounds.
    room.invitations.filter(ended_at=None).update(ended_at=clock.now())
    room.invitations.update(room=None)
    Room.objects.filter(id=room_id).delete()
    record(Action.ROOM_DELETED, actor=actor, room_id=room_id)


def _departures(room: Room, actor: User) -> Iterator[UserLeft]:
    """The event for each member's own channel."""
    for user_id in room.memberships.values_list("user_id", flat=True).iterator():
        data = UserData(user_id)
        yield events.make(UserLeft, room_id=room.id, actor=person(actor), data=data)


def _rename(room: Room, value: object, actor: User) -> None:
    name = clean_name(value, "name", MAX_ROOM_NAME)
    if name != room.name:
        room.name = name
        room.save(update_fields=["name"])
        announce(room, RoomRenamed, RoomNameData(name), actor=actor)


def _describe(room: Room, value: object, actor: User) -> None:
    description = clean_text(value, "description", MAX_DESCRIPTION)
    if description != room.description:
        room.description = description
        room.save(update_fields=["description"])
        announce(room, RoomDescribed, DescriptionData(description), actor=actor)


def _open_to_all(room: Room, value: object, actor: User) -> None:
    if not isinstance(value, bool):
        raise InvalidInput("“public” must be true or false.")
    owning_membership(actor, room.id)
    if value != room.is_public:
        room.is_public = value
        room.save(update_fields=["is_public"])
        announce(room, RoomVisibilityChanged, VisibilityData(value), actor=actor)
        action = Action.ROOM_MADE_PUBLIC if value else Action.ROOM_MADE_PRIVATE
        record(action, actor=actor, room_id=room.id)


def _archive(room: Room, value: object, actor: User) -> None:
    if not isinstance(value, bool):
        raise InvalidInput("“archived” must be true or false.")
    owning_membership(actor, room.id)
    if value != bool(room.archived_at):
        room.archived_at = clock.now() if value else None
        room.save(update_fields=["archived_at"])
        announce(room, RoomArchived if value else RoomUnarchived, EmptyData(), actor=actor)


_CHANGES: dict[str, Callable[[Room, Any, User], None]] = {
    "name": _rename,
    "description": _describe,
    "public": _open_to_all,
    "archived": _archive,
}
