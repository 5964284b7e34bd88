"""Logging in by an OpenID Connect provider, which runs beside the test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from bus.runtime.settings import Environment
from tests.support.identity_provider import CLIENT, SECRET, IdentityProvider
from tests.unit.webapp.conftest import PASSWORD, Browser
from webapp.accounts.models import User
from webapp.accounts.selectors import user_with_confirmed_address
from webapp.audit.models import AuditEntry
from webapp.project.configuration import _oidc

LOGIN = "/accounts/oidc/sso/login/"
ALICE = {"sub": "17", "name": "Alice Archer", "email": "Alice@Example.org", "email_verified": True}


@pytest.fixture
def provider(transactional_db: None, settings: LazySettings) -> IdentityProvider:
    """Not running yet."""
    provider = IdentityProvider()
    given = {"OIDC_SERVER": provider.url, "OIDC_NAME": "Example Inc."}
    client = {"OIDC_CLIENT_ID": CLIENT, "OIDC_CLIENT_SECRET": SECRET}
    apps = _oidc(Environment(given | client))
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": apps}}
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    return provider


@pytest.fixture
def running(provider: IdentityProvider) -> Iterator[IdentityProvider]:
    with provider.running():
        yield provider


def log_in(provider: IdentityProvider, browser: Client | None = None, **claims: Any) -> Client:
    browser = browser or Client()
    asked = browser.get(LOGIN).headers["Location"]
    assert asked.startswith(f"{provider.url}/authorization?")
    browser.get(provider.log_in(asked, **claims))
    return browser


def is_in(browser: Client) -> bool:
    return browser.get("/rooms/").status_code == 200


def test_the_first_log_in_makes_an_account_with_a_confirmed_address(
    running: IdentityProvider,
) -> None:
    assert f'<a class="button" href="{LOGIN}' in Client().get("/accounts/login/").content.decode()
    for _ in range(2):
        browser = log_in(running, **ALICE)
        assert is_in(browser)
        user = User.objects.get()
        assert (user.email, user.display_name) == ("alice@example.org", "Alice Archer")
        assert user_with_confirmed_address("alice@example.org") == user
    assert "Example Inc." in browser.get("/accounts/connections/").content.decode()


def test_an_address_that_the_provider_has_not_proved_must_be_confirmed(
    running: IdentityProvider, mailoutbox: list[Any]
) -> None:
    assert not is_in(log_in(running, **ALICE | {"email_verified": False}))
    assert user_with_confirmed_address("alice@example.org") is None
    assert mailoutbox[0].to == ["alice@example.org"]


def test_nobody_gets_into_an_account_that_has_the_same_address(
    running: IdentityProvider, browser: Callable[[str], Browser]
) -> None:
    browser("alice")
    assert not is_in(log_in(running, **ALICE))
    assert User.objects.count() == 1


def test_its_owner_connects_the_two_and_then_logs_in_by_either(
    running: IdentityProvider, browser: Callable[[str], Browser]
) -> None:
    alice = browser("alice").user
    here = Client()
    here.post("/accounts/login/", {"login": alice.email, "password": PASSWORD})
    here.post("/accounts/again/", {"password": PASSWORD})
    asked = here.get(f"{LOGIN}?process=connect").headers["Location"]
    here.get(running.log_in(asked, **ALICE))
    assert is_in(log_in(running, **ALICE))
    assert User.objects.get() == alice
    entry = AuditEntry.objects.get(action="provider.connected")
    assert (entry.user_id, entry.detail) == (alice.id, "sso")


def test_who_has_no_password_proves_the_address_and_chooses_one(
    running: IdentityProvider, mailoutbox: list[Any]
) -> None:
    browser = log_in(running, **ALICE)
    page = browser.get("/accounts/password/", follow=True)
    assert page.request["PATH_INFO"] == "/accounts/again/code/"
    path = f"{page.request['PATH_INFO']}?{page.request['QUERY_STRING']}"
    page = browser.post(path, {"recipient": "alice@example.org"}, follow=True)
    code = re.search(r"^[A-Z0-9]{4}-?[A-Z0-9]{4}$", mailoutbox[0].body, re.M)
    assert code, mailoutbox[0].body
    browser.post("/accounts/again/code/confirm/", {"code": code[0]})
    new = {"password1": PASSWORD, "password2": PASSWORD}
    browser.post("/accounts/password/set/", new)
    elsewhere = Client()
    elsewhere.post("/accounts/login/", {"login": ALICE["email"], "password": PASSWORD})
    assert is_in(elsewhere)


def test_who_is_deactivated_stays_out(running: IdentityProvider) -> None:
    log_in(running, **ALICE)
    User.objects.update(is_active=False)
    assert not is_in(log_in(running, **ALICE))


def test_an_answer_that_was_not_asked_for_logs_nobody_in(running: IdentityProvider) -> None:
    """As when a stranger gives somebody the link with which the stranger would be logged in."""
    strangers, victims = Client(), Client()
    asked = strangers.get(LOGIN).headers["Location"]
    victims.get(running.log_in(asked, **ALICE))
    assert not is_in(victims)


@pytest.mark.parametrize("name", ["\u202eecila", "", None, "x" * 200])
def test_a_name_that_cannot_be_shown_is_cut_or_replaced_by_that_of_the_address(
    running: IdentityProvider, name: str | None
) -> None:
    assert is_in(log_in(running, **ALICE | {"name": name}))
    assert User.objects.get().display_name == ("x" * 80 if name and name[0] == "x" else "alice")


def test_no_other_provider_is_there(running: IdentityProvider) -> None:
    assert Client().get("/accounts/oidc/other/login/").status_code == 404


def test_a_provider_that_is_away_is_a_page_that_says_so(provider: IdentityProvider) -> None:
    answer = Client().get(LOGIN)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "Example Inc." in answer.content.decode()
