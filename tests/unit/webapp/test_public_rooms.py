from __future__ import annotations

import uuid

import pytest


def error(response):
    return response.status_code, response.json()["error"]["code"]


def found(browser, query=""):
    answer = browser.send("GET", f"/api/public-rooms?{query}").json()
    return [room["name"] for room in answer["rooms"]], answer["has_more"]


@pytest.fixture
def public(room):
    owner, path = room
    assert owner.send("PATCH", path, {"public": True}).json()["public"] is True
    return owner, path


def test_a_public_room_is_found_and_joined(browser, public, broker):
    _, path = public
    bob = browser("bob")
    assert found(bob) == (["Lighthouse"], False)
    assert bob.send("GET", f"{path}/members").status_code == 403
    broker.taken()
    answer = bob.send("POST", f"{path}/join")
    assert (answer.status_code, answer.json()["role"]) == (200, "member")
    (event,) = broker.taken()
    assert (event.type, event.actor.name) == ("member.added", "bob")
    assert bob.send("POST", f"{path}/join").status_code == 200
    assert broker.taken() == []


def test_a_room_is_private_until_its_owner_opens_it(browser, room, broker):
    owner, path = room
    bob, carol = browser("bob"), browser("carol")
    assert found(bob) == ([], False)
    assert error(bob.send("POST", f"{path}/join")) == (403, "forbidden")
    bob.join(owner, path)
    owner.send("PATCH", f"{path}/members/{bob.user.id}", {"role": "admin"})
    broker.taken()
    assert error(bob.send("PATCH", path, {"public": True})) == (403, "forbidden")
    assert error(owner.send("PATCH", path, {"public": "yes"})) == (400, "invalid_input")
    for public in (True, True, False):
        owner.send("PATCH", path, {"public": public})
    assert [(event.type, event.data.public) for event in broker.taken()] == [
        ("room.visibility_changed", True),
        ("room.visibility_changed", False),
    ]
    assert error(carol.send("POST", f"{path}/join")) == (403, "forbidden")


def test_who_was_removed_does_not_come_back_by_the_public_door(browser, public):
    owner, path = public
    bob = browser("bob")
    bob.send("POST", f"{path}/join")
    owner.send("DELETE", f"{path}/members/{bob.user.id}")
    assert error(bob.send("POST", f"{path}/join")) == (403, "forbidden")


def test_an_archived_room_is_neither_found_nor_joined(browser, public):
    owner, path = public
    owner.send("PATCH", path, {"archived": True})
    bob = browser("bob")
    assert found(bob) == ([], False)
    assert error(bob.send("POST", f"{path}/join")) == (409, "room_archived")
    assert error(bob.send("POST", f"/api/rooms/{uuid.uuid4()}/join")) == (404, "not_found")


def test_they_come_in_pages_and_by_a_part_of_their_names(browser, public):
    owner, _ = public
    for name in ("Kitchen", "Light Kitchen"):
        room_id = owner.send("POST", "/api/rooms", {"name": name}).json()["id"]
        owner.send("PATCH", f"/api/rooms/{room_id}", {"public": True})
    assert sorted(found(owner, "query=kitchen")[0]) == ["Kitchen", "Light Kitchen"]
    first = owner.send("GET", "/api/public-rooms?limit=2").json()
    rest = owner.send("GET", f"/api/public-rooms?limit=2&after={first['rooms'][1]['id']}").json()
    assert (len(first["rooms"]), first["has_more"]) == (2, True)
    assert (len(rest["rooms"]), rest["has_more"]) == (1, False)
    assert error(owner.send("GET", "/api/public-rooms?limit=0")) == (400, "invalid_input")
    assert error(owner.send("GET", "/api/public-rooms?after=x")) == (400, "invalid_input")
