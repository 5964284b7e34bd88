from __future__ import annotations

import uuid

import pytest

from bus.ticket import MAX_ROOMS
from webapp.rooms.models import Membership, Room


def members(browser, path):
    answer = browser.send("GET", f"{path}/members").json()
    return {member["name"]: member["role"] for member in answer["members"]}


def member_path(path, browser):
    return f"{path}/members/{browser.user.id}"


def test_creating_a_room_answers_201_and_tells_the_bus(browser, broker):
    alice = browser("alice")
    response = alice.send("POST", "/api/rooms", {"name": "  Lighthouse crew 👩‍🚒 "})
    room = response.json()
    assert response.status_code == 201
    assert (room["name"], room["role"]) == ("Lighthouse crew 👩‍🚒", "owner")
    assert [event.type for event in broker.taken()] == ["room.created", "member.added"]
    assert alice.send("GET", "/api/rooms").json() == {"rooms": [room]}
    assert alice.send("GET", f"/api/rooms/{room['id']}").json() == room


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, 7, None, "a\0b", "a\nb", "a\u2028b", []])
def test_a_bad_name_is_refused_and_makes_nothing(browser, broker, name):
    response = browser("alice").send("POST", "/api/rooms", {"name": name})
    assert response.status_code == 400
    assert "name" in response.json()["error"]["message"]
    assert not Room.objects.exists()
    assert broker.taken() == []


def test_nobody_is_in_more_rooms_than_a_ticket_lists(browser, room):
    owner, path = room
    guest = browser("bob")
    rooms = [Room(name="r", created_by=guest.user) for _ in range(MAX_ROOMS)]
    Room.objects.bulk_create(rooms)
    Membership.objects.bulk_create(Membership(room=room, user=guest.user) for room in rooms)

    response = guest.send("POST", "/api/rooms", {"name": "one more"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "too_many_rooms")
    owner.send("POST", f"{path}/invitations", {"email": guest.user.email})
    [offer] = guest.send("GET", "/api/invitations").json()["invitations"]
    response = guest.send("POST", f"/api/invitations/{offer['id']}/accept")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "too_many_rooms")
    assert members(owner, path) == {"alice": "owner"}
    assert guest.send("GET", "/api/invitations").json()["invitations"], "the offer stays"


def test_only_members_see_a_room(browser, room):
    _, path = room
    stranger = browser("mallory")
    for address in (path, f"{path}/members", f"{path}/messages"):
        assert stranger.send("GET", address).status_code == 403
    unknown = f"/api/rooms/{uuid.uuid4()}"
    for address in (unknown, f"{unknown}/members", f"{unknown}/messages"):
        assert stranger.send("GET", address).status_code == 404


def test_members_come_in_pages(browser, room):
    owner, path = room
    for name in ("bob", "carol"):
        browser(name).join(owner, path)
    first = owner.send("GET", f"{path}/members?limit=2").json()
    rest = owner.send("GET", f"{path}/members?limit=2&after={first['members'][1]['id']}").json()
    assert ([m["name"] for m in first["members"]], first["has_more"]) == (["alice", "bob"], True)
    assert ([m["name"] for m in rest["members"]], rest["has_more"]) == (["carol"], False)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "after=-1", "after=²"])
def test_bad_pages_of_members_are_refused(room, query):
    owner, path = room
    assert owner.send("GET", f"{path}/members?{query}").status_code == 400


def test_the_owner_removes_a_member_and_the_event_is_out_before_the_answer(browser, room, broker):
    owner, path = room
    guest = browser("bob")
    guest.join(owner, path)
    broker.taken()
    assert owner.send("DELETE", member_path(path, guest)).status_code == 204
    (event,) = broker.taken()
    assert (event.type, event.data.user.id) == ("member.removed", guest.user.id)
    assert event.actor.id == owner.user.id
    assert members(owner, path) == {"alice": "owner"}


def test_a_removal_is_answered_only_after_the_confirm_and_can_be_repeated(browser, room, broker):
    owner, path = room
    guest = browser("bob")
    guest.join(owner, path)
    broker.taken()

    broker.stop()
    response = owner.send("DELETE", member_path(path, guest))
    assert response.status_code == 503
    assert response.headers["Retry-After"]

    broker.start()
    assert owner.send("DELETE", member_path(path, guest)).status_code == 204
    assert [event.type for event in broker.taken()] == ["member.removed"]


def test_anybody_may_leave_and_repeat_it_but_not_the_last_owner(browser, room):
    owner, path = room
    guest = browser("bob")
    guest.join(owner, path)
    assert guest.send("DELETE", member_path(path, guest)).status_code == 204
    assert guest.send("DELETE", member_path(path, guest)).status_code == 204
    response = owner.send("DELETE", member_path(path, owner))
    assert (response.status_code, response.json()["error"]["code"]) == (409, "last_owner")
    assert members(owner, path) == {"alice": "owner"}


def test_who_may_not_remove(browser, room, broker):
    owner, path = room
    bob, carol, mallory = (browser(name) for name in ("bob", "carol", "mallory"))
    bob.join(owner, path)
    carol.join(owner, path)
    broker.taken()
    assert bob.send("DELETE", member_path(path, carol)).status_code == 403
    assert mallory.send("DELETE", member_path(path, carol)).status_code == 403
    unknown = f"/api/rooms/{uuid.uuid4()}/members/{bob.user.id}"
    assert bob.send("DELETE", unknown).status_code == 404
    assert len(members(owner, path)) == 3
    assert broker.taken() == []


def test_an_admin_may_remove_members_but_not_an_owner(browser, room):
    owner, path = room
    bob, carol = browser("bob"), browser("carol")
    bob.join(owner, path)
    carol.join(owner, path)
    Membership.objects.filter(user=bob.user).update(role="admin")
    assert bob.send("DELETE", member_path(path, carol)).status_code == 204
    assert bob.send("DELETE", member_path(path, owner)).status_code == 403


def test_an_impossible_user_id_removes_nobody(room):
    owner, path = room
    assert owner.send("DELETE", f"{path}/members/{10**30}").status_code == 204
    assert members(owner, path) == {"alice": "owner"}


def test_the_list_page_makes_rooms(browser):
    alice = browser("alice")
    assert "No rooms yet" in alice.get("/rooms/").content.decode()
    response = alice.post("/rooms/", {"name": "Kitchen"})
    assert response.status_code == 302
    assert "Kitchen" in alice.get(response.headers["Location"]).content.decode()
    response = alice.post("/rooms/", {"name": "x" * 101})
    assert response.status_code == 400
    assert "at most 100" in response.content.decode()


def test_pages_of_rooms_are_for_members(browser, room, client):
    _, path = room
    page = path.removeprefix("/api") + "/"
    assert client.get(page).headers["Location"].startswith("/accounts/login/")
    assert browser("mallory").get(page).status_code == 403
    assert browser("eve").get(f"/rooms/{uuid.uuid4()}/").status_code == 404
    assert client.get("/").headers["Location"] == "/rooms/"


def test_names_are_text_on_every_page(browser):
    alice = browser("alice")
    room = alice.send("POST", "/api/rooms", {"name": "<script>alert(1)</script>"}).json()
    for page in ("/rooms/", f"/rooms/{room['id']}/"):
        assert "<script>alert" not in alice.get(page).content.decode()
