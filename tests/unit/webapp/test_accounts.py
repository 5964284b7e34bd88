from __future__ import annotations

import importlib

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.test import Client

from tests.unit.webapp.conftest import PASSWORD
from webapp.accounts.addresses import normal_email
from webapp.accounts.forms import RegisterForm
from webapp.project import settings as project_settings
from webapp.project.errors import InvalidInput

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
        ("password1", "other", "too short"),
        ("password2", "other", "same password"),
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


@pytest.mark.parametrize(
    "password",
    [
        *("12345678", "chatbus1", "chatbus2026", "summer2026", "winter2025!", "ääääääää"),
        *("alice@example.org", "Alice Archer1", "qwertyuiop", "Passw0rd!", "x" * 5_000),
    ],
)
def test_weak_passwords_are_refused(client, password):
    response = register(client, password1=password, password2=password)
    assert response.content.decode().count("This password is easy to guess.") == 1
    assert not get_user_model().objects.exists()


@pytest.mark.parametrize("password", [PASSWORD, "x7Gq9zLm", "correct horse", "λόγος και έργο"])
def test_strong_passwords_are_not(client, password):
    assert register(client, password1=password, password2=password).status_code == 302


def test_an_address_can_be_registered_once_whatever_its_case(client):
    register(client)
    response = register(Client(), email="ALICE@example.org")
    assert "There is an account" in response.content.decode()
    assert get_user_model().objects.count() == 1


def test_two_registrations_at_once_make_one_account(client, monkeypatch):
    """Somebody else takes the address between the check of the form and the insert."""
    save = RegisterForm.save

    def save_too_late(form, request):
        if not get_user_model().objects.exists():
            get_user_model().objects.create_user(form.cleaned_data["email"], "the other")
        return save(form, request)

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
        ("bob@ｅｘämple。org", "bob@xn--exmple-cua.org"),
        ("per@Straße.example", "per@xn--strae-oqa.example"),
        ("per@STRAẞE.example", "per@xn--strae-oqa.example"),
        ("per@xn--strae-oqa.example", "per@xn--strae-oqa.example"),
        ("per@strasse.example", "per@strasse.example"),
        ("a@ςσ.example", "a@xn--3xac.example"),
        ("a@نامه‌ای.example", "a@xn--mgba3gch31f060k.example"),
        ("a@ބްސް.example", "a@xn--lqby3gb.example"),
        ("bob@[::1]", "bob@[::1]"),
    ],
)
def test_addresses_are_compared_in_one_form(typed, stored):
    assert normal_email(typed) == stored


@pytest.mark.parametrize(
    "email",
    [
        *("", "no address", "@example.org", "bob@", "bob@.ä", "bob@-ä.example", "bob@x.org\0"),
        *("bob@" + "ä" * 80 + ".org", "bob@" + "ä." * 30_000 + "org", "x" * 250 + "@ä.org"),
        *("böb@example.org", "bo\u212a@example.org", "bo\u017f@example.org", '"a\x01"@x.org'),
        *("bob@💩.example", None, 7, b"bob@example.org"),
    ],
)
def test_what_is_no_address_is_refused(email):
    with pytest.raises(InvalidInput) as refused:
        normal_email(email)
    assert refused.value.code == "invalid_email"


def test_an_eszett_and_a_double_s_are_two_accounts(client):
    register(client, email="per@straße.example")
    register(Client(), email="per@strasse.example", display_name="the other")
    for typed, name in (
        ("per@STRAẞE.example", "Alice Archer"),
        ("per@strasse.example", "the other"),
    ):
        browser = Client()
        browser.post("/accounts/login/", {"login": typed, "password": PASSWORD})
        assert name in browser.get("/rooms/").content.decode()


@pytest.mark.parametrize("email", ["bob@i♥.example", "bob@" + "ä" * 60 + ".org"])
def test_a_domain_that_cannot_exist_keeps_the_form_and_logs_nobody_in(client, email):
    page = register(client, email=email).content.decode()
    assert "is not an e-mail address" in page
    assert email in page
    answer = client.post("/accounts/login/", {"login": email, "password": PASSWORD})
    assert "is not an e-mail address" in answer.content.decode()
    assert not get_user_model().objects.exists()


def test_addresses_that_were_stored_in_letters_are_rewritten():
    """Three that IDNA 2003 could not write: one that can be, one that is taken, one impossible."""
    users = get_user_model().objects
    stored = ["a@ބްސް.example", "b@ބްސް.example", "c@💩א.example", "b@xn--lqby3gb.example"]
    users.bulk_create(users.model(email=email, display_name=email[0]) for email in stored)
    migration = importlib.import_module("webapp.accounts.migrations.0002_ascii_domains")
    for _ in range(2):
        migration.rewrite_domains(apps, connection.schema_editor())
        assert list(users.order_by("id").values_list("email", flat=True)) == [
            "a@xn--lqby3gb.example",
            *stored[1:],
        ]


def test_login_takes_the_address_in_any_case_and_rotates_the_session(client):
    register(client)
    client.post("/accounts/logout/")
    client.get("/accounts/login/")
    session = client.session
    session["planted"] = "by an attacker"
    session.save()
    planted = session.session_key
    client.cookies["sessionid"] = planted

    client.post("/accounts/login/", {"login": "ALICE@Example.ORG", "password": PASSWORD})

    assert client.get("/rooms/").status_code == 200
    assert client.session.session_key != planted


def test_a_wrong_password_does_not_log_in(client):
    register(client)
    client.post("/accounts/logout/")
    response = client.post("/accounts/login/", {"login": FORM["email"], "password": "no"})
    assert "do not match" in response.content.decode()
    assert client.get("/rooms/").status_code == 302


def test_a_password_that_an_older_hasher_kept_is_kept_anew_at_the_next_login(client, settings):
    settings.PASSWORD_HASHERS = project_settings.PASSWORD_HASHERS
    user = get_user_model().objects.create_user(FORM["email"], "Alice")
    user.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    user.save()
    for _ in range(2):
        client.post("/accounts/login/", {"login": FORM["email"], "password": PASSWORD})
        assert client.get("/rooms/").status_code == 200
        client.post("/accounts/logout/")
        user.refresh_from_db()
        assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")


def test_logout_is_by_post_only(client):
    register(client)
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/").headers["Location"] == "/accounts/login/"
    assert client.get("/rooms/").status_code == 302


def test_the_session_cookie_is_closed_to_scripts_and_other_sites(client):
    cookie = register(client).cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
