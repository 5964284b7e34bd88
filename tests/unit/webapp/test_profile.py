"""The profile page, and what an operator does to an account."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable

import pytest

from bus.errors import PermanentError
from bus.runtime.settings import Environment
from tests.unit.webapp.conftest import Browser
from webapp.accounts import command
from webapp.accounts.models import User
from webapp.accounts.selectors import user_with_confirmed_address

PATH = "/accounts/profile/"
Make = Callable[[str], Browser]


def account(*words: str) -> int:
    parser = ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words), Environment({}))


def test_name_and_time_zone_are_changed(browser: Make) -> None:
    alice = browser("alice")
    new = {"display_name": "Ms  Archer", "time_zone": "Asia/Tokyo"}
    assert "Saved." in alice.post(PATH, new, follow=True).content.decode()
    user = User.objects.get()
    assert (user.display_name, user.time_zone) == ("Ms Archer", "Asia/Tokyo")
    alice.send("POST", "/api/socket-ticket")
    assert "JST" in alice.get("/accounts/sessions/").content.decode()


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("display_name", " ", "required"),
        ("display_name", "\u202eecila", "invisible character"),
        ("time_zone", "Mars/Olympus", "not one of the available choices"),
        ("time_zone", "", "required"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    browser: Make, field: str, value: str, problem: str
) -> None:
    alice = browser("alice")
    good = {"display_name": "Mallory", "time_zone": "Asia/Tokyo"}
    answer = alice.post(PATH, good | {field: value})
    assert answer.status_code == 400
    assert problem in answer.content.decode()
    user = User.objects.get()
    assert (user.display_name, user.time_zone) == ("alice", "UTC")


def test_an_operator_deactivates_and_activates(
    browser: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = browser("alice")
    for _ in range(2):
        assert account("deactivate", "Alice@example.org") == 0
        assert alice.send("GET", "/api/rooms").status_code == 401
    account("activate", "alice@example.org")
    assert Browser(User.objects.get()).send("GET", "/api/rooms").status_code == 200
    assert capsys.readouterr().out == "alice@example.org: done\n" * 3


@pytest.mark.django_db
def test_an_operator_confirms_an_address() -> None:
    user = User.objects.create_user("alice@example.org", "Alice")
    assert user_with_confirmed_address("alice@example.org") is None
    for _ in range(2):
        account("confirm", "alice@example.org")
        assert user_with_confirmed_address("alice@example.org") == user


@pytest.mark.django_db
@pytest.mark.parametrize("email", ["nobody@example.org", "nobody"])
def test_an_account_that_does_not_exist_is_named(email: str) -> None:
    with pytest.raises(PermanentError, match=f"nobody is registered as {email}"):
        account("deactivate", email)
