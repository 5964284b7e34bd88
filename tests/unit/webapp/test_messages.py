from __future__ import annotations

import time
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from bus.ticket import LIFETIME, KeySet
from bus.topology import MONGO_WRITER
from tests.support.wait import wait_until
from webapp.chat.models import IdempotencyKey

NOTICE_SECONDS = 10.0


def post(browser, path, body, **headers):
    return browser.send("POST", f"{path}/messages", {"body": body}, **headers)


def test_a_message_is_answered_202_and_published(room, broker):
    owner, path = room
    broker.taken()
    response = post(owner, path, "Grüße 👋\n\ttwo lines")
    (event,) = broker.taken()
    assert response.status_code == 202
    assert response.json() == {"id": str(event.id), "room_id": str(event.room_id), "at": event.at}
    assert event.type == "message.posted"
    assert event.data.body == "Grüße 👋\n\ttwo lines"
    assert (event.actor.id, event.actor.name) == (owner.user.id, "alice")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "empty_body"),
        (" \n\t ", "empty_body"),
        ("\u200b\u3164", "empty_body"),
        ("x" * 4001, "body_too_long"),
        ("a\0b", "invalid_characters"),
        (None, "invalid_body"),
        (7, "invalid_body"),
        (["a"], "invalid_body"),
        ({"a": 1}, "invalid_body"),
    ],
)
def test_bad_bodies_are_refused_and_nothing_is_published(room, broker, body, code):
    owner, path = room
    broker.taken()
    response = post(owner, path, body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    assert broker.taken() == []


def test_the_longest_body_is_accepted_however_it_is_escaped(room, broker):
    owner, path = room
    escaped = b'{"body":"' + b"\\ud83d\\ude00" * 4000 + b'"}'
    response = owner.post(f"{path}/messages", escaped, content_type="application/json")
    assert response.status_code == 202
    assert broker.taken()[-1].data.body == "😀" * 4000


@pytest.mark.parametrize(
    "content",
    [
        b" ",
        b"{",
        b"[]",
        b'"text"',
        b'{"body":NaN}',
        b'{"body":"\xff"}',
        b'{"body":"\\ud800"}',
        b'{"body":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_malformed_json_is_refused(room, broker, content):
    owner, path = room
    broker.taken()
    response = owner.post(f"{path}/messages", content, content_type="application/json")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")
    assert broker.taken() == []


def test_a_giant_request_is_refused(room, broker):
    owner, path = room
    broker.taken()
    response = post(owner, path, "x" * 70_000)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
    assert broker.taken() == []


def test_another_content_type_is_refused(room):
    owner, path = room
    response = owner.post(f"{path}/messages", {"body": "hi"})
    assert (response.status_code, response.json()["error"]["code"]) == (
        415,
        "unsupported_media_type",
    )


def test_who_may_not_post(browser, room, broker, client):
    _, path = room
    mallory = browser("mallory")
    broker.taken()
    assert post(mallory, path, "hi").status_code == 403
    assert post(mallory, f"/api/rooms/{uuid.uuid4()}", "hi").status_code == 404
    assert post(mallory, "/api/rooms/nonsense", "hi").status_code == 404
    response = client.post(f"{path}/messages", b'{"body":"hi"}', content_type="application/json")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "not_logged_in")
    assert broker.taken() == []


def test_a_wrong_method_is_refused(room):
    owner, path = room
    response = owner.send("PUT", f"{path}/messages", {"body": "hi"})
    assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_without_a_broker_a_message_is_answered_503(room, broker):
    owner, path = room
    broker.stop()
    response = post(owner, path, "hi", idempotency_key="k1")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"] == "1"

    broker.start()
    broker.taken()
    assert post(owner, path, "hi", idempotency_key="k1").status_code == 202
    assert [event.data.body for event in broker.taken()] == ["hi"]


def test_without_one_of_the_queues_a_message_is_answered_503(room, broker):
    owner, path = room
    broker.unbind(MONGO_WRITER)
    response = wait_until(lambda: refused(post(owner, path, "hi")), NOTICE_SECONDS)
    assert response.json()["error"]["code"] == "unavailable"
    assert response.headers["Retry-After"] == "1"
    broker.taken()
    assert post(owner, path, "still").status_code == 503
    assert broker.taken() == []
    broker.declare()
    assert post(owner, path, "hi").status_code == 202


def refused(response):
    return response if response.status_code == 503 else None


def test_the_same_key_is_the_same_message(room, broker):
    owner, path = room
    broker.taken()
    first = post(owner, path, "hi", idempotency_key="k1")
    again = post(owner, path, "hi", idempotency_key="k1")
    other = post(owner, path, "hi", idempotency_key="k2")
    assert first.json() == again.json()
    assert first.json()["id"] != other.json()["id"]
    published = [str(event.id) for event in broker.taken()]
    assert published == [first.json()["id"], other.json()["id"]], "once confirmed, not again"


def test_a_key_stands_for_one_request(room, browser, broker):
    owner, path = room
    post(owner, path, "hi", idempotency_key="k1")
    broker.taken()
    response = post(owner, path, "something else", idempotency_key="k1")
    assert (response.status_code, response.json()["error"]["code"]) == (
        400,
        "idempotency_key_reused",
    )
    assert broker.taken() == []


def test_keys_that_differ_in_case_are_two(room):
    owner, path = room
    first = post(owner, path, "hi", idempotency_key="key").json()
    assert post(owner, path, "hi", idempotency_key="KEY").json()["id"] != first["id"]


def test_keys_of_others_do_not_matter(room, browser):
    owner, path = room
    bob = browser("bob")
    bob.join(owner, path)
    mine = post(owner, path, "hi", idempotency_key="k1").json()
    assert post(bob, path, "hi", idempotency_key="k1").json()["id"] != mine["id"]


@pytest.mark.parametrize("key", ["", "with blank", "x" * 256, "ключ", "tab\t"])
def test_bad_keys_are_refused(room, key):
    owner, path = room
    response = post(owner, path, "hi", idempotency_key=key)
    assert (response.status_code, response.json()["error"]["code"]) == (
        400,
        "invalid_idempotency_key",
    )


def test_keys_are_forgotten_after_a_day(room):
    owner, path = room
    post(owner, path, "hi", idempotency_key="old")
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(days=1, seconds=1))
    post(owner, path, "hi", idempotency_key="new")
    assert IdempotencyKey.objects.count() == 1


def test_a_key_stands_for_its_message_for_a_day_and_no_longer(room):
    owner, path = room
    first = post(owner, path, "hi", idempotency_key="k1").json()
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=23, minutes=59))
    assert post(owner, path, "hi", idempotency_key="k1").json() == first
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(days=1, seconds=1))
    other = post(owner, path, "something else", idempotency_key="k1")
    assert other.status_code == 202
    assert other.json()["id"] != first["id"]
    assert IdempotencyKey.objects.count() == 1


def test_a_socket_ticket_names_user_and_rooms(room, settings):
    owner, path = room
    before = time.time()
    answer = owner.send("POST", "/api/socket-ticket").json()
    ticket = settings.TICKET_KEYS.verify(answer["ticket"])
    assert isinstance(settings.TICKET_KEYS, KeySet)
    assert (ticket.user_id, ticket.user_name) == (owner.user.id, "alice")
    rooms = [str(room_id) for room_id in ticket.room_ids]
    assert rooms == [answer["channel"], path.removeprefix("/api/rooms/")]
    assert ticket.session != owner.session.session_key
    assert answer["url"] == "ws://testserver:8001/"
    assert answer["expires_in"] == LIFETIME
    assert before + LIFETIME <= ticket.expires_at <= time.time() + LIFETIME


def test_the_bridge_is_where_the_browser_found_the_web(room):
    owner, _ = room
    answer = owner.generic("POST", "/api/socket-ticket", headers={"Host": "chat.example.org:8002"})
    assert answer.json()["url"] == "ws://chat.example.org:8001/"
