"""The socket protocol as data: what a browser may send, what it receives, and the close codes.

docs/protocol.md describes it for authors of clients.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import IntEnum
from typing import Annotated, Literal, NewType

import msgspec
from msgspec import Meta, Raw, Struct
from websockets.frames import Frame, Opcode

from bus.rooms.model import Entry, Position
from bus.rooms.presence import Ephemeral, PresentUsers, UserRef

MAX_FRAME_BYTES = 64 * 1024

# An event's envelope (``bus.events.Event``), whose bytes go into a frame unchanged.
Envelope = Annotated[Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/Envelope"})]

# Whole WebSocket frames with their headers: encoded once, written to any number of sockets.
Encoded = NewType("Encoded", bytes)


class Close(IntEnum):
    """Close codes (RFC 6455 section 7.4; 4000 and above are our own)."""

    NO_UTF8 = 1007
    BROKEN = 1011
    RESTARTING = 1012
    TRY_LATER = 1013
    BAD_FRAME = 4400
    BAD_TICKET = 4401
    SILENT = 4408
    TOO_LARGE = 4413
    TOO_MANY = 4429
    TOO_SLOW = 4508


class SocketRefused(Exception):
    """Closes a browser's socket, with a close code and the reason that the browser receives."""

    def __init__(self, code: Close, reason: str) -> None:
        self.code = code
        # The reason shares a control frame of 125 bytes with the code (RFC 6455 section 5.5).
        self.reason = reason.encode()[:123].decode(errors="ignore")
        super().__init__(f"{code.value} {reason}")


class Since(Struct, frozen=True, forbid_unknown_fields=True):
    epoch: Annotated[str, Meta(pattern="^[0-9a-f]{0,64}$")]
    offset: Annotated[int, Meta(ge=0, le=2**53)]


class Incoming(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of what a browser sends."""


class Authenticate(Incoming, frozen=True, tag="authenticate"):
    ticket: str


class Subscribe(Incoming, frozen=True, tag="subscribe"):
    room_id: uuid.UUID
    since: Since | None = None


class Unsubscribe(Incoming, frozen=True, tag="unsubscribe"):
    room_id: uuid.UUID


class Ping(Incoming, frozen=True, tag="ping"):
    pass


class Typing(Incoming, frozen=True, tag="typing"):
    room_id: uuid.UUID


FromBrowser = Authenticate | Subscribe | Unsubscribe | Typing | Ping


class Outgoing(Struct, frozen=True, tag_field="type"):
    """Base of what a browser receives."""


class Ready(Outgoing, frozen=True, tag="ready"):
    user: UserRef
    refresh_in: int


class Subscribed(Outgoing, frozen=True, tag="subscribed"):
    room_id: uuid.UUID
    epoch: str
    offset: int
    recovered: bool
    events: list[Envelope]


class EventFrame(Outgoing, frozen=True, tag="event"):
    room_id: uuid.UUID
    epoch: str
    offset: int
    event: Envelope


Reason = Literal["requested", "removed", "resync"]


class Unsubscribed(Outgoing, frozen=True, tag="unsubscribed"):
    room_id: uuid.UUID
    reason: Reason


class Presence(Outgoing, frozen=True, tag="presence"):
    room_id: uuid.UUID
    users: list[UserRef]
    count: int


class TypingNow(Outgoing, frozen=True, tag="typing"):
    room_id: uuid.UUID
    users: list[UserRef]


class Pong(Outgoing, frozen=True, tag="pong"):
    pass


ErrorCode = Literal["forbidden", "unavailable"]


class Error(Outgoing, frozen=True, tag="error"):
    code: ErrorCode
    message: str
    room_id: uuid.UUID


ToBrowser = Ready | Subscribed | EventFrame | Unsubscribed | Presence | TypingNow | Pong | Error


class _Subject(Struct, frozen=True):
    user: UserRef


class _MemberRemoved(Struct, frozen=True):
    data: _Subject


_decoder = msgspec.json.Decoder(FromBrowser)
_removal_decoder = msgspec.json.Decoder(_MemberRemoved)
_encoder = msgspec.json.Encoder()


def decode(message: str) -> FromBrowser:
    """The frame in ``message``. Raises SocketRefused, whose reason says what is wrong."""
    try:
        frame: FromBrowser = _decoder.decode(message)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SocketRefused(Close.BAD_FRAME, str(error)) from error
    return frame


def encode(message: ToBrowser) -> Encoded:
    frame = Frame(Opcode.TEXT, _encoder.encode(message))
    return Encoded(frame.serialize(mask=False))


def encode_event(room_id: uuid.UUID, position: Position, event: bytes) -> Encoded:
    """The frame for one event; the envelope's bytes go into it unchanged."""
    return encode(EventFrame(room_id, position.epoch, position.offset, Raw(event)))


def encode_subscribed(
    room_id: uuid.UUID, position: Position, entries: Iterable[Entry], *, recovered: bool
) -> Encoded:
    """The answer to a subscription: the room is at ``position``, ``entries`` lead up to it."""
    events = [Raw(entry.event) for entry in entries]
    return encode(Subscribed(room_id, position.epoch, position.offset, recovered, events))


def encode_ephemeral(room_id: uuid.UUID, ephemeral: Ephemeral) -> Encoded:
    if isinstance(ephemeral, PresentUsers):
        return encode(Presence(room_id, ephemeral.users, ephemeral.count))
    return encode(TypingNow(room_id, ephemeral.users))


def deletes_room(event: bytes) -> bool:
    """Whether the event is room.deleted, after which the room has no members."""
    return b'"type":"room.deleted"' in event


def removed_user(event: bytes) -> int | None:
    """The id of the user that a member.removed event removes; None for any other event.

    Quotes inside a JSON string are escaped, so no message's text passes the first check.
    """
    if b'"type":"member.removed"' not in event:
        return None
    return _removal_decoder.decode(event).data.user.id
