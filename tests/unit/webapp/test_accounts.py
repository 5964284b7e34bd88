from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from tests.unit.webapp.conftest import PASSWORD
from webapp.accounts.forms import RegisterForm
from webapp.accounts.models import normal_email

pytestmark = pytest.mark.django_db

FORM = {
    "email": "Alice@Example.org",
    "display_name": "Alice Archer",
    "password1": PASSWORD,
    "password2": PASSWORD,
}


def register(client: Client, **changes: str):
    return client.post("/accounts/register/", FORM | changes)


def test_register_makes_a_user_with_a_lower_case_address_and_logs_in(client):
    assert register(client).headers["Location"] == "/rooms/"
    user = get_user_model().objects.get()
    assert (user.email, user.display_name) == ("alice@example.org", "Alice Archer")
    assert client.get("/rooms/").status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("email", "no address", "valid email"),
        ("email", "", "required"),
        ("display_name", " ", "required"),
        ("display_name", "x" * 81, "at most 80"),
        ("display_name", "two\x1blines", "control characters"),
        ("display_name", "\u202eecila", "invisible character in it (U+202E)"),
        ("password1", "other", "password"),
        ("password2", "other", "match"),
    ],
)
def test_bad_input_keeps_the_form_and_says_what_is_wrong(client, field, value, problem):
    response = register(client, **{field: value})
    page = response.content.decode()
    assert response.status_code == 200
    assert problem in page
    if field != "email":
        assert "Alice@Example.org" in page
    assert not get_user_model().objects.exists()


def test_weak_passwords_are_refused(client):
    response = register(client, password1="12345678", password2="12345678")
    assert "too common" in response.content.decode()


def test_an_address_can_be_registered_once_whatever_its_case(client):
    register(client)
    response = register(Client(), email="ALICE@example.org")
    assert "There is an account" in response.content.decode()
    assert get_user_model().objects.count() == 1


def test_two_registrations_at_once_make_one_account(client, monkeypatch):
    """Somebody else takes the address between the check of the form and the insert."""
    save = RegisterForm.save

    def save_too_late(form):
        get_user_model().objects.create_user(form.cleaned_data["email"], "the other")
        return save(form)

    monkeypatch.setattr(RegisterForm, "save", save_too_late)
    response = register(client)
    assert response.status_code == 200
    assert "There is an account" in response.content.decode()
    assert not get_user_model().objects.filter(display_name=FORM["display_name"]).exists()


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_is_logged_in_cannot_register_over_it(client, method):
    register(client)
    session = client.session.session_key
    other = FORM | {"email": "other@example.org"}
    response = getattr(client, method)("/accounts/register/", other)
    assert response.headers["Location"] == "/rooms/"
    assert client.session.session_key == session
    assert get_user_model().objects.count() == 1


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (" Bob@Example.ORG ", "bob@example.org"),
        ("bob@EXÄMPLE.org", "bob@xn--exmple-cua.org"),
        ("no address", "no address"),
        ("bob@" + "ä" * 80, "bob@" + "ä" * 80),
    ],
)
def test_addresses_are_compared_in_one_form(typed, stored):
    assert normal_email(typed) == stored


def test_login_takes_the_address_in_any_case_and_rotates_the_session(client):
    register(client)
    client.post("/accounts/logout/")
    client.get("/accounts/login/")
    session = client.session
    session["planted"] = "by an attacker"
    session.save()
    planted = session.session_key
    client.cookies["sessionid"] = planted

    client.post("/accounts/login/", {"username": "ALICE@Example.ORG", "password": PASSWORD})

    assert client.get("/rooms/").status_code == 200
    assert client.session.session_key != planted


def test_a_wrong_password_does_not_log_in(client):
    register(client)
    client.post("/accounts/logout/")
    response = client.post("/accounts/login/", {"username": FORM["email"], "password": "no"})
    assert "do not match" in response.content.decode()
    assert client.get("/rooms/").status_code == 302


def test_logout_is_by_post_only(client):
    register(client)
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/").headers["Location"] == "/accounts/login/"
    assert client.get("/rooms/").status_code == 302


def test_the_session_cookie_is_closed_to_scripts_and_other_sites(client):
    cookie = register(client).cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
