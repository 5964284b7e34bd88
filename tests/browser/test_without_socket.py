"""The page where no WebSocket comes through, in Chromium."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.support.person import Person
from tests.support.stack import Stack

# The bridge answers a handshake at this address as a proxy that knows no WebSockets would.
BLOCKED = """
globalThis.blocked = true;
const Socket = WebSocket;
globalThis.WebSocket = class extends Socket {
  constructor(url) {
    super(blocked ? new URL("/health/live", url) : url);
  }
};
"""
REFUSED_HANDSHAKE = "WebSocket connection to"


def test_messages_arrive_by_http_and_go_on_over_a_socket(backend: Stack, visit: Visit) -> None:
    site = backend.base_url
    alice, bob = Person.registered(site, "alice"), Person.registered(site, "bob")
    room_id = alice.make_room("garden")
    alice.invite(room_id, bob)
    alice.post(room_id, "before")
    reader = visit(bob)
    reader.tolerated = (REFUSED_HANDSHAKE,)
    reader.page.add_init_script(BLOCKED)
    reader.open_room("garden")
    shown = ["before"]
    reader.wait_for_texts(*shown)
    for text in ("one", "two", "three"):
        alice.post(room_id, text)
        shown.append(text)
        reader.wait_for_texts(*shown)
    reader.send("four")
    shown.append("four")
    reader.wait_for_texts(*shown)
    assert not reader.frames, "nothing came by a socket"

    reader.page.evaluate("blocked = false; dispatchEvent(new Event('online'))")
    # Presence comes by the socket alone.
    expect(reader.page.locator("#present-count")).to_have_text("1 here now")
    alice.post(room_id, "five")
    shown.append("five")
    reader.wait_for_texts(*shown)
    assert reader.texts() == shown
