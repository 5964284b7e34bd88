"""What a person's sockets learn on the person's own channel, without a page's reload."""

from __future__ import annotations

import jwt
import pytest
from django.conf import settings

from bus import events
from bus.events import channel_of, is_own_channel
from webapp.outbox import relay
from webapp.outbox.models import OutboxEvent


def of(browser, found):
    """The events on the user's own channel: type and data without the user."""
    own = [event for event in found if event.channel_id == channel_of(browser.user.id)]
    return [(event.type, events.msgspec.to_builtins(event.data)) for event in own]


def sweep():
    """As outbox_relay does when the events are a second old."""
    OutboxEvent.objects.update(created_at="2026-01-01T00:00:00Z")
    relay.sweep()


@pytest.fixture
def bob(browser, room, broker):
    owner, path = room
    bob = browser("bob")
    bob.join(owner, path)
    sweep()
    broker.everything()
    return bob


def test_a_ticket_lists_the_users_own_channel(browser):
    alice = browser("alice")
    room_id = alice.send("POST", "/api/rooms", {"name": "Kitchen"}).json()["id"]
    answer = alice.send("POST", "/api/socket-ticket").json()
    ticket = settings.TICKET_KEYS.verify(answer["ticket"])
    assert list(map(str, ticket.room_ids)) == [answer["channel"], room_id]
    assert ticket.room_ids[0] == channel_of(alice.user.id)
    assert is_own_channel(ticket.room_ids[0])
    assert not is_own_channel(ticket.room_ids[1])
    assert len(jwt.get_unverified_header(answer["ticket"])) > 0


def test_no_room_is_at_the_channels_id(browser):
    alice = browser("alice")
    channel = channel_of(alice.user.id)
    for address in ("", "/messages", "/members"):
        assert alice.send("GET", f"/api/rooms/{channel}{address}").status_code == 404


def test_who_makes_a_room_is_told_on_all_their_sockets(browser, broker):
    alice = browser("alice")
    alice.send("POST", "/api/rooms", {"name": "Kitchen"})
    data = {"user_id": alice.user.id, "room_name": "Kitchen", "role": "owner"}
    assert of(alice, broker.everything()) == [("user.joined", data)]


def test_who_is_invited_is_told(browser, room, broker):
    owner, path = room
    bob = browser("bob")
    broker.everything()
    owner.send("POST", f"{path}/invitations", {"email": bob.user.email})
    sweep()
    (event,) = broker.everything()
    assert (event.type, event.actor.name, event.data.room_name) == (
        "user.invited",
        "alice",
        "Lighthouse",
    )
    assert event.channel_id == channel_of(bob.user.id)
    [offer] = bob.send("GET", "/api/invitations").json()["invitations"]
    assert str(event.data.invitation_id) == offer["id"]


def test_who_has_not_confirmed_the_address_is_not_told(browser, room, broker):
    owner, path = room
    mallory = browser("boss")
    mallory.user.emailaddress_set.update(verified=False)
    broker.everything()
    owner.send("POST", f"{path}/invitations", {"email": mallory.user.email})
    sweep()
    assert of(mallory, broker.everything()) == []


def test_joining_a_new_role_and_a_removal_are_told(browser, room, bob, broker):
    owner, path = room
    member = f"{path}/members/{bob.user.id}"
    owner.send("PATCH", member, {"role": "admin"})
    owner.send("DELETE", member)
    found = broker.everything()
    user = {"user_id": bob.user.id}
    assert of(bob, found) == [("user.role_changed", user | {"role": "admin"}), ("user.left", user)]
    assert of(owner, found) == []
    assert [event.type for event in found if event.channel_id == event.room_id] == [
        "member.role_changed",
        "member.removed",
    ]
    bob.join(owner, path)
    joined = user | {"room_name": "Lighthouse", "role": "member"}
    assert of(bob, broker.everything())[-1] == ("user.joined", joined)


def test_every_member_is_told_that_the_room_is_gone(room, bob, broker):
    owner, path = room
    owner.send("DELETE", path)
    sweep()
    found = broker.everything()
    for person in (owner, bob):
        assert of(person, found) == [("user.left", {"user_id": person.user.id})]


def test_without_a_broker_it_waits(browser, broker):
    alice = browser("alice")
    broker.stop()
    alice.send("POST", "/api/rooms", {"name": "Kitchen"})
    assert OutboxEvent.objects.count() == 3
    broker.start()
    sweep()
    assert [event.type for event in broker.everything()] == [
        "room.created",
        "member.added",
        "user.joined",
    ]
