from __future__ import annotations

import uuid

import pytest

from webapp.rooms.models import Membership


def invite(browser, path, email):
    return browser.send("POST", f"{path}/invitations", {"email": email})


def test_the_answer_does_not_tell_who_has_an_account(browser, room):
    owner, path = room
    browser("bob")
    known = invite(owner, path, "bob@example.org")
    unknown = invite(owner, path, "nobody@example.org")
    assert known.status_code == unknown.status_code == 202
    assert known.json() == unknown.json() == {"status": "invited"}


def test_somebody_with_an_account_is_a_member_at_once(browser, room, broker):
    owner, path = room
    bob = browser("bob")
    broker.taken()
    invite(owner, path, "  BOB@Example.ORG ")
    (event,) = broker.taken()
    assert (event.type, event.data.user.name, event.data.role) == ("member.added", "bob", "member")
    assert bob.send("GET", path).json()["role"] == "member"


def test_an_invitation_reaches_no_other_domain(browser, room):
    """In IDNA 2003 an ß became ss; they have been two domains since IDNA 2008."""
    owner, path = room
    bob = browser("bob")
    type(bob.user).objects.filter(id=bob.user.id).update(email="bob@strasse.example")
    assert invite(owner, path, "bob@straße.example").status_code == 202
    assert bob.send("GET", path).status_code == 403
    assert invite(owner, path, "bob@strasse.example").status_code == 202
    assert bob.send("GET", path).status_code == 200


def test_inviting_a_member_again_changes_nothing(browser, room, broker):
    owner, path = room
    browser("bob")
    invite(owner, path, "bob@example.org")
    broker.taken()
    assert invite(owner, path, "bob@example.org").status_code == 202
    assert invite(owner, path, "alice@example.org").status_code == 202
    assert broker.taken() == []
    assert Membership.objects.count() == 2


@pytest.mark.parametrize("email", ["", "bob", "a@b", "a b@example.org", None, 7, {}, "bob@x.org\0"])
def test_what_is_no_address_is_refused(room, broker, email):
    owner, path = room
    broker.taken()
    response = invite(owner, path, email)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_email")
    assert broker.taken() == []


def test_who_may_invite(browser, room):
    owner, path = room
    bob, mallory = browser("bob"), browser("mallory")
    invite(owner, path, "bob@example.org")
    assert invite(bob, path, "mallory@example.org").status_code == 403
    assert invite(mallory, path, "mallory@example.org").status_code == 403
    assert invite(owner, f"/api/rooms/{uuid.uuid4()}", "bob@example.org").status_code == 404
    Membership.objects.filter(user=bob.user).update(role="admin")
    assert invite(bob, path, "mallory@example.org").status_code == 202
    assert mallory.send("GET", path).status_code == 200
