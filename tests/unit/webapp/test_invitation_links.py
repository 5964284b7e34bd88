from __future__ import annotations

from datetime import timedelta

import pytest

from webapp.invitations.links import MOST_OPEN
from webapp.invitations.models import InvitationLink
from webapp.rooms.models import Membership


def make(browser, path, **wanted):
    return browser.send("POST", f"{path}/invitation-links", wanted)


def use(browser, link):
    return browser.send("POST", f"/api/invitations/{link['token']}/accept")


def listed(browser, path):
    return browser.send("GET", f"{path}/invitation-links").json()["links"]


def error(response):
    return response.status_code, response.json()["error"]["code"]


def test_whoever_has_the_link_comes_in(browser, room, broker):
    owner, path = room
    bob = browser("bob")
    response = make(owner, path, uses=2)
    link = response.json()
    assert response.status_code == 201
    assert link["url"] == f"http://testserver/invitations/{link['token']}/"
    assert bob.send("GET", path).status_code == 403
    target = bob.send("GET", f"/api/invitations/{link['token']}").json()
    assert (target["room"]["name"], target["inviter"]["name"]) == ("Lighthouse", "alice")
    broker.taken()
    assert use(bob, link).json()["role"] == "member"
    (event,) = broker.taken()
    assert (event.type, event.actor.id) == ("member.added", bob.user.id)


def test_it_lets_in_as_often_as_it_says(browser, room):
    owner, path = room
    link = make(owner, path, uses=2).json()
    bob, carol, dora = browser("bob"), browser("carol"), browser("dora")
    for person in (owner, bob, bob, carol):
        assert use(person, link).status_code == 200
    assert error(use(dora, link)) == (404, "not_found")
    assert error(dora.send("GET", f"/api/invitations/{link['token']}")) == (404, "not_found")
    assert listed(owner, path) == []
    assert dora.send("GET", path).status_code == 403


def test_it_ends_by_time_or_revocation(browser, room):
    owner, path = room
    bob = browser("bob")
    late, revoked = make(owner, path, days=1).json(), make(owner, path).json()
    for link in InvitationLink.objects.filter(id=late["id"]):
        link.expires_at -= timedelta(days=1)
        link.save()
    assert [each["id"] for each in listed(owner, path)] == [revoked["id"]]
    for _ in range(2):
        address = f"{path}/invitation-links/{revoked['id']}"
        assert owner.send("DELETE", address).status_code == 204
    for link in (late, revoked, {"token": "x"}, {"token": "x" * 500}):
        assert error(use(bob, link)) == (404, "not_found")
        assert bob.get(f"/invitations/{link['token']}/").status_code == 404


def test_who_was_removed_comes_back_only_by_a_new_invitation(browser, room):
    owner, path = room
    bob = browser("bob")
    link = make(owner, path).json()
    use(bob, link)
    owner.send("DELETE", f"{path}/members/{bob.user.id}")
    assert error(use(bob, link)) == (403, "forbidden")
    assert error(use(bob, make(owner, path).json())) == (403, "forbidden")
    bob.join(owner, path)
    bob.send("DELETE", f"{path}/members/{bob.user.id}")
    assert use(bob, link).status_code == 200, "who left by themselves may come back"


def test_the_token_is_nowhere_but_in_the_answer(room):
    owner, path = room
    token = make(owner, path).json()["token"]
    assert token not in str(listed(owner, path))
    assert token not in str(InvitationLink.objects.values())


def test_the_links_of_who_may_no_longer_invite_end(browser, room):
    owner, path = room
    bob, carol = browser("bob"), browser("carol")
    bob.join(owner, path)
    Membership.objects.filter(user=bob.user).update(role="admin")
    link = make(bob, path).json()
    bob.send("DELETE", f"{path}/members/{bob.user.id}")
    assert error(use(carol, link)) == (404, "not_found")


def test_the_page_asks_before_it_lets_in(browser, room, client):
    owner, path = room
    bob = browser("bob")
    page = f"/invitations/{make(owner, path).json()['token']}/"
    assert client.get(page).headers["Location"].startswith("/accounts/login/?next=")
    assert "Lighthouse" in bob.get(page).content.decode()
    assert bob.send("GET", path).status_code == 403
    assert bob.post(page).headers["Location"] == path.removeprefix("/api") + "/"
    assert bob.send("GET", path).status_code == 200


@pytest.mark.parametrize(
    "wanted",
    [{"days": 0}, {"days": 31}, {"uses": 0}, {"uses": 1001}, {"uses": True}, {"days": "7"}],
)
def test_bad_numbers_are_refused(room, wanted):
    owner, path = room
    assert error(make(owner, path, **wanted)) == (400, "invalid_input")
    assert listed(owner, path) == []


def test_open_links_are_bounded(room):
    owner, path = room
    for _ in range(MOST_OPEN):
        assert make(owner, path).status_code == 201
    assert error(make(owner, path)) == (409, "too_many_links")
    InvitationLink.objects.filter(id=listed(owner, path)[0]["id"]).update(uses_left=0)
    assert make(owner, path).status_code == 201


def test_who_may_make_list_and_revoke_links(browser, room):
    owner, path = room
    bob, mallory = browser("bob"), browser("mallory")
    bob.join(owner, path)
    link = make(owner, path).json()
    for person in (bob, mallory):
        assert make(person, path).status_code == 403
        assert person.send("GET", f"{path}/invitation-links").status_code == 403
        address = f"{path}/invitation-links/{link['id']}"
        assert person.send("DELETE", address).status_code == 403
    assert len(listed(owner, path)) == 1
