"""Whose address is confirmed, and the rows in which that is noted."""

from __future__ import annotations

import importlib

import pytest
from allauth.account.models import EmailAddress
from django.apps import apps
from django.conf import LazySettings
from django.db import connection

from webapp.accounts.models import User
from webapp.accounts.selectors import has_confirmed_address, user_with_confirmed_address
from webapp.project.errors import InvalidInput

pytestmark = pytest.mark.django_db
EMAIL = "alice@example.org"


@pytest.fixture
def alice() -> User:
    return User.objects.create_user(EMAIL, "Alice")


def confirm(user: User, email: str = EMAIL) -> None:
    EmailAddress.objects.create(user=user, email=email, primary=True, verified=True)


def test_who_only_registered_an_address_is_not_found_by_it(alice: User) -> None:
    assert user_with_confirmed_address(EMAIL) is None
    EmailAddress.objects.create(user=alice, email=EMAIL, primary=True)
    assert user_with_confirmed_address(EMAIL) is None
    assert not has_confirmed_address(alice)


def test_who_confirmed_it_is_found_in_any_spelling(alice: User) -> None:
    confirm(alice)
    assert user_with_confirmed_address(" Alice@EXAMPLE.org ") == alice
    assert has_confirmed_address(alice)


def test_an_address_of_the_past_is_nobodys(alice: User) -> None:
    confirm(alice, "old@example.org")
    assert user_with_confirmed_address("old@example.org") is None
    assert user_with_confirmed_address(EMAIL) is None


def test_nobody_is_found_who_is_deactivated(alice: User, settings: LazySettings) -> None:
    confirm(alice)
    User.objects.update(is_active=False)
    assert user_with_confirmed_address(EMAIL) is None
    settings.ADDRESSES_COUNT_AS_CONFIRMED = True
    assert user_with_confirmed_address(EMAIL) is None


def test_where_every_address_counts_the_rows_do_not(alice: User, settings: LazySettings) -> None:
    settings.ADDRESSES_COUNT_AS_CONFIRMED = True
    assert user_with_confirmed_address(EMAIL) == alice
    assert has_confirmed_address(alice)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(InvalidInput):
        user_with_confirmed_address("nobody")


def test_addresses_from_before_are_noted_once_and_not_as_confirmed(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = importlib.import_module("webapp.accounts.migrations.0003_email_addresses")
    monkeypatch.setattr(migration, "BATCH", 2)
    users = [alice, *(User.objects.create_user(f"{n}@example.org", "x") for n in range(4))]
    confirm(users[1], "0@example.org")
    for _ in range(2):
        migration.add_addresses(apps, connection.schema_editor())
        assert {row.email: row.verified for row in EmailAddress.objects.all()} == {
            user.email: user == users[1] for user in users
        }
