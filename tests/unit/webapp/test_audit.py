"""The audit log: what is noted, by whom and from where, and that nobody changes it."""

from __future__ import annotations

import json
import logging
import re
from datetime import timedelta

import pytest
from django.core import mail as outgoing
from django.test import Client
from django.utils import timezone

from bus.runtime.log_format import JsonFormatter
from tests.unit.webapp.conftest import PASSWORD
from webapp.accounts import services
from webapp.accounts.models import User
from webapp.accounts.sessions import session_name
from webapp.audit.models import AppendOnlyError, AuditEntry
from webapp.audit.services import delete_expired

ADDRESS = "192.0.2.7"
OTHER_PASSWORD = "another horse battery 9"


def log_in(client: Client, password: str = PASSWORD, email: str = "alice@example.org") -> None:
    client.post("/accounts/login/", {"login": email, "password": password})


def noted(action: str) -> AuditEntry:
    """The only entry of this action."""
    return AuditEntry.objects.get(action=action)


@pytest.fixture
def alice(browser) -> User:
    """Has an account, and has logged in nowhere that counts."""
    user = browser("alice").user
    AuditEntry.objects.expire(timezone.now(), 100)
    return user


@pytest.fixture
def client() -> Client:
    return Client(REMOTE_ADDR=ADDRESS)


def test_log_ins_and_log_outs_have_address_and_session(alice, client):
    log_in(client)
    session = session_name(client.session.session_key)
    client.post("/accounts/logout/")
    for action in ("session.began", "session.ended"):
        entry = noted(action)
        assert (entry.actor_id, entry.user_id) == (alice.id, alice.id)
        assert (entry.address, entry.session) == (ADDRESS, session)


def test_a_bad_log_in_names_the_account_and_nothing_that_was_typed(alice, client):
    log_in(client, password="my secret words")
    log_in(client, email="my secret words")
    log_in(client, email="nobody@example.org")
    entries = AuditEntry.objects.filter(action="login.failed").order_by("id")
    assert [(entry.actor_id, entry.user_id) for entry in entries] == [
        (None, alice.id),
        (None, None),
    ]
    assert {entry.address for entry in entries} == {ADDRESS}
    assert {entry.detail for entry in entries} == {""}


def test_registrations_are_noted(transactional_db, client):
    names = ("password1", "password2")
    form = {"email": "bob@example.org", "display_name": "Bob"} | dict.fromkeys(names, PASSWORD)
    client.post("/accounts/register/", form)
    entry = noted("account.registered")
    assert (entry.user_id, entry.address) == (User.objects.get().id, ADDRESS)


def test_a_changed_password_is_noted(alice, client):
    log_in(client)
    names = ("password1", "password2")
    form = {"oldpassword": PASSWORD} | dict.fromkeys(names, OTHER_PASSWORD)
    client.post("/accounts/password/", form)
    assert noted("password.changed").actor_id == alice.id


def test_a_reset_password_is_noted(alice, client, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    client.post("/accounts/password/reset/", {"email": alice.email})
    [path] = re.findall(r"http://[^/]+(/\S+)", outgoing.outbox[0].body)
    form = client.get(path).headers["Location"]
    client.post(form, {"password1": OTHER_PASSWORD, "password2": OTHER_PASSWORD})
    entry = noted("password.reset")
    assert (entry.user_id, entry.actor_id, entry.address) == (alice.id, None, ADDRESS)


def test_what_an_operator_confirms_is_noted(alice):
    services.confirm(alice)
    entry = noted("account.address_confirmed")
    assert (entry.actor_id, entry.user_id, entry.detail) == (None, alice.id, alice.email)
    assert (entry.address, entry.session) == ("", "")


def test_a_session_ended_elsewhere_is_noted(alice, client):
    other = Client()
    log_in(other)
    log_in(client)
    ended = session_name(other.session.session_key)
    client.post("/accounts/sessions/")
    assert ended in AuditEntry.objects.filter(action="session.ended_by_user").values_list(
        "detail", flat=True
    )


def test_rights_are_noted_when_they_change(alice):
    for change in ({"is_active": False}, {"is_staff": True}, {"is_active": True}):
        for name, value in change.items():
            setattr(alice, name, value)
        alice.save()
        alice.save()
    assert list(AuditEntry.objects.values_list("action", "user_id").order_by("id")) == [
        ("account.deactivated", alice.id),
        ("account.staff_granted", alice.id),
        ("account.activated", alice.id),
    ]


def test_memberships_and_invitations_are_noted(browser, room):
    owner, path = room
    guest = browser("bob")
    guest.join(owner, path)
    member = f"{path}/members/{guest.user.id}"
    owner.send("PATCH", member, {"role": "admin"})
    link = guest.send("POST", f"{path}/invitation-links", {}).json()["id"]
    guest.send("DELETE", f"{path}/invitation-links/{link}")
    owner.send("POST", f"{path}/invitations", {"email": "carol@example.org"})
    [open_one] = owner.send("GET", f"{path}/invitations").json()["invitations"]
    owner.send("DELETE", f"{path}/invitations/{open_one['id']}")
    owner.send("DELETE", member)
    for is_public in (True, True, False):
        owner.send("PATCH", path, {"public": is_public})
    owner.send("DELETE", path)
    room_id, alice, bob = path.rpartition("/")[2], owner.user.id, guest.user.id
    entries = AuditEntry.objects.filter(room_id=room_id).order_by("id")
    assert list(entries.values_list("action", "actor_id", "user_id", "detail")) == [
        ("invitation.made", alice, alice, "bob@example.org"),
        ("member.joined", bob, bob, ""),
        ("member.role_changed", alice, bob, "admin"),
        ("invitation_link.made", bob, bob, link),
        ("invitation_link.revoked", bob, bob, link),
        ("invitation.made", alice, alice, "carol@example.org"),
        ("invitation.revoked", alice, alice, "carol@example.org"),
        ("member.removed", alice, bob, ""),
        ("room.made_public", alice, alice, ""),
        ("room.made_private", alice, alice, ""),
        ("room.deleted", alice, alice, ""),
    ]
    assert {entry.address for entry in entries} == {"127.0.0.1"}
    assert {entry.session for entry in entries} == {
        session_name(each.session.session_key) for each in (owner, guest)
    }


def test_what_was_refused_is_not_noted(browser, room):
    _, path = room
    before = AuditEntry.objects.count()
    stranger = browser("mallory")
    assert stranger.send("DELETE", path).status_code == 403
    assert AuditEntry.objects.count() == before + 1, "the stranger's log-in"


def test_each_entry_is_a_json_line_too(alice, client, caplog):
    with caplog.at_level(logging.INFO, "webapp.audit"):
        log_in(client)
    [record] = caplog.records
    line = json.loads(JsonFormatter("web").format(record))
    assert line["audit"] == {
        "action": "session.began",
        "actor_id": alice.id,
        "user_id": alice.id,
        "address": ADDRESS,
        "session": session_name(client.session.session_key),
    }


def test_no_entry_is_changed_or_deleted(alice, client):
    log_in(client)
    [entry] = AuditEntry.objects.all()
    entries = AuditEntry.objects.filter(id=entry.id)
    copy = AuditEntry(id=entry.id, action="session.ended")
    entry.action = "session.ended"
    for attempt in (
        entry.save,
        entry.delete,
        entries.delete,
        lambda: entries.update(action="session.ended"),
        lambda: AuditEntry.objects.bulk_update([entry], ["action"]),
        lambda: AuditEntry.objects.update_or_create({"action": "x"}, id=entry.id),
        lambda: AuditEntry.objects.bulk_create(
            [copy], update_conflicts=True, update_fields=["action"], unique_fields=["id"]
        ),
        lambda: AuditEntry._base_manager.all().delete(),
    ):
        with pytest.raises(AppendOnlyError):
            attempt()
    with pytest.raises(Exception, match="UNIQUE"):
        copy.save()
    assert noted("session.began").user_id == alice.id


def test_old_entries_are_swept(transactional_db, settings):
    settings.AUDIT_DAYS = 30
    now = timezone.now()
    for days in (29, 31, 32, 400):
        AuditEntry.objects.create(action=f"{days} days", at=now - timedelta(days=days))
    assert [delete_expired(2), delete_expired(2)] == [2, 1]
    assert [entry.action for entry in AuditEntry.objects.all()] == ["29 days"]
