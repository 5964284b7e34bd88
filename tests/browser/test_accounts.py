"""The account pages in a browser: confirming an address, a passkey, logging in by it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.support.mail_folder import link_to
from tests.support.person import PASSWORD, Person
from tests.support.stack import Stack

# Nothing here goes through the servers that differ.
pytestmark = pytest.mark.parametrize("backend", ["embedded"], indirect=True)
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


def test_a_passkey_logs_in_who_has_confirmed_the_address(backend: Stack, visit: Visit) -> None:
    # Passkeys are for names, not for IP addresses.
    alice = visit(Person(backend.base_url.replace("127.0.0.1", "localhost"), "alice"))
    page = alice.page
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    alice.register()
    page.goto(link_to(backend, alice.person.email, "/accounts/email/confirm/"))
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("is confirmed.")).to_be_visible()

    page.get_by_role("link", name="Factors").click()
    page.locator("section", has_text="Security Keys").get_by_role("link", name="Add").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Passwordless").check()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", name="Recovery Codes")).to_be_visible()

    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("/rooms/")
