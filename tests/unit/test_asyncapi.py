"""The AsyncAPI document: valid by the published schema, complete, and true of real messages."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator, FormatChecker

from bridge import protocol
from bridge.protocol import Close, Since
from bus import events, topology
from bus.events import (
    DescriptionData,
    EmptyData,
    InvitedData,
    JoinedData,
    MemberRoleChanged,
    RoleData,
    RoomArchived,
    RoomCreated,
    RoomDeleted,
    RoomDescribed,
    RoomNameData,
    RoomRenamed,
    RoomUnarchived,
    RoomVisibilityChanged,
    UserData,
    UserInvited,
    UserJoined,
    UserLeft,
    UserRoleChanged,
    UserRoleData,
    VisibilityData,
)
from bus.rooms.model import Entry, Position
from bus.rooms.presence import UserRef
from deploy.cli import main
from deploy.commands import asyncapi
from tests.support.events import ALICE, BOB, ROOM, added, deleted, edited, posted, removed

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
PUBLISHED = json.loads((ROOT / "tests/data/asyncapi-3.0.0.json").read_text())
DOCUMENT = asyncapi.document()


def room_event(kind: Callable[..., events.Event], data: events.Part) -> events.Event:
    return events.make(kind, room_id=ROOM, actor=ALICE, data=data)


REAL: list[events.Event] = [
    posted("hé 🙂"),
    edited(posted(), "again"),
    deleted(posted()),
    added(BOB),
    removed(BOB),
    room_event(RoomCreated, RoomNameData("garden")),
    room_event(RoomRenamed, RoomNameData("yard")),
    room_event(MemberRoleChanged, RoleData(BOB, "admin")),
    room_event(RoomDescribed, DescriptionData("with roses")),
    room_event(RoomVisibilityChanged, VisibilityData(public=True)),
    room_event(RoomArchived, EmptyData()),
    room_event(RoomUnarchived, EmptyData()),
    room_event(RoomDeleted, EmptyData()),
    room_event(UserInvited, InvitedData(2, uuid.uuid4(), "garden")),
    room_event(UserJoined, JoinedData(2, "garden", "member")),
    room_event(UserLeft, UserData(2)),
    room_event(UserRoleChanged, UserRoleData(2, "owner")),
]
EVENT = events.encode(REAL[0])
FRAMES: list[msgspec.Struct] = [
    protocol.Authenticate("t"),
    protocol.Subscribe(ROOM),
    protocol.Subscribe(ROOM, Since("ab12", 7)),
    protocol.Unsubscribe(ROOM),
    protocol.Typing(ROOM),
    protocol.Ping(),
    protocol.Ready(UserRef(1, "alice"), 600),
    protocol.Unsubscribed(ROOM, "resync"),
    protocol.Presence(ROOM, [UserRef(1, "alice")], 1),
    protocol.TypingNow(ROOM, [UserRef(1, "alice")]),
    protocol.Pong(),
    protocol.Error("forbidden", "Not yours.", ROOM),
]


def problems(name: str, value: Any) -> list[str]:
    """What the schema of this message in the document says against ``value``."""
    schema = DOCUMENT["components"]["messages"][name]["payload"]
    validator = Draft7Validator(DOCUMENT | schema, format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(value)]


def sent(frame: bytes) -> Json:
    """The JSON in a frame as the bridge writes it to a socket."""
    value: Json = json.loads(frame[frame.index(b"{") :])
    return value


def changed(value: Json, path: str, to: Any) -> Json:
    """A copy of ``value`` with the field at ``path`` set, or removed when ``to`` is ``...``."""
    value = copy.deepcopy(value)
    *parents, last = path.split("/")
    target = value
    for parent in parents:
        target = target[parent]
    if to is ...:
        del target[last]
    else:
        target[last] = to
    return value


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_it_is_valid_by_the_published_schema() -> None:
    assert [error.message for error in Draft7Validator(PUBLISHED).iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("asyncapi", "2.6.0"),
        ("info/title", ...),
        ("channels/chat.events/bindings/amqp/exchange/type", "fan"),
        ("channels/chat.mongo_writer/bindings/amqp/is", "q"),
        ("operations/publish/action", "shout"),
        ("components/messages/message.posted/colour", "red"),
        ("components/schemas/Person/type", "person"),
    ],
)
def test_the_published_schema_can_refuse(path: str, to: Any) -> None:
    assert not Draft7Validator(PUBLISHED).is_valid(changed(DOCUMENT, path, to))


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        assert resolve(reference)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["asyncapi"]) == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT


@pytest.mark.parametrize("event", REAL, ids=lambda event: event.type)
def test_real_events_are_as_described(event: events.Event) -> None:
    message = events.to_message(event)
    assert problems(event.type, json.loads(message.body)) == []
    headers = DOCUMENT["components"]["messages"][event.type]["headers"]
    assert [e.message for e in Draft7Validator(headers).iter_errors(dict(message.headers))] == []
    assert set(headers["properties"]) == set(message.headers)


def test_every_event_type_is_in_the_document() -> None:
    types = {event.type for event in REAL}
    described = set[str]()
    for name in ("chat.events", "chat.events.users"):
        channel = DOCUMENT["channels"][name]
        assert set(channel["messages"]) == set(channel["parameters"]["type"]["enum"])
        assert described.isdisjoint(channel["messages"])
        described |= set(channel["messages"])
    assert types == described
    assert len(types) == len(events.Event.__args__)


@pytest.mark.parametrize("event", REAL, ids=lambda event: event.type)
def test_the_addresses_are_the_routing_keys(event: events.Event) -> None:
    of_users = isinstance(event, events.UserEnvelope)
    channel = DOCUMENT["channels"]["chat.events.users" if of_users else "chat.events"]
    values = {}
    for name, parameter in channel["parameters"].items():
        values[name] = json.loads(events.encode(event))
        for step in parameter["location"].removeprefix("$message.payload#/").split("/"):
            values[name] = values[name][step]
    assert channel["address"].format(**values) == events.to_message(event).routing_key


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("v", 2),
        ("type", "message.liked"),
        ("id", "7"),
        ("room_id", ...),
        ("actor/name", ""),
        ("at", "yesterday"),
        ("data", {}),
        ("data/body", "x" * 4_001),
        ("data/color", "red"),
        ("extra", 1),
    ],
)
def test_broken_events_are_not(path: str, to: Any) -> None:
    assert problems("message.posted", changed(json.loads(EVENT), path, to))


def test_every_queue_is_in_the_document_with_its_bindings_and_what_comes_to_it() -> None:
    dead = [queue.dead_letters for queue in topology.QUEUES if queue.dead_letters]
    for queue in [*topology.QUEUES, *dead]:
        amqp = DOCUMENT["channels"][queue.name]["bindings"]["amqp"]
        assert amqp["queue"]["name"] == queue.name
        assert amqp["x-arguments"] == queue.arguments
        assert [(b["exchange"], b["routing_key"]) for b in amqp["x-bindings"]] == [
            (binding.exchange.name, binding.routing_key) for binding in queue.bindings
        ]
    channels = DOCUMENT["channels"]
    posted_edited_deleted = {"message.posted", "message.edited", "message.deleted"}
    assert set(channels["chat.mongo_writer"]["messages"]) == posted_edited_deleted
    assert set(channels["chat.redis_publisher"]["messages"]) == {event.type for event in REAL}
    assert set(channels["chat.redis_publisher.dead"]["messages"]) == {"dead_letter"}


def test_every_consumer_is_an_operation_on_its_queue() -> None:
    for process, queue in topology.CONSUMERS.items():
        operation = DOCUMENT["operations"][process]
        assert operation["action"] == "receive"
        assert operation["channel"] == {"$ref": f"#/channels/{queue.name}"}


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_frames_are_as_described(frame: msgspec.Struct) -> None:
    value = json.loads(msgspec.json.encode(frame))
    assert problems(asyncapi._frame_name(type(frame)), value) == []


def test_frames_with_events_are_as_described() -> None:
    position = Position("ab12", 7)
    event = sent(protocol.encode_event(ROOM, position, EVENT))
    assert problems("frame.event", event) == []
    assert problems("frame.event", changed(event, "event/v", 2))
    entries = [Entry(7, EVENT)]
    subscribed = sent(protocol.encode_subscribed(ROOM, position, entries, recovered=True))
    assert problems("frame.subscribed", subscribed) == []
    assert problems("frame.subscribed", subscribed | {"events": [{}]})


def test_every_frame_is_described_in_the_direction_that_it_goes() -> None:
    operations = DOCUMENT["operations"]
    kinds = {
        "hear_browser": protocol.Incoming.__subclasses__(),
        "answer_browser": protocol.Outgoing.__subclasses__(),
    }
    for operation, frames in kinds.items():
        described = {
            resolve(resolve(ref)["$ref"])["name"]
            for ref in references(operations[operation]["messages"])
        }
        assert described == {frame.__struct_config__.tag for frame in frames}


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "subscribe", "room_id": "lobby"},
        {"type": "subscribe", "room_id": str(uuid.uuid4()), "since": {"epoch": "ab"}},
        {"type": "subscribe", "room_id": str(uuid.uuid4()), "extra": 1},
        {"type": "subscribe"},
    ],
)
def test_broken_frames_are_not(frame: Json) -> None:
    assert problems("frame.subscribe", frame)
    with pytest.raises(protocol.SocketRefused):
        protocol.decode(json.dumps(frame))


def test_close_codes_and_frames_are_in_the_document_and_on_the_page() -> None:
    page = (ROOT / "docs/protocol.md").read_text()
    description = DOCUMENT["channels"]["socket"]["description"]
    for code in Close:
        assert f"- {code.value}: " in description
        assert f"| {code.value} |" in page
    for kind in asyncapi.FROM_BROWSER + asyncapi.TO_BROWSER:
        assert f'{{"type":"{kind.__struct_config__.tag}"' in page
