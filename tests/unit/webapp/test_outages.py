"""What is answered, and what is tried again, when a database fails."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable

import pytest
from django.db import OperationalError, connection, transaction
from django.urls.resolvers import RoutePattern

from tests.unit.webapp.conftest import Browser
from webapp.project.transactions import TRIES, atomic
from webapp.rooms.models import Room

Switch = Callable[[bool], None]


def test_what_cannot_be_stored_is_a_503_in_the_form_of_its_address(
    room: tuple[Browser, str], set_read_only: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    owner, path = room
    set_read_only(True)
    with caplog.at_level(logging.WARNING):
        answer = owner.send("POST", "/api/rooms", {"name": "Cellar"})
        page = owner.post("/rooms/", {"name": "Cellar"})
    key = {"Idempotency_Key": "key"}
    message = owner.send("POST", f"{path}/messages", {"body": "hi"}, **key)
    for response in (answer, page, message):
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["code"] == "unavailable"
    assert "Try again" in page.content.decode()
    assert [room.name for room in Room.objects.all()] == ["Lighthouse"]
    routes = ("api/rooms", "rooms/", "api/rooms/<uuid:room_id>/messages")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"POST /{route}: attempt to write a readonly database") for route in routes
    ]


def test_no_call_that_changes_something_is_answered_as_done_when_nothing_is_stored(
    room: tuple[Browser, str], set_read_only: Switch
) -> None:
    owner, path = room
    with_all_fields = {
        "name": "Cellar",
        "description": "cold",
        "archived": True,
        "body": "hi",
        "email": "bob@example.org",
        "role": "member",
        "days": 1,
    }
    set_read_only(True)
    answers = {
        (method, pattern): owner.send(method, filled(pattern, owner, path), with_all_fields)
        for pattern in api_patterns()
        for method in ("POST", "PATCH", "PUT", "DELETE")
    }
    statuses = {call: answer.status_code for call, answer in answers.items()}
    refused = {call for call, status in statuses.items() if status == 503}
    assert {
        ("POST", "rooms"),
        ("PATCH", "rooms/<uuid:room_id>"),
        ("DELETE", "rooms/<uuid:room_id>"),
        ("POST", "rooms/<uuid:room_id>/invitations"),
    } <= refused
    done = {call for call, status in statuses.items() if status < 400}
    # Without a key a message is stored by the broker alone.
    assert done == {("POST", "rooms/<uuid:room_id>/messages")}
    assert 500 not in statuses.values()


def api_patterns() -> list[str]:
    from webapp.project.urls import api

    return [str(each.pattern) for each in api if isinstance(each.pattern, RoutePattern)]


def filled(pattern: str, owner: Browser, path: str) -> str:
    """A URL with that pattern in the room of ``owner`` at ``path``."""
    url = pattern.replace("rooms/<uuid:room_id>", path.removeprefix("/api/"))
    url = re.sub(r"<int:\w+>", str(owner.user.id), url)
    return "/api/" + re.sub(r"<\w+:\w+>", str(uuid.uuid4()), url)


def test_a_table_that_is_missing_is_no_outage(room: tuple[Browser, str]) -> None:
    owner, path = room
    owner.raise_request_exception = False
    rename = "ALTER TABLE {} RENAME TO {}".format
    with connection.cursor() as cursor:
        cursor.execute(rename("rooms_membership", "elsewhere"))
        try:
            response = owner.send("GET", path)
        finally:
            cursor.execute(rename("elsewhere", "rooms_membership"))
    assert (response.status_code, response.json()["error"]["code"]) == (500, "error")


def deadlock() -> OperationalError:
    return OperationalError(1213, "Deadlock found when trying to get lock")


def test_a_transaction_is_tried_again_a_bounded_number_of_times(transactional_db: None) -> None:
    calls = []

    @atomic
    def fail() -> None:
        calls.append(1)
        raise deadlock()

    with pytest.raises(OperationalError):
        fail()
    assert len(calls) == TRIES

    with transaction.atomic(), pytest.raises(OperationalError):
        fail()
    assert len(calls) == TRIES + 1  # the outer one is to be repeated as a whole


def test_what_was_committed_is_never_done_again(transactional_db: None) -> None:
    calls = []

    def fail() -> None:
        raise deadlock()

    @atomic
    def succeed() -> None:
        calls.append(1)
        transaction.on_commit(fail)

    with pytest.raises(OperationalError):
        succeed()
    assert len(calls) == 1
