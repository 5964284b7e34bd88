"""Somebody who uses chatbus as a browser does: a cookie jar, forms, the API and the socket."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import requests
from websockets.sync.client import ClientConnection, connect

from tests.support.wait import patience

PASSWORD = "correct horse battery"
SECONDS = patience(15)
_numbers = itertools.count(1)
Json = dict[str, Any]


class Person:
    """One user with one session at ``site``, the address of the web tier or of a gateway."""

    def __init__(self, site: str, name: str) -> None:
        self.site = site
        self.name = name
        self.email = f"{name}.{next(_numbers)}@example.test"
        self.session = requests.Session()
        # Forms of HTTPS pages are checked against it, so browsers always send it.
        self.session.headers["Referer"] = f"{site}/"

    @classmethod
    def registered(cls, site: str, name: str) -> Self:
        person = cls(site, name)
        person.submit(
            "/accounts/register/",
            email=person.email,
            display_name=name,
            password1=PASSWORD,
            password2=PASSWORD,
        )
        return person

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.site + path, timeout=patience(60))

    def submit(self, path: str, *, action: str | None = None, **fields: str) -> requests.Response:
        """Fills in the form on the page ``path``, which goes to ``action`` or to the page itself,
        and follows where it leads."""
        page = self.get(path)
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert found, f"no form on {path}: {page.status_code} {page.text[:200]}"
        data = fields | {"csrfmiddlewaretoken": found[1]}
        answer = self.session.post(self.site + (action or path), data=data, timeout=patience(60))
        assert answer.status_code == 200, (answer.status_code, answer.text[:500])
        assert action or answer.url != self.site + path, f"the form came back: {answer.text[:2000]}"
        return answer

    def api(self, method: str, path: str, body: Json | None = None, **headers: str) -> Any:
        """The response to a call of the API, with the CSRF token as a page's script sends it."""
        token = self.session.cookies.get("csrftoken") or ""
        return self.session.request(
            method,
            f"{self.site}/api/{path}",
            json=body,
            headers={"X-CSRFToken": token} | headers,
            timeout=patience(60),
        )

    def make_room(self, name: str) -> str:
        answer = self.api("POST", "rooms", {"name": name})
        assert answer.status_code == 201, answer.text
        room_id: str = answer.json()["id"]
        return room_id

    def invite(self, room_id: str, guest: Person) -> None:
        """Invites ``guest``, who accepts."""
        answer = self.api("POST", f"rooms/{room_id}/invitations", {"email": guest.email})
        assert answer.status_code == 202, answer.text
        guest.accept(room_id)

    def accept(self, room_id: str) -> None:
        """Accepts the invitation to the room."""
        offered = self.api("GET", "invitations").json()["invitations"]
        [invitation] = [each["id"] for each in offered if each["room"]["id"] == room_id]
        answer = self.api("POST", f"invitations/{invitation}/accept")
        assert answer.status_code == 200, answer.text

    def post(self, room_id: str, body: str) -> str:
        """Posts a message; its id."""
        answer = self.api("POST", f"rooms/{room_id}/messages", {"body": body})
        assert answer.status_code == 202, (answer.status_code, answer.text)
        message_id: str = answer.json()["id"]
        return message_id

    def history(self, room_id: str, query: str = "limit=200") -> list[Json]:
        answer = self.api("GET", f"rooms/{room_id}/messages?{query}")
        assert answer.status_code == 200, answer.text
        messages: list[Json] = answer.json()["messages"]
        return messages

    def is_served(self) -> bool:
        """Whether the web tier answers, and says that it can work."""
        try:
            return self.get("/health/ready").ok
        except requests.ConnectionError:
            return False

    def ticket(self) -> Json:
        answer = self.api("POST", "socket-ticket")
        assert answer.status_code == 200, answer.text
        ticket: Json = answer.json()
        return ticket

    def members(self, room_id: str) -> list[Json]:
        """The first page of the room's members."""
        members: list[Json] = self.api("GET", f"rooms/{room_id}/members").json()["members"]
        return members

    @contextmanager
    def open_socket(self) -> Iterator[Socket]:
        """Gets a ticket, connects with it and is let in."""
        ticket = self.ticket()
        with connect(ticket["url"], origin=self.site, max_size=None) as connection:
            socket = Socket(connection, ticket["channel"])
            socket.send(type="authenticate", ticket=ticket["ticket"])
            assert socket.next("ready")["user"]["name"] == self.name
            yield socket


class Socket:
    """A browser's socket; frames that nobody waited for are kept in ``frames``.

    ``channel`` is the id of the person's own channel.
    """

    def __init__(self, connection: ClientConnection, channel: str) -> None:
        self.connection = connection
        self.channel = channel
        self.frames: list[Json] = []

    def send(self, **frame: Any) -> None:
        self.connection.send(json.dumps(frame))

    def subscribe(self, room_id: str, since: Json | None = None) -> Json:
        self.send(type="subscribe", room_id=room_id, **({"since": since} if since else {}))
        return self.next("subscribed")

    def next(self, kind: str) -> Json:
        return self.wait_for(lambda frame: frame["type"] == kind)

    def message(self, body: str) -> Json:
        """The event frame of the message with this text."""
        return self.wait_for(
            lambda frame: frame["type"] == "event" and frame["event"]["data"].get("body") == body
        )

    def event(self, kind: str) -> Json:
        """The next frame with an event of this type."""
        return self.wait_for(
            lambda frame: frame["type"] == "event" and frame["event"]["type"] == kind
        )

    def wait_for(self, wanted: Callable[[Json], bool]) -> Json:
        while True:
            frame: Json = json.loads(self.connection.recv(timeout=SECONDS))
            self.frames.append(frame)
            if wanted(frame):
                return frame
