"""What HTTPS=1 turns on, for a site behind a proxy that ends TLS."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from django.conf import LazySettings
from django.test import Client

from bus.runtime.settings import Environment
from tests.unit.webapp.conftest import PASSWORD, SETTINGS, Browser
from webapp.project.configuration import settings_from

HTTPS = {
    "HTTPS": "1",
    "SECRET_KEY": "0123456789abcdef" * 4,
    "BRIDGE_URL": "wss://chat.example.org/socket",
    "ALLOWED_HOSTS": "chat.example.org",
    "ALLOWED_ORIGINS": "https://chat.example.org",
}
HOST = {"Host": "chat.example.org"}
OURS = ("SECURE_", "SESSION_", "CSRF_", "BRIDGE_URL")


@pytest.fixture
def https(settings: LazySettings) -> None:
    for name, value in settings_from(Environment(SETTINGS | HTTPS)).items():
        if name.startswith(OURS):
            setattr(settings, name, value)


@pytest.mark.django_db
@pytest.mark.usefixtures("https")
def test_pages_move_to_https_for_good(client: Client) -> None:
    moved = client.get("/accounts/login/?next=/rooms/", headers=HOST)
    assert moved.status_code == 301
    assert moved.headers["Location"] == "https://chat.example.org/accounts/login/?next=/rooms/"
    page = client.get("/accounts/login/", headers=HOST, secure=True)
    assert page.status_code == 200
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


@pytest.mark.django_db
@pytest.mark.usefixtures("https")
def test_a_call_in_the_clear_is_refused_instead_of_redirected(client: Client) -> None:
    """A program would follow, and go on sending its secrets in the clear."""
    for method, path in (("GET", "/api/rooms"), ("POST", "/api/socket-ticket")):
        refused = Browser().send(method, path, **HOST)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "https_required")
    assert client.get("/health/live", headers=HOST).status_code == 200


@pytest.mark.usefixtures("https")
def test_cookies_are_for_this_host_and_https_alone(browser: object) -> None:
    user = browser("alice").user
    strict = Client(enforce_csrf_checks=True, headers=HOST)
    page = strict.get("/accounts/login/", secure=True).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    fields = {"login": user.email, "password": PASSWORD, "csrfmiddlewaretoken": token}
    headers = HOST | {"Origin": "https://chat.example.org"}
    assert strict.post("/accounts/login/", fields, secure=True, headers=headers).status_code == 302
    assert set(strict.cookies) == {"__Host-sessionid", "__Host-csrftoken"}
    for cookie in strict.cookies.values():
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
    assert strict.get("/api/rooms", secure=True).status_code == 200


def test_django_has_nothing_to_say_against_the_deployment() -> None:
    check = subprocess.run(
        [sys.executable, "-m", "django", "check", "--deploy", "--fail-level", "WARNING"],
        env={**os.environ, **SETTINGS, **HTTPS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr
