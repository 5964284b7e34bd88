"""A person with a browser window, who uses nothing but the pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Locator, WebSocket, expect

from tests.support.person import PASSWORD, Person
from tests.support.wait import patience, wait_until

SECONDS = patience(20)
Json = dict[str, Any]


class Visitor:
    """``person`` in front of a page, logged in if they are so already.

    ``complaints`` is what the browser's console says of it: script errors, violations of the
    Content-Security-Policy, failed requests, dialogs that nobody asked for; except what contains
    one of ``tolerated``. ``frames`` is what came by its sockets.
    """

    def __init__(self, context: BrowserContext, person: Person) -> None:
        context.set_default_timeout(SECONDS * 1000)
        self.person = person
        cookies = person.session.cookies.items()
        context.add_cookies(
            [{"name": name, "value": value, "url": person.site} for name, value in cookies]
        )
        self.page = context.new_page()
        self.frames: list[Json] = []
        self.tolerated: tuple[str, ...] = ()
        self._complaints: list[str] = []
        self._confirms = False
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._complaints.append(str(error)))
        self.page.on("dialog", self._on_dialog)
        self.page.on("websocket", self._on_socket)

    @property
    def complaints(self) -> list[str]:
        return [
            complaint
            for complaint in self._complaints
            if not any(text in complaint for text in self.tolerated)
        ]

    # Accounts and rooms

    def register(self) -> None:
        self.page.goto("/accounts/register/")
        self.page.get_by_label("E-mail").fill(self.person.email)
        self.page.get_by_label("Display name").fill(self.person.name)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_label("Password again").fill(PASSWORD)
        self.page.get_by_role("button", name="Register").click()
        self.page.wait_for_url("/rooms/")

    def make_room(self, name: str) -> str:
        """Makes a room and is on its page; returns its id."""
        self.page.goto("/rooms/")
        self.page.get_by_label("Make a room").fill(name)
        self.page.get_by_role("button", name="Create room").click()
        self.wait_until_connected()
        return self.page.url.rstrip("/").rpartition("/")[2]

    def invite(self, email: str) -> None:
        self.page.get_by_label("Invite by e-mail").fill(email)
        self.page.get_by_role("button", name="Invite").click()
        expect(self.page.get_by_text(f"{email} is invited")).to_be_visible()

    def accept(self, room: str) -> None:
        """Accepts the invitation to the room of that name."""
        self.page.goto("/rooms/")
        self.page.get_by_role("button", name=f"Accept the invitation to {room}").click()
        self.wait_until_connected()

    def remove(self, name: str) -> None:
        """Takes a member out of the room, and means it."""
        self._confirms = True
        self.page.get_by_role("button", name=f"Remove {name}").click()
        expect(self.page.get_by_role("button", name=f"Remove {name}")).to_have_count(0)
        self._confirms = False

    def open_room(self, name: str) -> None:
        self.page.goto("/rooms/")
        self.page.get_by_role("link", name=name).click()
        self.wait_until_connected()

    def wait_until_connected(self) -> None:
        expect(self.connection).to_have_text("Connected")

    @property
    def connection(self) -> Locator:
        return self.page.locator("#connection")

    # Messages

    def send(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.get_by_label("Message", exact=True).press("Enter")

    def texts(self) -> list[str]:
        """What the room shows, from top to bottom."""
        texts: list[str] = self.page.locator("#messages .text").all_text_contents()
        return texts

    def wait_for_texts(self, *texts: str) -> None:
        """Waits until the room shows just these, in any order."""
        self.wait_until(lambda: sorted(self.texts()) == sorted(texts), f"{texts} are shown")

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for what the page's events bring about: Playwright delivers them when asked."""
        wait_until(lambda: self.page.evaluate("true") and condition(), what=what)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(message.text)

    def _on_dialog(self, dialog: Dialog) -> None:
        if self._confirms:
            dialog.accept()
        else:
            self._complaints.append(f"dialog: {dialog.message}")
            dialog.dismiss()

    def _on_socket(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: self.frames.append(json.loads(frame)))
