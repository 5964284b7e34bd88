"""How the page's socket client keeps the protocol (docs/protocol.md), against a fake bridge."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Request, Route, expect

from tests.browser.conftest import Visit
from tests.browser.fake_bridge import EPOCH, FakeBridge, Json
from tests.browser.visitor import Visitor
from tests.support.person import Person
from tests.support.stack import Stack
from tests.support.wait import wait_until

# The bridge is a fake one, so the servers behind it make no difference.
pytestmark = pytest.mark.parametrize("backend", ["embedded"], indirect=True)

TICKETS = "**/api/socket-ticket"


@pytest.fixture(scope="module")
def alice(backend: Stack) -> Person:
    return Person.registered(backend.base_url, "alice")


@pytest.fixture
def room(alice: Person) -> str:
    return alice.make_room("garden")


@pytest.fixture
def visitor(alice: Person, room: str, visit: Visit) -> Visitor:
    return visit(alice)


@pytest.fixture
def bridge(visitor: Visitor, room: str) -> FakeBridge:
    """It has authenticated the room's page, which has asked for the room's log."""
    bridge = FakeBridge(visitor)
    visitor.page.goto(f"/rooms/{room}/")
    return bridge


def posted(number: int) -> Json:
    return {
        "v": 1,
        "id": f"01900000-0000-7000-8000-{number:012d}",
        "type": "message.posted",
        "actor": {"id": 7, "name": "bob"},
        "at": "2024-06-15T10:00:00.000Z",
        "data": {"body": f"live {number}"},
    }


def event(room: str, number: int) -> dict[str, Any]:
    return {"room_id": room, "epoch": EPOCH, "offset": number, "event": posted(number)}


def test_resync_takes_a_fresh_ticket_and_resumes(
    visitor: Visitor, bridge: FakeBridge, room: str
) -> None:
    first = bridge.wait_for("authenticate")
    assert "since" not in bridge.admit()
    bridge.send("event", **event(room, 1))
    visitor.wait_for_texts("live 1")

    bridge.send("unsubscribed", room_id=room, reason="resync")
    assert bridge.wait_for("authenticate")["ticket"] != first["ticket"]
    again = bridge.admit(posted(2), offset=2)
    assert again["since"] == {"epoch": EPOCH, "offset": 1}
    visitor.wait_for_texts("live 1", "live 2")


def test_a_hole_is_asked_for_and_a_repetition_is_not_shown(
    visitor: Visitor, bridge: FakeBridge, room: str
) -> None:
    bridge.admit()
    bridge.send("unsubscribed", room_id=room, reason="requested")  # means nothing here
    bridge.send("event", **event(room, 1))
    bridge.send("event", **event(room, 3))
    again = bridge.admit(posted(1), posted(2), posted(3), offset=3)
    assert again["since"] == {"epoch": EPOCH, "offset": 1}
    bridge.send("event", **event(room, 3))
    bridge.send("event", **event(room, 4))
    visitor.wait_for_texts("live 1", "live 2", "live 3", "live 4")


def test_what_cannot_be_recovered_is_read_from_the_history(
    visitor: Visitor, bridge: FakeBridge, room: str, alice: Person
) -> None:
    stored = [f"stored {number}" for number in range(60)]
    bridge.admit()
    bridge.send("event", **event(room, 1))
    visitor.wait_for_texts("live 1")
    for text in stored:
        alice.post(room, text)
    wait_until(lambda: len(alice.history(room)) == len(stored), what="all are stored")

    bridge.close(1012)
    assert bridge.admit(offset=99, recovered=False)["since"] == {"epoch": EPOCH, "offset": 1}
    visitor.wait_for_texts(*stored[-50:])
    # The same once more, now that the page has older messages to page to. The newest event is
    # one that the history does not have yet.
    newest = posted(2) | {"id": "ffffffff-0000-7000-8000-000000000000"}
    bridge.close(1012)
    bridge.admit(newest, offset=100, recovered=False)
    visitor.wait_for_texts(*stored[-50:], "live 2")


def test_a_flood_is_followed_until_the_reader_scrolls_up(
    visitor: Visitor, bridge: FakeBridge, room: str
) -> None:
    scroller = visitor.page.locator("#scroller")
    bridge.admit()
    for number in range(1, 301):
        bridge.send("event", **event(room, number))
    expect(visitor.page.get_by_text("live 300", exact=True)).to_be_in_viewport()
    assert scroller.evaluate("node => node.scrollTop") > 1_000

    scroller.evaluate("node => (node.scrollTop -= 500)")
    expect(visitor.page.get_by_text("live 300", exact=True)).not_to_be_in_viewport()
    before = scroller.evaluate("node => node.scrollTop")
    for number in range(301, 401):
        bridge.send("event", **event(room, number))
    visitor.wait_until(lambda: "live 400" in visitor.texts(), "all have arrived")
    assert scroller.evaluate("node => node.scrollTop") == before
    visitor.page.get_by_role("button", name="New messages").click()
    expect(visitor.page.get_by_text("live 400", exact=True)).to_be_in_viewport()


def test_what_came_before_a_late_socket_is_not_missing(
    visitor: Visitor, bridge: FakeBridge, room: str, alice: Person
) -> None:
    """The page has read the history before it could follow the room."""
    visitor.wait_until(lambda: bridge.received, "the page asks for the room")
    first = alice.post(room, "early")
    visitor.wait_for_texts("early")
    between = [alice.post(room, "in between"), alice.post(room, "last")]
    wait_until(lambda: len(alice.history(room)) == 3, what="all are stored")
    last = posted(1) | {"id": between[-1], "data": {"body": "last"}}
    bridge.admit(last, offset=3)
    visitor.wait_for_texts("early", "in between", "last")
    assert first < between[0]


def test_not_a_member_even_with_a_fresh_ticket(
    visitor: Visitor, bridge: FakeBridge, room: str
) -> None:
    for _ in range(2):
        bridge.wait_for("authenticate")
        bridge.wait_for("subscribe")
        bridge.send("error", code="forbidden", room_id=room, message="You are not a member.")
    expect(visitor.page.get_by_text("You are not a member of this room.")).to_be_visible()


def test_unavailable_is_asked_again(visitor: Visitor, bridge: FakeBridge, room: str) -> None:
    bridge.wait_for("subscribe")
    bridge.send("error", code="unavailable", room_id=room, message="Redis cannot be asked now.")
    bridge.admit(posted(1), offset=1)
    visitor.wait_for_texts("live 1")


def test_the_ticket_is_renewed_in_time(visitor: Visitor, room: str) -> None:
    bridge = FakeBridge(visitor, refresh_in=1)
    visitor.page.goto(f"/rooms/{room}/")
    tickets = {bridge.wait_for("authenticate")["ticket"] for _ in range(3)}
    assert len(tickets) == 3
    assert visitor.connection.text_content() == "Connected"


def test_a_renewal_that_fails_backs_off(visitor: Visitor, room: str) -> None:
    visitor.tolerated = ("status of 503",)
    bridge = FakeBridge(visitor, refresh_in=1)
    asked: list[float] = []

    def answer(route: Route) -> None:
        asked.append(time.monotonic())
        if 2 <= len(asked) <= 3:
            route.fulfill(status=503, headers={"Retry-After": "3"}, json={})
        else:
            route.continue_()

    visitor.page.route(TICKETS, answer)
    visitor.page.goto(f"/rooms/{room}/")
    assert bridge.wait_for("authenticate")["ticket"] != bridge.wait_for("authenticate")["ticket"]
    assert len(asked) == 4
    assert all(later - earlier >= 3 for earlier, later in pairwise(asked[1:]))
    assert visitor.connection.text_content() == "Connected"


class HangingTicket:
    """The page's first request for a ticket stays unanswered; the others are not touched."""

    def __init__(self, visitor: Visitor) -> None:
        self.hanging: Route | None = None
        self._failed: list[Request] = []
        visitor.page.route(TICKETS, self._take)
        visitor.page.on("requestfailed", self._note_failed)

    def _take(self, route: Route) -> None:
        if self.hanging is None:
            self.hanging = route
        else:
            route.continue_()

    def _note_failed(self, request: Request) -> None:
        self._failed.append(request)

    def answer_late(self) -> None:
        """With a ticket for another bridge."""
        assert self.hanging
        assert not self._failed, "the browser has given it up"
        self.hanging.fulfill(json={"ticket": "late", "url": "ws://late.example/"})


def test_a_ticket_that_does_not_come_is_given_up(visitor: Visitor, room: str) -> None:
    """Also where ``getTicket`` itself waits for ever, as this page's does not."""
    bridge = FakeBridge(visitor)
    ticket = HangingTicket(visitor)
    visitor.page.clock.install()
    visitor.page.add_init_script("AbortSignal.timeout = () => new AbortController().signal")
    visitor.page.goto(f"/rooms/{room}/")
    visitor.wait_until(lambda: ticket.hanging, "the page asks for a ticket")
    visitor.page.clock.fast_forward(30_000)
    bridge.wait_for("authenticate")
    ticket.answer_late()
    bridge.admit(posted(1), offset=1)
    visitor.wait_for_texts("live 1")
    assert not bridge.received


def test_when_the_network_is_back_it_does_not_wait_for_an_older_attempt(
    visitor: Visitor, room: str
) -> None:
    bridge = FakeBridge(visitor)
    ticket = HangingTicket(visitor)
    visitor.page.goto(f"/rooms/{room}/")
    visitor.wait_until(lambda: ticket.hanging, "the page asks for a ticket")
    visitor.page.evaluate("dispatchEvent(new Event('online'))")
    bridge.wait_for("authenticate")
    ticket.answer_late()
    bridge.admit(posted(1), offset=1)
    visitor.wait_for_texts("live 1")
    assert not bridge.received


def test_a_refused_ticket_is_final(visitor: Visitor, room: str) -> None:
    """The page's token is not the session's any more, which only a new page mends."""
    visitor.tolerated = ("status of 403",)
    visitor.page.route(TICKETS, lambda route: route.fulfill(status=403, json={}))
    visitor.page.goto(f"/rooms/{room}/")
    expect(visitor.page.get_by_text("refused this page's connection. Reload")).to_be_visible()
    expect(visitor.connection).to_have_text("Not connected")


def test_after_a_refusal_it_does_not_connect_again(
    visitor: Visitor, bridge: FakeBridge, room: str
) -> None:
    bridge.admit()
    visitor.wait_until_connected()
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    bridge.close(4403)
    expect(visitor.page.get_by_text("refused this page's connection")).to_be_visible()
    expect(visitor.connection).to_have_text("Not connected")
    # Nor when the network comes back, which otherwise connects at once.
    visitor.page.evaluate("dispatchEvent(new Event('online')); fetch('/api/rooms')")
    visitor.wait_until(lambda: any(url.endswith("/rooms") for url in asked), "the fetch is seen")
    assert not [url for url in asked if url.endswith("socket-ticket")]


def test_the_network_comes_back(visitor: Visitor, bridge: FakeBridge, room: str) -> None:
    visitor.tolerated = ("ERR_INTERNET_DISCONNECTED",)
    bridge.admit()
    visitor.wait_until_connected()
    visitor.page.context.set_offline(True)
    bridge.close(1012)
    expect(visitor.connection).not_to_have_text("Connected")
    visitor.page.context.set_offline(False)
    assert bridge.admit(posted(1), offset=1)["since"] == {"epoch": EPOCH, "offset": 0}
    visitor.wait_for_texts("live 1")


def test_logged_out_in_another_tab(visitor: Visitor, bridge: FakeBridge) -> None:
    visitor.tolerated = ("status of 401",)
    bridge.admit()
    visitor.wait_until_connected()
    visitor.page.context.clear_cookies()
    bridge.close(4401)
    expect(visitor.page.get_by_text("You are logged out.")).to_be_visible()
