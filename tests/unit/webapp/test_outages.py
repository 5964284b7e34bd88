"""What is answered when a database fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from django.db import connection

from tests.unit.webapp.conftest import Browser
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
