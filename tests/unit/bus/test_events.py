from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bus import events
from bus.errors import InvalidEvent
from bus.events import MessagePosted
from tests.support.events import ALICE, ROOM, posted

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "v": 1,
    "id": "0193509d-8f7b-7abc-8def-0123456789ab",
    "type": "message.posted",
    "room_id": "7f3c0000-0000-4000-8000-000000000001",
    "actor": {"id": 1, "name": "alice"},
    "at": "2026-11-21T17:00:00.123Z",
    "data": {"body": "hi"},
}


def changed(path: str, value: Any) -> bytes:
    """GOOD with the field at ``path`` set, or removed when ``value`` is ``...``."""
    event = json.loads(json.dumps(GOOD))
    *parents, last = path.split(".")
    target = event
    for parent in parents:
        target = target[parent]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(event).encode()


def test_an_event_survives_the_way_there_and_back() -> None:
    event = posted("héllo 🙂 \u2028 <b>")
    assert events.decode(events.encode(event)) == event


def test_the_documented_form_is_accepted() -> None:
    event = events.decode(json.dumps(GOOD).encode())
    assert isinstance(event, MessagePosted)
    assert json.loads(events.encode(event)) == GOOD


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("v", 2),
        ("v", ...),
        ("type", "message.liked"),
        ("type", ...),
        ("id", "7"),
        ("id", ...),
        ("room_id", "lobby"),
        ("actor", ...),
        ("actor.name", ""),
        ("actor.id", "1"),
        ("at", "yesterday"),
        ("at", "2026-02-31T17:00:00.123Z"),
        ("at", "2026-11-21T17:00:00.123+01:00"),
        ("data", {}),
        ("data.body", ""),
        ("data.body", "x" * 4_001),
        ("data.body", 7),
        ("data.color", "red"),
        ("extra", 1),
    ],
)
def test_whatever_else_is_refused(path: str, value: Any) -> None:
    with pytest.raises(InvalidEvent):
        events.decode(changed(path, value))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"hi"'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        events.decode(body)


def test_a_giant_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidEvent, match="65536"):
        events.decode(b'"' + b"x" * events.MAX_EVENT_BYTES + b'"')


def test_new_ids_grow_and_tell_the_time() -> None:
    before = datetime.now(UTC)
    ids = [events.new_id() for _ in range(1_000)]
    assert ids == sorted(ids)
    assert all(event_id.version == 7 for event_id in ids)
    assert abs(events.time_of(ids[0]) - before) < timedelta(seconds=5)


def test_ids_made_by_threads_at_once_grow_in_each_and_never_meet() -> None:
    def some(_: int) -> list[uuid.UUID]:
        return [events.new_id() for _ in range(2_000)]

    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(some, range(4)))
    assert all(ids == sorted(ids) for ids in threads)
    assert len(set().union(*threads)) == 8_000


@pytest.mark.parametrize(
    "at", ["1970-01-01T00:00:00.001Z", "2004-12-25T23:59:59.999Z", "9998-12-31T23:59:59.998Z"]
)
def test_the_time_in_an_id_is_exact(at: str) -> None:
    milliseconds = (datetime.fromisoformat(at) - EPOCH) // timedelta(milliseconds=1)
    assert events.timestamp(uuid.UUID(int=milliseconds << 80)) == at


def test_the_message_carries_what_brokers_and_tools_look_at() -> None:
    event = posted()
    message = events.to_message(event)
    assert message.routing_key == f"room.{event.room_id}.message.posted"
    assert message.message_id == str(event.id)
    assert message.headers["room_id"] == str(event.room_id)
    assert message.type == "message.posted"


def test_a_users_own_channel_is_no_room_and_no_other_users() -> None:
    users = (0, 1, 2, 2**62 - 1)
    channels = [events.channel_of(user_id) for user_id in users]
    assert len(set(channels)) == len(users)
    assert all(map(events.is_own_channel, channels))
    others = (uuid.uuid4(), events.new_id(), uuid.uuid5(uuid.NAMESPACE_DNS, "x"), uuid.UUID(int=1))
    assert not any(map(events.is_own_channel, others))


def test_an_event_on_a_users_own_channel_goes_by_its_user() -> None:
    data = events.JoinedData(7, "garden", "member")
    event = events.make(events.UserJoined, room_id=ROOM, actor=ALICE, data=data)
    message = events.to_message(event)
    assert message.routing_key == "user.7.user.joined"
    assert message.headers["room_id"] == str(events.channel_of(7)) == str(event.channel_id)
    assert events.decode(message.body) == event


@pytest.mark.parametrize("user_id", [-1, 2**62])
def test_a_user_id_that_has_no_channel_is_refused(user_id: int) -> None:
    data = events.UserData(user_id)
    event = events.make(events.UserLeft, room_id=ROOM, actor=ALICE, data=data)
    with pytest.raises(InvalidEvent, match="user_id"):
        events.decode(events.encode(event))
