"""Bad input: the page says what is wrong and keeps what was typed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.support.person import PASSWORD, Person
from tests.support.stack import Stack

# Nothing here goes through the servers that differ.
pytestmark = pytest.mark.parametrize("backend", ["embedded"], indirect=True)


def test_register(backend: Stack, visit: Visit) -> None:
    taken = Person.registered(backend.base_url, "taken")
    taken.session.cookies.clear()
    page = visit(taken).page
    page.goto("/accounts/register/")
    for email, error in (("no address", "valid email"), (taken.email, "There is an account")):
        page.get_by_label("E-mail").fill(email)
        page.get_by_label("Display name").fill("Somebody")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again").fill("another one")
        page.get_by_role("button", name="Register").click()
        expect(page.get_by_role("alert").first).to_contain_text(error)
        expect(page.get_by_text("You must type the same password each time.")).to_be_visible()
        expect(page.get_by_label("E-mail")).to_have_value(email)
        expect(page.get_by_label("Display name")).to_have_value("Somebody")


def test_log_in(backend: Stack, visit: Visit) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    alice.session.cookies.clear()
    page = visit(alice).page
    page.goto(f"/rooms/{room}/")
    page.get_by_label("E-mail").fill(alice.email)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not match an account")
    expect(page.get_by_label("E-mail")).to_have_value(alice.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"/rooms/{room}/")


def test_room_message_and_invitation(backend: Stack, visit: Visit) -> None:
    alice = visit(Person(backend.base_url, "alice"))
    alice.tolerated = ("status of 400",)
    page = alice.page
    alice.register()
    too_long = "x" * 101
    page.get_by_label("Make a room").evaluate("node => node.removeAttribute('maxlength')")
    page.get_by_label("Make a room").fill(too_long)
    page.get_by_role("button", name="Create room").click()
    expect(page.get_by_role("alert")).to_contain_text("100")
    expect(page.get_by_label("Make a room")).to_have_value(too_long)
    page.get_by_label("Make a room").fill("\u3164")
    page.get_by_role("button", name="Create room").click()
    expect(page.get_by_role("alert")).to_contain_text("invisible character in it (U+3164)")

    alice.make_room("garden")
    page.get_by_label("Invite by e-mail").fill("no address")
    page.get_by_role("button", name="Invite").click()
    expect(page.locator("#invite-note")).to_contain_text(re.compile("address", re.IGNORECASE))
    expect(page.get_by_label("Invite by e-mail")).to_have_value("no address")

    field, send = page.get_by_label("Message", exact=True), page.get_by_role("button", name="Send")
    field.fill("   ")
    expect(send).to_be_disabled()
    field.fill("🙂" * 4_001)
    expect(send).to_be_disabled()
    expect(page.get_by_text("4001 of 4000 characters")).to_be_visible()
    field.press("Enter")
    expect(field).to_have_value("🙂" * 4_001)
    field.fill("\u200b")
    field.press("Enter")
    expect(page.get_by_text("Not sent. The message is empty")).to_be_visible()
    assert alice.texts() == []


def test_a_message_that_cannot_be_posted_can_be_sent_again(backend: Stack, visit: Visit) -> None:
    alice = visit(Person(backend.base_url, "alice"))
    alice.tolerated = ("status of 503",)
    alice.register()
    room = alice.make_room("garden")
    path = f"**/api/rooms/{room}/messages"
    error = {"error": {"code": "unavailable", "message": "The broker is away."}}
    alice.page.route(path, lambda route: route.fulfill(status=503, json=error))
    alice.send("try me again")
    expect(alice.page.get_by_text("Not sent. The broker is away.")).to_be_visible()
    assert alice.texts() == []
    alice.page.unroute(path)
    alice.page.get_by_role("button", name="Try again").click()
    alice.wait_for_texts("try me again")
    expect(alice.page.get_by_text("Not sent.")).to_have_count(0)
