"""Confirming an address, resetting a password, changing both, where there is a mail server."""

from __future__ import annotations

import re
from collections.abc import Callable
from unittest import mock

import pytest
from allauth.account.models import EmailAddress
from django.conf import LazySettings
from django.contrib.auth import hashers
from django.core.mail import EmailMessage
from django.test import Client

from tests.unit.webapp.conftest import PASSWORD, Browser
from webapp.accounts.models import User
from webapp.accounts.selectors import user_with_confirmed_address

EMAIL = "alice@example.org"
NEW_PASSWORD = "another horse staple"
FORM = {"email": EMAIL, "display_name": "Alice", "password1": PASSWORD, "password2": PASSWORD}
Mails = list[EmailMessage]


@pytest.fixture(autouse=True)
def with_mail_server(transactional_db: None, settings: LazySettings) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"


def log_in(browser: Client, email: str = EMAIL, password: str = PASSWORD):
    return browser.post("/accounts/login/", {"login": email, "password": password})


def is_in(browser: Client) -> bool:
    return browser.get("/rooms/").status_code == 200


def link(mail: EmailMessage) -> str:
    found = re.search(r"http://testserver(/\S+)", mail.body)
    assert found, mail.body
    return found[1]


def ask_for_reset(email: str):
    return Client().post("/accounts/password/reset/", {"email": email})


def reset(mail: EmailMessage, password: str = NEW_PASSWORD):
    browser = Client()
    form = browser.get(link(mail), follow=True)
    fields = {"password1": password, "password2": password}
    return browser.post(form.wsgi_request.path, fields, follow=True)


def test_who_registers_is_let_in_once_the_address_is_confirmed(mailoutbox: Mails) -> None:
    browser = Client()
    answer = browser.post("/accounts/register/", FORM)
    assert answer.headers["Location"] == "/accounts/email/sent/"
    assert "Look into your mailbox" in browser.get("/accounts/email/sent/").content.decode()
    assert not is_in(browser)
    assert log_in(browser).headers["Location"] == "/accounts/email/sent/"
    assert not is_in(browser)
    assert user_with_confirmed_address(EMAIL) is None

    (mail,) = mailoutbox
    assert mail.to == [EMAIL]
    assert "goes by the name of Alice" in mail.body
    assert "did you make the account of" in Client().get(link(mail)).content.decode()
    assert user_with_confirmed_address(EMAIL) is None, "a mail scanner opens links, too"
    Client().post(link(mail))
    assert user_with_confirmed_address(EMAIL)
    assert "This link has expired" in Client().get(link(mail)).content.decode()
    assert log_in(browser).headers["Location"] == "/rooms/"
    assert is_in(browser)


def test_registering_does_not_tell_who_has_an_account(
    browser: Callable[[str], Browser], mailoutbox: Mails
) -> None:
    browser("alice")
    answers = [
        Client().post("/accounts/register/", FORM | {"email": email}, follow=True)
        for email in ("new@example.org", "ALICE@example.org")
    ]
    assert answers[0].redirect_chain == answers[1].redirect_chain
    assert answers[0].content == answers[1].content
    assert User.objects.count() == 2
    assert [mail.to for mail in mailoutbox] == [["new@example.org"], [EMAIL]]
    assert "already exists" in mailoutbox[1].body


def test_nor_does_the_time_that_it_takes(browser: Callable[[str], Browser]) -> None:
    """The hash takes nearly all of it."""
    browser("alice")
    counts: dict[str, int] = {}
    for name in ("alice", "nobody"):
        email = f"{name}@example.org"
        encode = hashers.MD5PasswordHasher.encode
        with mock.patch.object(
            hashers.MD5PasswordHasher, "encode", autospec=True, side_effect=encode
        ) as hashing:
            log_in(Client(), email, "no password of theirs")
            Client().post("/accounts/register/", FORM | {"email": email})
        counts[name] = hashing.call_count
    assert counts == {"alice": 2, "nobody": 2}


def test_two_registrations_at_once_look_like_one_for_a_known_address(mailoutbox: Mails) -> None:
    """The other one is committed between the check of the form and the insert."""
    from webapp.accounts.forms import RegisterForm

    save = RegisterForm.save

    def save_too_late(form: RegisterForm, request: object) -> User:
        User.objects.create_user(form.cleaned_data["email"], "the other")
        return save(form, request)

    # In a rolled-back transaction the other one's row is gone as well: it comes before the mock.
    with mock.patch.object(RegisterForm, "clean_email", lambda form: form.cleaned_data["email"]):
        User.objects.create_user(EMAIL, "the other")
        answer = Client().post("/accounts/register/", FORM)
    assert answer.headers["Location"] == "/accounts/email/sent/"
    assert User.objects.count() == 1
    assert "already exists" in mailoutbox[0].body


def test_a_reset_changes_the_password_and_ends_every_session(
    browser: Callable[[str], Browser], mailoutbox: Mails
) -> None:
    browser("alice")
    elsewhere = Client()
    log_in(elsewhere)
    assert is_in(elsewhere)
    answers = [ask_for_reset(email) for email in ("Alice@Example.org", "nobody@example.org")]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert [mail.to for mail in mailoutbox] == [[EMAIL], ["nobody@example.org"]]

    assert "Your password is changed" in reset(mailoutbox[0]).content.decode()
    assert not is_in(elsewhere)
    log_in(elsewhere)
    assert not is_in(elsewhere)
    log_in(elsewhere, password=NEW_PASSWORD)
    assert is_in(elsewhere)
    assert "invalid" in Client().get(link(mailoutbox[0])).content.decode(), "it works once"


def test_a_reset_refuses_weak_passwords(
    browser: Callable[[str], Browser], mailoutbox: Mails
) -> None:
    browser("alice")
    ask_for_reset(EMAIL)
    assert "easy to guess" in reset(mailoutbox[0], "summer2026").content.decode()
    assert log_in(Client()).headers["Location"] == "/rooms/"


def test_no_mail_goes_to_an_address_that_only_looks_equal(
    browser: Callable[[str], Browser], mailoutbox: Mails
) -> None:
    """The Kelvin sign in lower case is a k; a mailbox may tell the two apart."""
    browser("kate")
    answer = ask_for_reset("\u212aate@example.org")
    assert "is not an e-mail address" in answer.content.decode()
    assert mailoutbox == []


def test_an_old_account_is_kept_and_must_be_confirmed(mailoutbox: Mails) -> None:
    """As after the migration of a data folder from before."""
    user = User.objects.create_user(EMAIL, "Alice", PASSWORD)
    EmailAddress.objects.create(user=user, email=EMAIL, primary=True)
    browser = Client()
    assert log_in(browser).headers["Location"] == "/accounts/email/sent/"
    browser.post(link(mailoutbox[0]))
    log_in(browser)
    assert is_in(browser)


def change(browser: Client, email: str):
    """The first change in a session asks for the password, and then goes on."""
    page = browser.post("/accounts/email/", {"email": email, "action_add": ""}, follow=True)
    if page.request["PATH_INFO"] == "/accounts/again/":
        again = {"password": PASSWORD, "next": "/accounts/email/"}
        page = browser.post("/accounts/again/", again, follow=True)
    return page


def test_a_new_address_takes_the_place_of_the_old_one_once_it_is_confirmed(
    browser: Callable[[str], Browser], mailoutbox: Mails
) -> None:
    browser("alice")
    alice = Client()
    log_in(alice)
    assert "new@example.org" in change(alice, "New@example.org").content.decode()
    assert user_with_confirmed_address("new@example.org") is None
    (mail,) = mailoutbox
    alice.post(link(mail))
    found = user_with_confirmed_address("new@example.org")
    assert found
    assert found.display_name == "alice"
    assert user_with_confirmed_address(EMAIL) is None
    assert any(mail.to == [EMAIL] and "changed" in mail.body for mail in mailoutbox), "a notice"


def test_an_address_that_another_account_has_cannot_be_taken(
    browser: Callable[[str], Browser], mailoutbox: Mails
) -> None:
    browser("alice")
    User.objects.create_user("taken@example.org", "The other", PASSWORD)
    alice = Client()
    log_in(alice)
    change(alice, "taken@example.org")
    page = alice.post(link(mailoutbox[0]), follow=True)
    assert page.status_code == 200
    assert user_with_confirmed_address("taken@example.org") is None
    assert user_with_confirmed_address(EMAIL)


def test_where_nothing_is_confirmed_a_new_address_takes_its_place_at_once(
    settings: LazySettings,
) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "optional"
    alice, other = Client(), Client()
    alice.post("/accounts/register/", FORM)
    other.post("/accounts/register/", FORM | {"email": "bob@example.org"})
    change(alice, "new@example.org")
    assert User.objects.get(display_name="Alice", email="new@example.org")
    assert "There is an account" in change(other, "new@example.org").content.decode()
    assert User.objects.filter(email="bob@example.org").exists()
    assert log_in(Client(), "new@example.org").headers["Location"] == "/rooms/"


def test_five_wrong_passwords_lock_an_address_for_five_minutes(
    browser: Callable[[str], Browser], settings: LazySettings, mailoutbox: Mails
) -> None:
    browser("alice")
    browser("bob")
    for _ in range(5):
        assert "do not match" in log_in(Client(), password="no").content.decode()
    locked = log_in(Client())
    assert (locked.status_code, locked.headers["Retry-After"]) == (429, "300")
    assert "Too many failed log-ins" in locked.content.decode()
    assert log_in(Client(), "bob@example.org").status_code == 302
    ask_for_reset(EMAIL)
    reset(mailoutbox[0])
    assert log_in(Client(), password=NEW_PASSWORD).status_code == 302


def test_an_address_registers_so_many_a_minute() -> None:
    for number in range(20):
        assert Client().post("/accounts/register/", FORM | {"email": f"{number}@x.example"})
    assert Client().post("/accounts/register/", FORM).status_code == 429
    other = Client(REMOTE_ADDR="192.0.2.7")
    assert other.post("/accounts/register/", FORM).status_code == 302


def test_who_is_deactivated_is_told_only_with_the_right_password(
    browser: Callable[[str], Browser],
) -> None:
    User.objects.filter(id=browser("alice").user.id).update(is_active=False)
    assert "do not match" in log_in(Client(), password="no").content.decode()
    assert log_in(Client()).headers["Location"] == "/accounts/inactive/"
