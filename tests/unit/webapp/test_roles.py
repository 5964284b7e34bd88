"""Roles, and what they allow: hand-over, renaming, archiving, deleting."""

from __future__ import annotations

import pytest

from webapp.rooms.models import Membership, Room


def error(response):
    return response.status_code, response.json()["error"]["code"]


def give(browser, path, member, role):
    return browser.send("PATCH", f"{path}/members/{member.user.id}", {"role": role})


def roles(browser, path):
    answer = browser.send("GET", f"{path}/members").json()
    return {member["name"]: member["role"] for member in answer["members"]}


@pytest.fixture
def people(browser, room):
    """The owner, an admin, a member, and the room's path."""
    owner, path = room
    admin, member = browser("bob"), browser("carol")
    for guest in (admin, member):
        guest.join(owner, path)
    assert give(owner, path, admin, "admin").status_code == 200
    return owner, admin, member, path


def test_an_owner_hands_the_room_over_and_leaves(people, broker):
    owner, admin, _, path = people
    broker.taken()
    response = give(owner, path, admin, "owner")
    assert response.json() == {"id": admin.user.id, "name": "bob", "role": "owner"}
    (event,) = broker.taken()
    assert (event.type, event.data.user.name, event.data.role) == (
        "member.role_changed",
        "bob",
        "owner",
    )
    assert owner.send("DELETE", f"{path}/members/{owner.user.id}").status_code == 204
    assert roles(admin, path) == {"bob": "owner", "carol": "member"}


def test_the_last_owner_stays(people, broker):
    owner, admin, _, path = people
    broker.taken()
    assert error(give(owner, path, owner, "member")) == (409, "last_owner")
    assert give(owner, path, owner, "owner").status_code == 200
    assert broker.taken() == []
    give(owner, path, admin, "owner")
    assert give(admin, path, owner, "member").status_code == 200
    assert error(admin.send("DELETE", f"{path}/members/{admin.user.id}")) == (409, "last_owner")
    assert roles(owner, path) == {"alice": "member", "bob": "owner", "carol": "member"}


def test_only_owners_change_roles_and_remove_owners(people, browser):
    owner, admin, member, path = people
    for other in (admin, member, browser("mallory")):
        assert error(give(other, path, member, "owner")) == (403, "forbidden")
        assert other.send("DELETE", f"{path}/members/{owner.user.id}").status_code == 403
    give(owner, path, admin, "owner")
    assert owner.send("DELETE", f"{path}/members/{admin.user.id}").status_code == 204


@pytest.mark.parametrize("role", ["king", "", None, 7, [], {}, "Owner"])
def test_a_bad_role_is_refused(people, role):
    owner, _, member, path = people
    assert error(give(owner, path, member, role)) == (400, "invalid_input")
    assert roles(owner, path)["carol"] == "member"


def test_who_is_no_member_gets_no_role(people, browser):
    owner, *_, path = people
    assert error(give(owner, path, browser("mallory"), "admin")) == (404, "not_found")


def test_what_a_demoted_admin_has_offered_ends(people, browser):
    owner, admin, _, path = people
    dora = browser("dora")
    admin.send("POST", f"{path}/invitations", {"email": dora.user.email})
    link = admin.send("POST", f"{path}/invitation-links", {}).json()
    give(owner, path, admin, "member")
    assert dora.send("GET", "/api/invitations").json() == {"invitations": []}
    assert dora.send("POST", f"/api/invitations/{link['token']}/accept").status_code == 404


def test_renaming_and_describing(people, broker):
    owner, admin, member, path = people
    broker.taken()
    changes = {"name": " Light  house ", "description": "Of the\r\nsea \r\n"}
    changed = admin.send("PATCH", path, changes).json()
    assert (changed["name"], changed["description"]) == ("Light house", "Of the\nsea")
    renamed, described = broker.taken()
    assert (renamed.type, renamed.data.name) == ("room.renamed", "Light house")
    assert (described.type, described.data.description) == ("room.described", "Of the\nsea")
    assert owner.send("PATCH", path, {"name": "Light house"}).status_code == 200
    assert broker.taken() == []
    assert error(member.send("PATCH", path, {"name": "Mine"})) == (403, "forbidden")
    assert member.send("GET", path).json()["description"] == "Of the\nsea"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": ""},
        {"name": 7},
        {"description": None},
        {"description": "x" * 501},
        {"description": "a\0b"},
        {"archived": "yes"},
        {"color": "red"},
        {"name": "Good", "archived": 1},
    ],
)
def test_a_bad_change_changes_nothing(people, broker, changes):
    owner, *_, path = people
    broker.taken()
    assert error(owner.send("PATCH", path, changes)) == (400, "invalid_input")
    assert (Room.objects.get().name, broker.taken()) == ("Lighthouse", [])


def test_nothing_new_comes_into_an_archived_room(people, browser, broker):
    owner, admin, member, path = people
    dora = browser("dora")
    owner.send("POST", f"{path}/invitations", {"email": dora.user.email})
    [offer] = dora.send("GET", "/api/invitations").json()["invitations"]
    broker.taken()
    assert error(admin.send("PATCH", path, {"archived": True})) == (403, "forbidden")
    assert owner.send("PATCH", path, {"archived": True}).json()["archived"] is True
    assert [event.type for event in broker.taken()] == ["room.archived"]
    for response in (
        member.send("POST", f"{path}/messages", {"body": "hi"}),
        owner.send("POST", f"{path}/invitations", {"email": "eve@example.org"}),
        owner.send("POST", f"{path}/invitation-links", {}),
        dora.send("POST", f"/api/invitations/{offer['id']}/accept"),
    ):
        assert error(response) == (409, "room_archived")
    assert broker.taken() == []
    assert member.send("GET", path).json()["archived"] is True
    assert owner.send("PATCH", path, {"archived": False}).json()["archived"] is False
    assert member.send("POST", f"{path}/messages", {"body": "hi"}).status_code == 202
    assert [event.type for event in broker.taken()] == ["room.unarchived", "message.posted"]


def test_only_an_owner_deletes_a_room(people, broker):
    owner, admin, member, path = people
    link = owner.send("POST", f"{path}/invitation-links", {}).json()
    owner.send("POST", f"{path}/invitations", {"email": "eve@example.org"})
    broker.taken()
    for other in (admin, member):
        assert error(other.send("DELETE", path)) == (403, "forbidden")
    assert owner.send("DELETE", path).status_code == 204
    assert [event.type for event in broker.taken()] == ["room.deleted"]
    assert not Room.objects.exists()
    assert not Membership.objects.exists()
    for person in (owner, member):
        assert error(person.send("GET", path)) == (404, "not_found")
        assert error(person.send("POST", f"{path}/messages", {"body": "hi"})) == (404, "not_found")
        assert person.send("GET", "/api/rooms").json() == {"rooms": []}
    assert member.send("POST", f"/api/invitations/{link['token']}/accept").status_code == 404
    assert owner.send("DELETE", path).status_code == 404


def test_deleting_a_room_does_not_reset_what_was_invited(people, browser, settings):
    settings.INVITATIONS_PER_DAY = 3
    owner, *_, path = people
    assert owner.send("POST", f"{path}/invitations", {"email": "x@example.org"}).status_code == 202
    owner.send("DELETE", path)
    room_id = owner.send("POST", "/api/rooms", {"name": "more"}).json()["id"]
    response = owner.send("POST", f"/api/rooms/{room_id}/invitations", {"email": "y@example.org"})
    assert error(response) == (429, "too_many_requests")


def test_a_double_click_makes_one_room(browser, broker):
    alice = browser("alice")
    make = {"name": "Kitchen"}
    first, second = (
        alice.send("POST", "/api/rooms", make, idempotency_key="key-1") for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert len(broker.taken()) == 2
    other = alice.send("POST", "/api/rooms", {"name": "Cellar"}, idempotency_key="key-1")
    assert error(other) == (400, "idempotency_key_reused")
    bad = alice.send("POST", "/api/rooms", make, idempotency_key="a b")
    assert error(bad) == (400, "invalid_idempotency_key")
    assert alice.send("POST", "/api/rooms", make, idempotency_key="KEY-1").status_code == 201
    assert browser("bob").send("POST", "/api/rooms", make, idempotency_key="key-1").json()[
        "id"
    ] not in (first.json()["id"],)
    assert Room.objects.count() == 3


def test_a_double_click_on_the_page_makes_one_room(browser):
    alice = browser("alice")
    key = alice.get("/rooms/").context["form"]["key"].value()
    first, second = (alice.post("/rooms/", {"name": "Kitchen", "key": key}) for _ in range(2))
    assert first.headers["Location"] == second.headers["Location"]
    assert Room.objects.count() == 1
    another = alice.post("/rooms/", {"name": "Cellar", "key": key})
    assert another.headers["Location"] != first.headers["Location"], "the page that Back shows"
    assert alice.get("/rooms/").context["form"]["key"].value() != key
