from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext

from webapp.accounts.models import User
from webapp.invitations.models import LIFE, Invitation
from webapp.rooms.models import Membership


def invite(browser, path, email):
    return browser.send("POST", f"{path}/invitations", {"email": email})


def offers(browser):
    answer = browser.send("GET", "/api/invitations")
    assert answer.status_code == 200
    return answer.json()["invitations"]


def pending(browser, path):
    answer = browser.send("GET", f"{path}/invitations")
    assert answer.status_code == 200
    return answer.json()["invitations"]


def accept(browser, offer):
    return browser.send("POST", f"/api/invitations/{offer['id']}/accept")


def decline(browser, offer):
    return browser.send("POST", f"/api/invitations/{offer['id']}/decline")


def error(response):
    return response.status_code, response.json()["error"]["code"]


def move(browser, email):
    """The user has another confirmed address."""
    User.objects.filter(id=browser.user.id).update(email=email)
    browser.user.emailaddress_set.update(email=email)


def pass_time(span):
    for invitation in Invitation.objects.all():
        invitation.created_at -= span
        invitation.expires_at -= span
        invitation.save()


def test_an_invited_person_accepts(browser, room, broker):
    owner, path = room
    bob = browser("bob")
    broker.taken()
    assert invite(owner, path, "  BOB@Example.ORG ").status_code == 202
    assert broker.taken() == []
    assert bob.send("GET", path).status_code == 403

    [offer] = offers(bob)
    assert offer["room"] == {"id": path.rpartition("/")[2], "name": "Lighthouse"}
    assert offer["inviter"] == {"id": owner.user.id, "name": "alice"}
    response = accept(bob, offer)
    assert (response.status_code, response.json()["role"]) == (200, "member")
    (event,) = broker.taken()
    assert (event.type, event.data.user.name, event.data.role) == ("member.added", "bob", "member")
    assert event.actor.id == bob.user.id
    assert bob.send("GET", path).json()["role"] == "member"
    assert offers(bob) == pending(owner, path) == []
    assert error(accept(bob, offer)) == (404, "not_found")


def test_who_declines_stays_outside(browser, room, broker):
    owner, path = room
    bob = browser("bob")
    invite(owner, path, bob.user.email)
    broker.taken()
    [offer] = offers(bob)
    assert decline(bob, offer).status_code == 204
    assert error(accept(bob, offer)) == (404, "not_found")
    assert (offers(bob), broker.taken()) == ([], [])
    assert bob.send("GET", path).status_code == 403


def test_an_offer_is_for_its_address_alone(browser, room):
    owner, path = room
    bob, eve = browser("bob"), browser("eve")
    invite(owner, path, bob.user.email)
    [offer] = offers(bob)
    assert offers(eve) == []
    assert error(accept(eve, offer)) == error(decline(eve, offer)) == (404, "not_found")
    assert offers(bob) == [offer]


def test_nothing_tells_who_has_an_account(browser, room):
    """Not the answer, not the list, not the mail, and not the work that it takes."""
    owner, path = room
    browser("bob")
    answers, queries = [], []
    for email in ("bob@example.org", "nobody@example.org"):
        with CaptureQueriesContext(
            connection,
        ) as captured:
            answers.append(invite(owner, path, email))
        queries.append([query["sql"].split("WHERE")[0][:80] for query in captured])
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json() == {"status": "invited"}
    assert queries[0] == queries[1]
    assert {each["email"] for each in pending(owner, path)} == {
        "bob@example.org",
        "nobody@example.org",
    }
    assert [message.to for message in mail.outbox] == [["bob@example.org"], ["nobody@example.org"]]


def test_an_address_without_an_account_is_kept_until_there_is_one(browser, room):
    owner, path = room
    invite(owner, path, "carol@example.org")
    carol = browser("carol")
    [offer] = offers(carol)
    assert accept(carol, offer).status_code == 200


def test_who_registered_the_address_of_another_sees_nothing(browser, room):
    owner, path = room
    invite(owner, path, "boss@example.org")
    mallory = browser("boss")
    mallory.user.emailaddress_set.update(verified=False)
    invitation = {"id": Invitation.objects.get().id}
    assert offers(mallory) == []
    assert error(accept(mallory, invitation)) == error(decline(mallory, invitation))
    assert error(accept(mallory, invitation)) == (404, "not_found")
    assert mallory.send("GET", path).status_code == 403


def test_the_mail_leads_to_the_page(browser, room):
    owner, path = room
    bob = browser("bob")
    invite(owner, path, bob.user.email)
    [message] = mail.outbox
    assert message.subject == "alice invites you to “Lighthouse”"
    assert "http://testserver/invitations/" in message.body
    page = bob.get("/invitations/").content.decode()
    assert "Lighthouse" in page
    assert "Lighthouse" in bob.get("/rooms/").content.decode()


def test_the_pages_buttons(browser, room):
    owner, path = room
    bob, carol, eve = browser("bob"), browser("carol"), browser("eve")
    for guest in (bob, carol):
        invite(owner, path, guest.user.email)
    [first], [second] = offers(bob), offers(carol)
    assert eve.post(f"/invitations/{first['id']}/accept/").status_code == 404
    response = bob.post(f"/invitations/{first['id']}/accept/")
    assert response.headers["Location"] == path.removeprefix("/api") + "/"
    assert carol.post(f"/invitations/{second['id']}/decline/").status_code == 302
    assert {member.user.display_name for member in Membership.objects.all()} == {"alice", "bob"}


def test_an_invitation_reaches_no_other_domain(browser, room):
    """In IDNA 2003 an ß became ss; they have been two domains since IDNA 2008."""
    owner, path = room
    bob = browser("bob")
    move(bob, "bob@strasse.example")
    assert invite(owner, path, "bob@straße.example").status_code == 202
    assert offers(bob) == []
    assert invite(owner, path, "bob@strasse.example").status_code == 202
    assert len(offers(bob)) == 1


def test_inviting_again_changes_nothing_and_mails_nothing(browser, room):
    owner, path = room
    bob = browser("bob")
    for _ in range(2):
        assert invite(owner, path, bob.user.email).status_code == 202
    assert len(offers(bob)) == len(mail.outbox) == 1


def test_a_member_is_offered_nothing(browser, room, broker):
    owner, path = room
    bob = browser("bob")
    bob.join(owner, path)
    broker.taken()
    assert invite(owner, path, bob.user.email).status_code == 202
    assert (offers(bob), broker.taken()) == ([], [])


def test_what_is_withdrawn_or_expired_cannot_be_accepted(browser, room):
    owner, path = room
    bob = browser("bob")
    for end in (
        lambda offer: owner.send("DELETE", f"{path}/invitations/{offer['id']}").status_code == 204,
        lambda offer: pass_time(LIFE) is None,
    ):
        invite(owner, path, bob.user.email)
        [offer] = offers(bob)
        assert end(offer)
        assert error(accept(bob, offer)) == error(decline(bob, offer)) == (404, "not_found")
        assert offers(bob) == pending(owner, path) == []


def test_withdrawing_can_be_repeated_and_concerns_one_room(browser, room):
    owner, path = room
    bob = browser("bob")
    invite(owner, path, bob.user.email)
    [offer] = offers(bob)
    other = owner.send("POST", "/api/rooms", {"name": "Cellar"}).json()["id"]
    address = f"/api/rooms/{other}/invitations/{offer['id']}"
    assert owner.send("DELETE", address).status_code == 204
    assert offers(bob) == [offer]
    for _ in range(2):
        assert owner.send("DELETE", f"{path}/invitations/{offer['id']}").status_code == 204


def test_who_was_removed_does_not_come_back_by_an_old_offer(browser, room):
    owner, path = room
    bob = browser("bob")
    bob.join(owner, path)
    invite(owner, path, bob.user.email)
    offer = {"id": Invitation.objects.get(ended_at=None).id}
    assert owner.send("DELETE", f"{path}/members/{bob.user.id}").status_code == 204
    assert error(accept(bob, offer)) == (404, "not_found")
    assert offers(bob) == []


def test_what_a_removed_admin_has_offered_ends(browser, room):
    owner, path = room
    bob, carol = browser("bob"), browser("carol")
    bob.join(owner, path)
    Membership.objects.filter(user=bob.user).update(role="admin")
    invite(bob, path, carol.user.email)
    owner.send("DELETE", f"{path}/members/{bob.user.id}")
    assert offers(carol) == pending(owner, path) == []


@pytest.mark.parametrize(
    ("setting", "inviters"), [("INVITATIONS_PER_DAY", 1), ("INVITATIONS_PER_ADDRESS", 2)]
)
def test_invitations_are_bounded(browser, room, settings, setting, inviters):
    """Also of what was declined or withdrawn: each was a mail."""
    setattr(settings, setting, 2)
    owner, path = room
    bob = browser("bob")
    others = [browser("carol")] * (inviters - 1) or [owner]
    for inviter in (owner, others[0]):
        room_id = inviter.send("POST", "/api/rooms", {"name": "more"}).json()["id"]
        assert invite(inviter, f"/api/rooms/{room_id}", bob.user.email).status_code == 202
        [offer] = offers(bob)
        decline(bob, offer)
    response = invite(owner, path, bob.user.email)
    assert error(response) == (429, "too_many_requests")
    assert "2 times" in response.json()["error"]["message"]
    assert response.headers["Retry-After"]
    assert (offers(bob), len(mail.outbox)) == ([], 2)
    pass_time(timedelta(days=1))
    assert invite(owner, path, bob.user.email).status_code == 202


@pytest.mark.parametrize("email", ["", "bob", "a@b", "a b@example.org", None, 7, {}, "bob@x.org\0"])
def test_what_is_no_address_is_refused(room, broker, email):
    owner, path = room
    broker.taken()
    assert error(invite(owner, path, email)) == (400, "invalid_email")
    assert (pending(owner, path), broker.taken(), mail.outbox) == ([], [], [])


def test_a_name_is_text_in_the_mail(browser, room):
    owner, path = room
    User.objects.filter(id=owner.user.id).update(display_name="{email} <b>%s")
    assert invite(owner, path, "bob@example.org").status_code == 202
    assert mail.outbox[0].body.startswith("{email} <b>%s invites you")


def test_who_may_invite_list_and_withdraw(browser, room):
    owner, path = room
    bob, mallory = browser("bob"), browser("mallory")
    bob.join(owner, path)
    invite(owner, path, "carol@example.org")
    [offer] = pending(owner, path)
    for browser_ in (bob, mallory):
        assert invite(browser_, path, "mallory@example.org").status_code == 403
        assert browser_.send("GET", f"{path}/invitations").status_code == 403
        address = f"{path}/invitations/{offer['id']}"
        assert browser_.send("DELETE", address).status_code == 403
    assert pending(owner, path) == [offer]
    unknown = f"/api/rooms/{uuid.uuid4()}"
    assert invite(owner, unknown, "bob@example.org").status_code == 404
    assert owner.send("GET", f"{unknown}/invitations").status_code == 404
    Membership.objects.filter(user=bob.user).update(role="admin")
    assert invite(bob, path, "mallory@example.org").status_code == 202
    assert len(pending(bob, path)) == 2
