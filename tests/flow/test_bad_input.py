"""What must be refused, is: with the right status, a JSON error, and without a trace on the bus."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from bus import events
from bus.message import Delivery, Message
from bus.publishing import Publisher
from bus.topology import MONGO_WRITER
from bus.transport import subscribe
from tests.support.events import posted
from tests.support.person import Person
from tests.support.stack import Stack
from tests.support.wait import patience, wait_until

GIANT = b'{"body":"' + b"x" * 2 * 1024 * 1024 + b'"}'


@dataclass
class Room:
    """A room on one site, its owner, and the log and history that must not change."""

    backend: Stack
    owner: Person
    stranger: Person
    nobody: Person
    id: str

    @property
    def messages(self) -> str:
        return f"rooms/{self.id}/messages"

    def offset(self) -> int:
        with self.owner.open_socket() as socket:
            offset: int = socket.subscribe(self.id)["offset"]
            return offset

    def ids(self) -> list[str]:
        return [message["id"] for message in self.owner.history(self.id)]


@pytest.fixture(scope="module")
def room(backend: Stack, site: str) -> Room:
    owner, stranger = (Person.registered(site, name) for name in ("alice", "mallory"))
    nobody = Person(site, "nobody")
    return Room(backend, owner, stranger, nobody, owner.make_room("garden"))


@pytest.fixture(autouse=True)
def nothing_is_published(room: Room) -> Iterator[None]:
    """A message posted afterwards is the only new one, in the history and in the room's log.

    Each is written in the order of the posts, so what came before it would be there too.
    """
    ids, offset, log = room.ids(), room.offset(), len(room.backend.output)
    yield
    last = room.owner.post(room.id, "a good one")
    wait_until(lambda: room.ids()[-1:] == [last], what="the history has the good message")
    assert room.ids() == [*ids, last]
    wait_until(lambda: room.offset() > offset, what="the log has the good message")
    assert room.offset() == offset + 1
    assert "Traceback" not in room.backend.output[log:]


def refused(answer: requests.Response, status: int, code: str) -> None:
    """The answer is this error, in the one form that all errors of the API have."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    error = answer.json()["error"]
    assert (error["code"], error.keys()) == (code, {"code", "message"})
    assert error["message"]


def send(room: Room, content: bytes, content_type: str = "application/json") -> requests.Response:
    """Posts bytes to the room, on a connection of their own: after a body that it did not read,
    the web server ends the connection."""
    person = room.owner
    token = person.session.cookies["csrftoken"]
    return person.session.post(
        f"{person.site}/api/{room.messages}",
        data=content,
        headers={"Content-Type": content_type, "X-CSRFToken": token, "Connection": "close"},
        timeout=patience(60),
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "empty_body"),
        (" \n\t ", "empty_body"),
        ("\u200b\u3164", "empty_body"),
        ("x" * 4_001, "body_too_long"),
        ("a\0b", "invalid_characters"),
        (None, "invalid_body"),
        (7, "invalid_body"),
        (["text"], "invalid_body"),
        ({"text": "text"}, "invalid_body"),
    ],
    ids=["empty", "blank", "invisible", "long", "NUL", "null", "number", "list", "object"],
)
def test_a_body_that_is_no_message(room: Room, body: object, code: str) -> None:
    refused(send(room, json.dumps({"body": body}).encode()), 400, code)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"body":"\\ud800"}', b'{"body":"\\udc00x"}', b'{"body":"\xff"}'],
    ids=["nothing", "half", "list", "high-surrogate", "low-surrogate", "no-UTF-8"],
)
def test_malformed_json(room: Room, content: bytes) -> None:
    refused(send(room, content), 400, "invalid_json")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type(room: Room, content_type: str) -> None:
    refused(send(room, b'{"body":"text"}', content_type), 415, "unsupported_media_type")


def test_a_large_request(room: Room) -> None:
    refused(send(room, json.dumps({"body": "x" * 70_000}).encode()), 413, "too_large")


def test_a_giant_request(room: Room) -> None:
    """Web and gateway read no more than a mebibyte, whatever the application takes."""
    refused(send(room, GIANT), 413, "body_too_large")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_wrong_method(room: Room, method: str) -> None:
    answer = room.owner.api(method, room.messages, {"body": "text"})
    refused(answer, 405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_a_missing_or_wrong_csrf_token(room: Room) -> None:
    for token in ("", "x" * 64):
        answer = room.owner.api("POST", room.messages, {"body": "text"}, **{"X-CSRFToken": token})
        refused(answer, 403, "csrf_failed")


def test_somebody_who_is_not_logged_in(room: Room) -> None:
    refused(room.nobody.api("POST", room.messages, {"body": "text"}), 401, "not_logged_in")
    refused(room.nobody.api("GET", room.messages), 401, "not_logged_in")


def test_a_foreign_room(room: Room) -> None:
    refused(room.stranger.api("POST", room.messages, {"body": "text"}), 403, "forbidden")
    refused(room.stranger.api("GET", room.messages), 403, "forbidden")
    with room.stranger.open_socket() as socket:
        socket.send(type="subscribe", room_id=room.id)
        assert socket.next("error")["code"] == "forbidden"


@pytest.mark.parametrize(
    "room_id", ["7f3c0000-0000-4000-8000-000000000001", "nonsense", "%00", "..%2f"]
)
def test_an_unknown_room(room: Room, room_id: str) -> None:
    answer = room.owner.api("POST", f"rooms/{room_id}/messages", {"body": "text"})
    refused(answer, 404, "not_found")


def test_a_forged_host(room: Room) -> None:
    answer = room.owner.api("POST", room.messages, {"body": "text"}, Host="evil.example")
    refused(answer, 400, "bad_host")


MALFORMED = {
    "no JSON": b"\xff{",
    "no event": b"{}",
    "unknown type": events.encode(posted()).replace(b"message.posted", b"message.sung"),
    "unknown version": events.encode(posted()).replace(b'"v":1', b'"v":2'),
    "unknown field": events.encode(posted()).replace(b'"v":1', b'"v":1,"w":1'),
}


def test_malformed_events_are_dead_letters_and_the_batch_goes_on(room: Room) -> None:
    elsewhere = room.owner.make_room("elsewhere")
    good = [posted(f"good {number}", uuid.UUID(elsewhere)) for number in range(2)]
    bad = [_on_the_queue(body) for body in MALFORMED.values()]
    broker = room.backend.settings()["BROKER_URL"]
    publisher = Publisher(broker, [MONGO_WRITER])
    publisher.publish(events.to_message(good[0]), *bad, events.to_message(good[1]))
    publisher.close()

    wait_until(lambda: len(room.owner.history(elsewhere)) == len(good), what="the good events")
    assert [message["id"] for message in room.owner.history(elsewhere)] == [
        str(event.id) for event in good
    ]
    letters = _dead_letters(broker, {message.message_id for message in bad})
    for message in bad:
        letter = letters[message.message_id]
        assert letter.body == message.body
        assert letter.headers["x-reason"] == "invalid_event"
        assert letter.headers["x-exception"].startswith("InvalidEvent: ")


def _on_the_queue(body: bytes) -> Message:
    """A message that goes past the exchange, straight to the queue of mongo_writer."""
    return Message(
        exchange="",
        routing_key=MONGO_WRITER.name,
        body=body,
        message_id=str(events.new_id()),
        type="message.posted",
    )


def _dead_letters(broker: str, wanted: set[str]) -> dict[str, Delivery]:
    """Takes letters off the dead-letter queue until all those ``wanted`` are there."""
    assert MONGO_WRITER.dead_letters
    source = subscribe(broker, MONGO_WRITER.dead_letters, prefetch=100)
    letters: dict[str, Delivery] = {}

    def all_there() -> bool:
        deliveries = source.receive(100, 0.1)
        source.ack(deliveries)
        letters.update({letter.message_id or "": letter for letter in deliveries})
        return wanted <= letters.keys()

    try:
        wait_until(all_there, what="the dead letters")
    finally:
        source.close()
    return letters
