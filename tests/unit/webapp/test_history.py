from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from bus import events
from webapp.history import selectors
from webapp.history.selectors import ids_in_room, known_ids
from webapp.history.store import open_messages
from webapp.importing import ids

START = datetime(2004, 12, 25, 12, 0, tzinfo=UTC)


def document(room_path, number):
    at = START + timedelta(minutes=number)
    milliseconds = int(at.timestamp() * 1_000)
    message_id = str(ids.message_id(milliseconds, 0, ids.fingerprint(room_path)))
    return {
        "_id": message_id,
        "id": message_id,
        "room_id": room_path.removeprefix("/api/rooms/"),
        "user": {"id": 1, "name": "alice"},
        "body": str(number),
        "at": events.format_time(at),
        "edited_at": None,
        "deleted_at": None,
        "last_event_id": message_id,
    }


@pytest.fixture(params=["mongo_server_of_web", "secantus"])
def messages(request, monkeypatch):
    """The collection that the history reads, on each server."""
    server = request.getfixturevalue(request.param)
    collection = open_messages(server.fresh_database())
    monkeypatch.setattr(selectors, "messages", collection)
    yield collection
    collection.database.client.close()


@pytest.fixture
def stored(messages, room):
    """A room with the messages "0" to "9"."""
    owner, path = room
    documents = [document(path, number) for number in range(10)]
    messages.insert_many(documents)
    return owner, f"{path}/messages", [entry["id"] for entry in documents]


def bodies(answer):
    return [message["body"] for message in answer["messages"]]


def test_only_what_all_its_writers_may_read_is_compressed(stored):
    """The length of anything else would tell one of them what the others wrote (BREACH)."""
    owner, path, _ = stored
    room = path.removesuffix("/messages")
    for _ in range(3):
        owner.send("POST", "/api/rooms", {"name": "A name that makes the list long " * 3})
    encodings = {
        address: owner.send("GET", address, Accept_Encoding="gzip").get("Content-Encoding")
        for address in (path, "/api/rooms", room.removeprefix("/api") + "/")
    }
    assert list(encodings.values()) == ["gzip", None, None]


def test_the_latest_page_is_newest_last(stored):
    owner, path, message_ids = stored
    answer = owner.send("GET", f"{path}?limit=3").json()
    assert (bodies(answer), answer["has_more"]) == (["7", "8", "9"], True)
    assert answer["messages"][0] == {
        "id": message_ids[7],
        "room_id": path.split("/")[3],
        "user": {"id": 1, "name": "alice"},
        "body": "7",
        "at": "2004-12-25T12:07:00.000Z",
        "edited_at": None,
        "deleted_at": None,
    }


def test_pages_before_lead_to_the_first_message(stored):
    owner, path, message_ids = stored
    answer = owner.send("GET", f"{path}?limit=3&before={message_ids[4]}").json()
    assert (bodies(answer), answer["has_more"]) == (["1", "2", "3"], True)
    answer = owner.send("GET", f"{path}?limit=3&before={message_ids[1]}").json()
    assert (bodies(answer), answer["has_more"]) == (["0"], False)


def test_pages_after_lead_to_the_last_message(stored):
    owner, path, message_ids = stored
    answer = owner.send("GET", f"{path}?limit=3&after={message_ids[4]}").json()
    assert (bodies(answer), answer["has_more"]) == (["5", "6", "7"], True)
    answer = owner.send("GET", f"{path}?limit=3&after={message_ids[7]}").json()
    assert (bodies(answer), answer["has_more"]) == (["8", "9"], False)


def longest(room_path, number):
    """The longest message there is, in bytes of UTF-8 or in JSON's escapes."""
    return document(room_path, number) | {"body": "😀" * 4_000}


@pytest.mark.parametrize("direction", ["before", "after"])
def test_pages_end_early_where_the_messages_are_long(messages, room, direction):
    owner, path = room
    documents = [longest(path, number) for number in range(200)]
    messages.insert_many(documents)
    expected = [entry["id"] for entry in documents]
    edge, found, has_more = "ffffffff" if direction == "before" else "00000000", [], True
    edge += "-0000-7000-8000-000000000000"
    while has_more:
        response = owner.send("GET", f"{path}/messages?limit=200&{direction}={edge}")
        assert len(response.content) <= 1024 * 1024 + 100
        page, has_more = response.json().values()
        ids = [message["id"] for message in page]
        edge = ids[0] if direction == "before" else ids[-1]
        found = ids + found if direction == "before" else found + ids
    assert found == expected


def test_a_room_shows_its_own_messages(stored, browser):
    _, path, _ = stored
    bob = browser("bob")
    other = bob.send("POST", "/api/rooms", {"name": "Other"}).json()["id"]
    assert bob.send("GET", f"/api/rooms/{other}/messages").json() == {
        "messages": [],
        "has_more": False,
    }
    assert bob.send("GET", path).status_code == 403


def test_an_edit_that_came_before_its_message_is_not_shown(stored, messages):
    owner, path, _ = stored
    early = document(path.removesuffix("/messages"), 20)
    del early["user"], early["at"]
    messages.insert_one(early)
    assert bodies(owner.send("GET", f"{path}?limit=1").json()) == ["9"]


def test_an_edit_that_came_before_its_message_is_not_known(stored, messages):
    _, path, stored_ids = stored
    early = document(path.removesuffix("/messages"), 20)
    del early["user"], early["at"]
    messages.insert_one(early)
    expected = {uuid.UUID(stored_id) for stored_id in stored_ids}
    assert known_ids([*expected, uuid.UUID(early["id"])]) == expected
    assert set(ids_in_room(uuid.UUID(path.split("/")[3]))) == expected


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=x",
        "limit=1e2",
        "limit=",
        "before=x",
        "after=",
        "before=7f3c0000-0000-4000-8000-000000000001&after=7f3c0000-0000-4000-8000-000000000002",
    ],
)
def test_bad_ranges_are_refused(room, query):
    owner, path = room
    response = owner.send("GET", f"{path}/messages?{query}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_input")


def test_without_mongodb_the_history_is_503(mongo_server_of_web, room):
    owner, path = room
    mongo_server_of_web.kill()
    try:
        response = owner.send("GET", f"{path}/messages")
    finally:
        mongo_server_of_web.start()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"] == "1"
