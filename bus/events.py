"""The event envelope and its types, decoded strictly wherever an event enters a process.

An event travels as JSON, UTF-8, at most 64 KiB::

    {"v":1,"id":"<uuid7>","type":"message.posted","room_id":"<uuid>",
     "actor":{"id":1,"name":"alice"},"at":"2026-11-21T17:00:00.123Z","data":{"body":"hi"}}

``id`` is a UUIDv7 (RFC 9562) whose time is ``at``, so the order of ids is the order of time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from bus import topology
from bus.errors import InvalidEvent
from bus.message import Delivery, Message
from bus.runtime import ids, trace
from bus.runtime.clock import EPOCH

# A header of every event's message: when it was published, in milliseconds since 1970. The event's
# own time is another: an import publishes events that are years old. As text, because pika takes
# a whole microsecond longer to encode a number of 64 bits.
PUBLISHED_AT = "published_at"
# 9999-12-31T23:59:59Z: no later time can be held.
LATEST = 253_402_300_799
MAX_EVENT_BYTES = 64 * 1024
MAX_BODY_CHARACTERS = 4_000
# The id of a user's channel is a UUIDv7 of 1970: version, variant, and the user's id in the last 62
# bits. Not a UUIDv8: MariaDB 10.11 takes some of them for "Incorrect uuid value".
_CHANNELS = 7 << 76 | 2 << 62

Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Body = Annotated[str, Meta(min_length=1, max_length=MAX_BODY_CHARACTERS)]
Description = Annotated[str, Meta(max_length=500)]
Role = Literal["owner", "admin", "member"]


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything in an envelope: immutable, and no field but the declared ones."""


class Person(Part, frozen=True):
    """A user in an event: the id in MySQL, and the display name at that time."""

    id: int
    name: Name


class PostedData(Part, frozen=True):
    body: Body


class EditedData(Part, frozen=True):
    message_id: uuid.UUID
    body: Body


class DeletedData(Part, frozen=True):
    message_id: uuid.UUID


class RoleData(Part, frozen=True):
    user: Person
    role: Role


class RemovedData(Part, frozen=True):
    user: Person


class RoomNameData(Part, frozen=True):
    name: Name


class DescriptionData(Part, frozen=True):
    description: Description


class VisibilityData(Part, frozen=True):
    public: bool


class UserData(Part, frozen=True):
    """``user_id`` is the user on whose own channel the event travels."""

    user_id: Annotated[int, Meta(ge=0, lt=2**62)]


class InvitedData(UserData, frozen=True):
    invitation_id: uuid.UUID
    room_name: Name


class JoinedData(UserData, frozen=True):
    room_name: Name
    role: Role


class UserRoleData(UserData, frozen=True):
    role: Role


class EmptyData(Part, frozen=True):
    pass


class Envelope(Part, frozen=True, kw_only=True, tag_field="type"):
    """The fields that every event has. Build events with ``make``."""

    v: Literal[1]
    id: uuid.UUID
    room_id: uuid.UUID
    actor: Person
    at: Timestamp

    @property
    def type(self) -> str:
        tag = self.__struct_config__.tag
        assert isinstance(tag, str)
        return tag

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.at)

    @property
    def channel_id(self) -> uuid.UUID:
        """In whose log it is: the room's, or that of a user's own channel."""
        return self.room_id

    @property
    def routing_key(self) -> str:
        return routing_key(self.room_id, self.type)


class UserEnvelope(Envelope, frozen=True, kw_only=True):
    """Base of the events on a user's own channel, about the room ``room_id``."""

    data: UserData

    @property
    def channel_id(self) -> uuid.UUID:
        return channel_of(self.data.user_id)

    @property
    def routing_key(self) -> str:
        return routing_key(self.data.user_id, self.type)


class MessagePosted(Envelope, frozen=True, kw_only=True, tag="message.posted"):
    data: PostedData


class MessageEdited(Envelope, frozen=True, kw_only=True, tag="message.edited"):
    data: EditedData


class MessageDeleted(Envelope, frozen=True, kw_only=True, tag="message.deleted"):
    data: DeletedData


class MemberAdded(Envelope, frozen=True, kw_only=True, tag="member.added"):
    data: RoleData


class MemberRoleChanged(Envelope, frozen=True, kw_only=True, tag="member.role_changed"):
    data: RoleData


class MemberRemoved(Envelope, frozen=True, kw_only=True, tag="member.removed"):
    data: RemovedData


class RoomCreated(Envelope, frozen=True, kw_only=True, tag="room.created"):
    data: RoomNameData


class RoomRenamed(Envelope, frozen=True, kw_only=True, tag="room.renamed"):
    data: RoomNameData


class RoomDescribed(Envelope, frozen=True, kw_only=True, tag="room.described"):
    data: DescriptionData


class RoomVisibilityChanged(Envelope, frozen=True, kw_only=True, tag="room.visibility_changed"):
    data: VisibilityData


class RoomArchived(Envelope, frozen=True, kw_only=True, tag="room.archived"):
    data: EmptyData


class RoomUnarchived(Envelope, frozen=True, kw_only=True, tag="room.unarchived"):
    data: EmptyData


class RoomDeleted(Envelope, frozen=True, kw_only=True, tag="room.deleted"):
    data: EmptyData


class UserInvited(UserEnvelope, frozen=True, kw_only=True, tag="user.invited"):
    data: InvitedData


class UserJoined(UserEnvelope, frozen=True, kw_only=True, tag="user.joined"):
    data: JoinedData


class UserLeft(UserEnvelope, frozen=True, kw_only=True, tag="user.left"):
    data: UserData


class UserRoleChanged(UserEnvelope, frozen=True, kw_only=True, tag="user.role_changed"):
    data: UserRoleData


Event = (
    MessagePosted
    | MessageEdited
    | MessageDeleted
    | MemberAdded
    | MemberRemoved
    | MemberRoleChanged
    | RoomCreated
    | RoomRenamed
    | RoomDescribed
    | RoomVisibilityChanged
    | RoomArchived
    | RoomUnarchived
    | RoomDeleted
    | UserInvited
    | UserJoined
    | UserLeft
    | UserRoleChanged
)
MessageEvent = MessagePosted | MessageEdited | MessageDeleted

Kind = TypeVar("Kind", bound=Event)

_decoder = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()


def channel_of(user_id: int) -> uuid.UUID:
    """The id of a user's own channel, which has a log as a room has."""
    return uuid.UUID(int=_CHANNELS | user_id)


def is_own_channel(channel_id: uuid.UUID) -> bool:
    """Whether it is a user's own channel, and no room."""
    return channel_id.int >> 62 == _CHANNELS >> 62


def routing_key(owner: object, event_type: str) -> str:
    """``room.<room id>.<type>``, or ``user.<user id>.<type>`` on a user's own channel."""
    scope = "user" if event_type.startswith("user.") else "room"
    return f"{scope}.{owner}.{event_type}"


def new_id() -> uuid.UUID:
    """A UUIDv7 of this moment; ids of one process grow strictly, whatever its clock does.

    Raises RetryableError when the process's clock has no time yet (see ``bus.runtime.clock``).
    """
    return ids.new_id()


def make(
    kind: Callable[..., Kind],
    *,
    room_id: uuid.UUID,
    actor: Person,
    data: Part,
    event_id: uuid.UUID | None = None,
) -> Kind:
    """An event of the type ``kind``, of this moment or of the time of ``event_id``."""
    event_id = event_id or new_id()
    return kind(v=1, id=event_id, room_id=room_id, actor=actor, at=timestamp(event_id), data=data)


def time_of(event_id: uuid.UUID) -> datetime:
    """When a UUIDv7 was made, exact to the millisecond."""
    return EPOCH + timedelta(milliseconds=event_id.int >> 80)


def timestamp(event_id: uuid.UUID) -> str:
    """The envelope's ``at`` of an event with this id."""
    return format_time(time_of(event_id))


def format_time(time: datetime) -> str:
    """A time in UTC as events and documents have it: RFC 3339 with milliseconds, and a Z."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(event: Event) -> bytes:
    """The event in JSON. Raises InvalidEvent above 64 KiB."""
    body = _encoder.encode(event)
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidEvent(f"event of {len(body)} bytes; accepted are {MAX_EVENT_BYTES}")
    return body


def decode(body: bytes) -> Event:
    """The typed event in ``body``. Raises InvalidEvent, which says what is wrong and where."""
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidEvent(f"event of {len(body)} bytes; accepted are {MAX_EVENT_BYTES}")
    try:
        event: Event = _decoder.decode(body)
        event.time  # noqa: B018 - the pattern lets a 31st of February through
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise InvalidEvent(str(error)) from error
    return event


def to_message(event: Event, traceparent: str | None = None) -> Message:
    """The event as a message for the exchange ``chat.events``, to be published now.

    ``traceparent`` names the work that caused the event; by default, the current work.
    """
    now = time.time()
    return Message(
        exchange=topology.EVENTS.name,
        routing_key=event.routing_key,
        body=encode(event),
        message_id=str(event.id),
        type=event.type,
        timestamp=int(now),
        headers={
            "room_id": str(event.channel_id),
            PUBLISHED_AT: str(int(now * 1_000)),
            trace.HEADER: traceparent or trace.traceparent(),
        },
    )


def published_at(delivery: Delivery, event: Event) -> float:
    """When ``event`` was published, in seconds since 1970, by its publisher's clock.

    A publisher that sets no such header may have set AMQP's timestamp, in whole seconds; without
    either it is the event's own time.
    """
    milliseconds = delivery.headers.get(PUBLISHED_AT)
    # A foreign program may have written anything there.
    if isinstance(milliseconds, str) and len(milliseconds) == 13 and milliseconds.isdecimal():
        return int(milliseconds) / 1_000
    if isinstance(delivery.timestamp, int) and 0 < delivery.timestamp <= LATEST:
        return delivery.timestamp
    return event.time.timestamp()
