"""Frames as bytes, and the door that bad ones do not pass."""

from __future__ import annotations

import json
import uuid

import pytest

from bridge import protocol
from bridge.protocol import Close, Since, SocketRefused
from bus import events
from bus.events import MemberRemoved, MessagePosted, Person
from bus.rooms.model import Entry, Position
from tests.support.frames import messages

ROOM = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def content(frame: bytes) -> dict[str, object]:
    """The JSON of a single frame."""
    (message,) = messages(frame)
    return message


def test_decode() -> None:
    since = {"epoch": "0f", "offset": 3}
    frame = json.dumps({"type": "subscribe", "room_id": str(ROOM), "since": since})
    assert protocol.decode(frame) == protocol.Subscribe(ROOM, Since("0f", 3))
    assert protocol.decode('{"type":"ping"}') == protocol.Ping()


@pytest.mark.parametrize(
    "frame",
    [
        "",
        '{"type":"ping"} {}',
        '{"type":"authenticate","ticket":"\\ud800"}',
        "[" * 60_000,
    ],
)
def test_decode_refuses(frame: str) -> None:
    with pytest.raises(SocketRefused) as refused:
        protocol.decode(frame)
    assert refused.value.code is Close.BAD_FRAME


def test_a_reason_fits_into_a_close_frame() -> None:
    refused = SocketRefused(Close.BAD_FRAME, "é" * 200)
    assert refused.reason == "é" * 61


@pytest.mark.parametrize("size", [10, 200, 70_000])
def test_an_event_goes_into_its_frame_byte_by_byte(size: int) -> None:
    event = json.dumps({"data": {"body": "x" * size}}, separators=(",", ":")).encode()
    frame = protocol.encode_event(ROOM, Position("0f", 3), event)
    assert event in frame
    assert content(frame) == {
        "type": "event",
        "room_id": str(ROOM),
        "epoch": "0f",
        "offset": 3,
        "event": json.loads(event),
    }


def test_subscribed() -> None:
    entries = (Entry(2, b'{"a":1}'), Entry(3, b'{"b":2}'))
    frame = protocol.encode_subscribed(ROOM, Position("0f", 3), entries, recovered=True)
    assert content(frame) == {
        "type": "subscribed",
        "room_id": str(ROOM),
        "epoch": "0f",
        "offset": 3,
        "recovered": True,
        "events": [{"a": 1}, {"b": 2}],
    }


def test_removed_user() -> None:
    alice, bob = Person(1, "alice"), Person(2, "bob")
    removal = events.make(MemberRemoved, room_id=ROOM, actor=alice, data=events.RemovedData(bob))
    assert protocol.removed_user(events.encode(removal)) == 2
    for body in ("hi", '"type":"member.removed"', '{"type":"member.removed","data":{}}'):
        data = events.PostedData(body)
        message = events.make(MessagePosted, room_id=ROOM, actor=alice, data=data)
        assert protocol.removed_user(events.encode(message)) is None
