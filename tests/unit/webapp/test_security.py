from __future__ import annotations

import re

import pytest
from django.test import Client

from tests.unit.webapp.conftest import Browser

# A block of JSON is data, which no browser runs.
INLINE_SCRIPT = r"<script(?![^>]*\s(?:src=|type=\"application/json\"))"


def policy(response):
    directives = response.headers["Content-Security-Policy"].split("; ")
    return {name: values for name, *values in (directive.split() for directive in directives)}


@pytest.mark.django_db
def test_the_policy_allows_no_inline_script_and_only_our_bridge(client):
    found = policy(client.get("/accounts/login/", headers={"Host": "chat.example.org:8002"}))
    assert found["default-src"] == found["object-src"] == ["'none'"]
    assert found["script-src"] == found["style-src"] == ["'self'"]
    assert found["connect-src"] == ["'self'", "ws://chat.example.org:8001"]
    assert found["frame-ancestors"] == ["'none'"]


@pytest.mark.django_db
def test_on_an_ipv6_address_the_policy_names_the_scheme_alone(client, settings):
    """The policy's grammar has no IPv6 addresses (CSP 3, section 2.3.1)."""
    settings.ALLOWED_HOSTS = ["[::1]"]
    found = policy(client.get("/accounts/login/", headers={"Host": "[::1]:8000"}))
    assert found["connect-src"] == ["'self'", "ws:"]


def test_pages_keep_to_the_policy(room):
    owner, path = room
    pages = ["/rooms/", path.removeprefix("/api") + "/"]
    pages += [
        f"/accounts/{name}/"
        for name in ("email", "password", "sessions", "again", "factors", "profile", "connections")
    ]
    strangers = ("login", "register", "password/reset", "password/reset/sent", "email/sent")
    found = [owner.get(page) for page in pages]
    found += [Client().get(f"/accounts/{name}/") for name in strangers]
    for page in found:
        assert page.status_code == 200
        html = page.content.decode()
        assert not re.search(rf"<style|\sstyle=|\son\w+=|{INLINE_SCRIPT}", html)


def test_a_forged_host_is_a_clear_400(client):
    response = client.get("/rooms/", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert "evil" not in response.headers["Content-Security-Policy"]
    response = client.get("/api/rooms", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert response.json()["error"]["code"]


def test_what_is_refused_is_one_line_of_the_log(client, caplog):
    client.get("/rooms/", headers={"Host": "evil.example"})
    assert client.post("/accounts/login/", {"login": "x" * 70_000}).status_code == 413
    assert "evil.example" in caplog.text
    assert not any(record.exc_info for record in caplog.records)


def test_a_missing_csrf_token_is_403_in_json(room, broker):
    owner, path = room
    strict = Browser(owner.user, enforce_csrf_checks=True)
    broker.taken()
    for method, address in (("POST", f"{path}/messages"), ("POST", "/api/rooms")):
        response = strict.send(method, address, {"body": "hi", "name": "hi"})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "csrf_failed")
    assert strict.send("DELETE", f"{path}/members/{owner.user.id}").status_code == 403
    assert broker.taken() == []


def test_the_page_carries_the_token_that_the_api_wants(room):
    owner, path = room
    strict = Browser(owner.user, enforce_csrf_checks=True)
    page = strict.get(path.removeprefix("/api") + "/").content.decode()
    token = re.search(r'name="csrf-token" content="(\w+)"', page)[1]
    response = strict.send("POST", f"{path}/messages", {"body": "hi"}, X_CSRFToken=token)
    assert response.status_code == 202


@pytest.mark.django_db
def test_who_is_not_logged_in_hears_that_first():
    response = Browser(enforce_csrf_checks=True).send("POST", "/api/rooms", {"name": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "not_logged_in")


def test_a_form_without_token_is_a_403_page(room):
    owner, _ = room
    response = Browser(owner.user, enforce_csrf_checks=True).post("/rooms/", {"name": "x"})
    assert response.status_code == 403
    assert "CSRF" in response.content.decode()


def test_an_error_of_ours_is_500_without_details(room, monkeypatch):
    owner, _ = room

    def fail(user):
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("webapp.rooms.selectors.memberships_of", fail)
    owner.raise_request_exception = False
    response = owner.send("GET", "/api/rooms")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "error")
    assert "secret" not in response.content.decode()
    assert owner.get("/rooms/").status_code == 500


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/", "/api/nonsense", "/api/rooms/", "/api/rooms/7"])
def test_unknown_addresses_of_the_api_are_404_in_json(client, path):
    for response in (client.get(path), client.post(path)):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.django_db
def test_unknown_pages_are_404_pages(client):
    response = client.get("/nonsense/")
    assert response.status_code == 404
    assert "Go to your rooms" in response.content.decode()


def test_no_page_and_no_answer_is_stored(room, client):
    """Back, after a log-out, would show it."""
    owner, path = room
    page = path.removeprefix("/api") + "/"
    responses = [owner.get(address) for address in (path, f"{path}/members", "/rooms/", page)]
    responses += [client.get(address) for address in (path, page, "/nonsense/", "/health/live")]
    responses += [client.get("/rooms/", headers={"Host": "evil.example"})]
    assert {response.headers["Cache-Control"] for response in responses} == {"no-store"}
    assert [response.status_code for response in responses] == [200] * 4 + [401, 302, 404, 200, 400]
