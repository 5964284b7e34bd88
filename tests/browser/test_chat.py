"""People chat through the pages, in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.support.person import Person
from tests.support.stack import Stack
from tests.support.wait import wait_until


@pytest.fixture(params=["web", "gateway"])
def site(request: pytest.FixtureRequest, backend: Stack) -> str:
    """The same pages, answered by the web tier or held by the gateway."""
    return backend.base_url if request.param == "web" else backend.gateway_url


def test_two_in_a_room_see_each_other_and_a_third_sees_nothing(site: str, visit: Visit) -> None:
    alice, bob, carol = (visit(Person(site, name)) for name in ("alice", "bob", "carol"))
    for visitor in (alice, bob, carol):
        visitor.register()
    room = alice.make_room("garden")
    alice.invite(bob.person.email)
    bob.accept("garden")
    carol.make_room("elsewhere")

    alice.send("hello bob")
    bob.wait_for_texts("hello bob")
    bob.send("hello alice")
    alice.wait_for_texts("hello bob", "hello alice")
    talk = [f"{name} says {number}" for number in range(5) for name in ("alice", "bob")]
    for text in talk:
        (alice if text.startswith("alice") else bob).send(text)
    for visitor in (alice, bob):
        visitor.wait_for_texts("hello bob", "hello alice", *talk)
        assert visitor.texts()[:2] == ["hello bob", "hello alice"]
    assert alice.texts() == bob.texts()
    own = [text for text in alice.texts() if text.startswith("alice")]
    assert own == [text for text in talk if text.startswith("alice")]

    carol.send("all alone")
    carol.wait_for_texts("all alone")
    assert "all alone" in str(carol.frames)
    assert room not in str(carol.frames)


def test_who_is_here_and_who_is_typing(backend: Stack, visit: Visit) -> None:
    people = [Person.registered(backend.base_url, name) for name in ("alice", "bob")]
    room = people[0].make_room("garden")
    people[0].invite(room, people[1])
    alice, bob = (visit(person) for person in people)
    for visitor in (alice, bob):
        visitor.open_room("garden")
    here = alice.page.locator(".member.present .member-name")
    expect(here).to_have_text(["alice", "bob"])
    expect(alice.page.locator("#present-count")).to_have_text("2 here now")

    bob.page.get_by_label("Message", exact=True).press_sequentially("hi")
    expect(alice.page.locator("#typing")).to_have_text("bob is typing…")
    expect(bob.page.locator("#typing")).to_be_empty()
    bob.page.get_by_label("Message", exact=True).press("Enter")
    alice.wait_for_texts("hi")
    expect(alice.page.locator("#typing")).to_be_empty()

    bob.page.close()
    expect(here).to_have_text(["alice"])


def test_history_stays_and_is_paged_by_scrolling(backend: Stack, visit: Visit) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    posted = [f"message {number}" for number in range(120)]
    for text in posted:
        alice.post(room, text)
    wait_until(lambda: len(alice.history(room)) == len(posted), what="all are stored")

    reader = visit(alice)
    reader.open_room("garden")
    reader.wait_for_texts(*posted[-50:])
    reader.page.reload()
    reader.wait_for_texts(*posted[-50:])
    expect(reader.page.get_by_text(posted[-1], exact=True)).to_be_in_viewport()

    scroller = reader.page.locator("#scroller")
    for shown in (100, 120):
        scroller.evaluate("node => (node.scrollTop = 0)")
        reader.wait_for_texts(*posted[-shown:])
        # The reader still looks at what was the oldest message before.
        assert scroller.evaluate("node => node.scrollTop") > 0
    assert reader.texts() == posted
    expect(reader.page.get_by_role("button", name="Load older messages")).to_be_hidden()


ODD_TEXTS = (
    "<script>alert('x')</script>",
    "<img src=x onerror=alert(1)> &amp; \"quotes\" 'n' {{ braces }} ${x}",
    "two\nlines\n\n    and an indented one",
    "🙂 👩‍👩‍👧‍👦 🇩🇪 é 你好 مرحبا",
    "javascript:alert(1) https://example.test/?a=1&b=<2>",
    "long" * 900,
)


def test_text_is_shown_as_text(backend: Stack, visit: Visit) -> None:
    name = "<b onclick=alert(1)>Eve</b>"
    eve = visit(Person(backend.base_url, name))
    eve.person.email = "eve.markup@example.test"
    eve.register()
    eve.make_room("<i>room</i> & co")
    for text in ODD_TEXTS:
        eve.send(text)
        eve.wait_until(lambda text=text: text in eve.texts(), f"{text[:50]!r} is shown")
    eve.page.reload()
    eve.wait_for_texts(*ODD_TEXTS)
    assert eve.texts() == list(ODD_TEXTS)
    expect(eve.page.locator("#messages .author").first).to_have_text(name)
    expect(eve.page.locator(".member-name")).to_have_text(name)
    expect(eve.page.get_by_role("heading", name="<i>room</i> & co")).to_be_visible()
    # Lines are kept, and nothing makes the page wider than the window.
    lines = eve.page.locator("#messages .text", has_text="two")
    assert lines.evaluate("node => node.clientHeight") > 4 * 20
    assert eve.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_page_makes_the_browser_complain(backend: Stack, visit: Visit) -> None:
    """The fixture looks at the consoles; here are the pages that no other test opens."""
    dave = visit(Person(backend.base_url, "dave"))
    dave.tolerated = ("status of 404", "status of 403")
    dave.register()
    dave.page.goto("/nowhere/")
    expect(dave.page.get_by_text("There is nothing at this address.")).to_be_visible()
    other = Person.registered(backend.base_url, "other").make_room("private")
    dave.page.goto(f"/rooms/{other}/")
    expect(dave.page.get_by_text("You are not a member of this room.")).to_be_visible()
    dave.page.get_by_role("link", name="Go to your rooms").click()
    expect(dave.page.get_by_text("No rooms yet")).to_be_visible()
    dave.page.get_by_role("button", name="Log out").click()
    dave.page.wait_for_url("/accounts/login/")


def test_the_bridge_is_killed_and_nothing_is_missing_or_doubled(
    backend: Stack, visit: Visit
) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    alice.post(room, "before")
    reader = visit(alice)
    reader.tolerated = ("WebSocket connection to",)
    reader.open_room("garden")
    reader.wait_for_texts("before")
    reader.page.evaluate(RECORD_STATES)

    seen = len(reader.frames)
    pid = backend.kill("bridge")
    missed = [f"while away {number}" for number in range(5)]
    for text in missed:
        alice.post(room, text)
    backend.wait_until_replaced("bridge", pid)
    reader.wait_until_connected()
    alice.post(room, "after")
    reader.wait_for_texts("before", *missed, "after")

    assert "Connection lost, trying again…" in reader.page.evaluate("window.states")
    [answer] = [frame for frame in reader.frames[seen:] if frame["type"] == "subscribed"]
    assert answer["recovered"]
    assert [event["data"]["body"] for event in answer["events"]] == missed
    assert reader.texts() == ["before", *missed, "after"]


RECORD_STATES = """
    const node = document.getElementById("connection");
    window.states = [];
    const record = () => window.states.push(node.textContent);
    new MutationObserver(record).observe(node, { childList: true });
"""


def test_who_is_removed_is_told_and_sees_nothing_of_what_follows(
    backend: Stack, visit: Visit
) -> None:
    alice, bob = (visit(Person(backend.base_url, name)) for name in ("alice", "bob"))
    bob.tolerated = ("status of 403",)
    for visitor in (alice, bob):
        visitor.register()
    alice.make_room("garden")
    alice.invite(bob.person.email)
    bob.accept("garden")
    alice.send("hello bob")
    bob.wait_for_texts("hello bob")

    alice.remove("bob")
    alice.send("bob is gone")
    alice.wait_for_texts("hello bob", "bob is gone")
    expect(bob.page.get_by_text("You are no longer a member of this room.")).to_be_visible()
    expect(bob.page.get_by_role("button", name="Send")).to_be_hidden()
    assert bob.texts() == ["hello bob"]
    assert "bob is gone" not in str(bob.frames)
    bob.page.reload()
    expect(bob.page.get_by_text("You are not a member of this room.")).to_be_visible()
    assert "bob is gone" not in bob.page.content()
