"""The second factor: codes of an authenticator app, and recovery codes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import (
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.core.cache import cache
from django.core.mail import EmailMessage
from django.test import Client

from tests.unit.webapp.conftest import PASSWORD, Browser
from webapp.audit.models import AuditEntry

EMAIL = "alice@example.org"


def log_in() -> Client:
    """A browser that has given address and password."""
    browser = Client()
    browser.post("/accounts/login/", {"login": EMAIL, "password": PASSWORD})
    return browser


def is_in(browser: Client) -> bool:
    return browser.get("/rooms/").status_code == 200


def code(secret: str) -> str:
    _, now, _ = yield_hotp_counters_from_time()
    return format_hotp_value(hotp_value(secret, now))


def wrong(secret: str) -> str:
    return "000000" if code(secret) != "000000" else "000001"


def enter(browser: Client, what: str) -> None:
    browser.post("/accounts/factors/authenticate/", {"code": what})


@pytest.fixture
def alice(browser: Callable[[str], Browser]) -> Client:
    """Logged in, and has just given her password again."""
    browser("alice")
    alice = log_in()
    alice.post("/accounts/again/", {"password": PASSWORD})
    return alice


@pytest.fixture
def secret(alice: Client) -> str:
    """Of her authenticator app, which is activated."""
    page = alice.get("/accounts/factors/totp/activate/").content.decode()
    found = re.search(r"<code>([A-Z2-7]+)</code>", page)
    assert found
    assert "<svg" in page
    assert (
        alice.post("/accounts/factors/totp/activate/", {"code": code(found[1])}).status_code == 302
    )
    return found[1]


def test_a_log_in_needs_the_code_of_the_app(secret: str) -> None:
    browser = log_in()
    assert not is_in(browser)
    assert browser.post("/api/socket-ticket").status_code in (401, 403)
    enter(browser, wrong(secret))
    assert not is_in(browser)
    enter(browser, code(secret))
    assert is_in(browser)


def test_a_reset_does_not_get_around_the_second_factor(
    secret: str, mailoutbox: list[EmailMessage]
) -> None:
    browser = Client()
    browser.post("/accounts/password/reset/", {"email": EMAIL})
    link = re.search(r"/accounts/password/reset/\S+", mailoutbox[-1].body)
    assert link
    form = browser.get(link[0], follow=True).request["PATH_INFO"]
    browser.post(form, {"password1": f"{PASSWORD} 2", "password2": f"{PASSWORD} 2"})
    assert not is_in(browser)
    browser.post("/accounts/login/", {"login": EMAIL, "password": f"{PASSWORD} 2"})
    assert not is_in(browser)
    enter(browser, code(secret))
    assert is_in(browser)


def test_a_code_is_good_once(secret: str) -> None:
    seen = code(secret)
    browsers = [log_in(), log_in()]
    for browser in browsers:
        enter(browser, seen)
    assert [is_in(browser) for browser in browsers] == [True, False]


def test_a_recovery_code_is_good_once(alice: Client, secret: str) -> None:
    lines = alice.get("/accounts/factors/recovery-codes/download/").content.decode().split()
    assert len(lines) == 10
    for expected in (True, False):
        browser = log_in()
        enter(browser, lines[0])
        assert is_in(browser) == expected


def test_codes_cannot_be_guessed_without_end(secret: str) -> None:
    browser = log_in()
    for _ in range(5):
        enter(browser, wrong(secret))
    enter(browser, code(secret))
    assert not is_in(browser)
    cache.clear()
    enter(browser, code(secret))
    assert is_in(browser)


def test_deactivating_asks_for_the_password(alice: Client, secret: str) -> None:
    browser = log_in()
    enter(browser, code(secret))
    path = "/accounts/factors/totp/deactivate/"
    assert browser.post(path).headers["Location"].startswith("/accounts/again/")
    assert Authenticator.objects.filter(type="totp").exists()
    assert alice.post(path).headers["Location"] == "/accounts/factors/"
    assert is_in(log_in())


def test_who_has_not_confirmed_an_address_cannot_lock_its_owner_out(alice: Client) -> None:
    EmailAddress.objects.update(verified=False)
    answer = alice.get("/accounts/factors/totp/activate/")
    assert answer.headers["Location"] == "/accounts/factors/"
    assert not Authenticator.objects.exists()


def test_the_audit_log_has_factors_and_wrong_codes(secret: str) -> None:
    enter(log_in(), wrong(secret))
    entries = AuditEntry.objects.filter(detail="totp").order_by("id")
    assert [entry.action for entry in entries] == ["factor.added", "login.factor_failed"]
    assert {entry.user_id for entry in entries} == {Authenticator.objects.first().user_id}
