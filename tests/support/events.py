"""Events for tests."""

from __future__ import annotations

import uuid
from datetime import datetime

from bus import events
from bus.events import (
    DeletedData,
    EditedData,
    MemberAdded,
    MemberRemoved,
    MessageDeleted,
    MessageEdited,
    MessagePosted,
    Person,
    PostedData,
    RemovedData,
    RoleData,
)

ALICE = Person(1, "alice")
BOB = Person(2, "bob")
ROOM = uuid.UUID("7f3c0000-0000-4000-8000-000000000001")


def posted(body: str = "hi", room_id: uuid.UUID = ROOM, actor: Person = ALICE) -> MessagePosted:
    return events.make(MessagePosted, room_id=room_id, actor=actor, data=PostedData(body))


def posted_at(time: datetime, room_id: uuid.UUID = ROOM) -> MessagePosted:
    """A message as an import publishes it: its id and its own time are those of ``time``."""
    other_bits = events.new_id().int % 2**80
    event_id = uuid.UUID(int=int(time.timestamp() * 1_000) << 80 | other_bits)
    data = PostedData("imported")
    return events.make(MessagePosted, room_id=room_id, actor=ALICE, data=data, event_id=event_id)


def edited(message: MessagePosted, body: str) -> MessageEdited:
    data = EditedData(message.id, body)
    return events.make(MessageEdited, room_id=message.room_id, actor=message.actor, data=data)


def deleted(message: MessagePosted) -> MessageDeleted:
    data = DeletedData(message.id)
    return events.make(MessageDeleted, room_id=message.room_id, actor=message.actor, data=data)


def added(user: Person, room_id: uuid.UUID = ROOM) -> MemberAdded:
    return events.make(MemberAdded, room_id=room_id, actor=ALICE, data=RoleData(user, "member"))


def removed(user: Person, room_id: uuid.UUID = ROOM) -> MemberRemoved:
    return events.make(MemberRemoved, room_id=room_id, actor=ALICE, data=RemovedData(user))
