"""A bridge inside Playwright: the test decides what the page's sockets get."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import WebSocketRoute

from tests.browser.visitor import Json, Visitor

EPOCH = "e1"


class FakeBridge:
    """Takes the sockets that ``visitor``'s page opens from now on. It lets everybody in; what
    else it says the test says. ``received`` is what the page sent, over all sockets."""

    def __init__(self, visitor: Visitor, refresh_in: int = 600) -> None:
        self._visitor = visitor
        self._refresh_in = refresh_in
        self._socket: WebSocketRoute | None = None
        self.received: list[Json] = []
        visitor.page.route_web_socket(re.compile("^ws://"), self._on_socket)

    def send(self, kind: str, **fields: Any) -> None:
        assert self._socket
        self._socket.send(json.dumps({"type": kind} | fields))

    def close(self, code: int) -> None:
        assert self._socket
        self._socket.close(code=code)

    def wait_for(self, kind: str) -> Json:
        """The next frame of this kind from the page; the ones before it are dropped."""

        def find() -> bool:
            while self.received and self.received[0]["type"] != kind:
                self.received.pop(0)
            return bool(self.received)

        self._visitor.wait_until(find, f"the page sends {kind}")
        return self.received.pop(0)

    def admit(self, *events: Json, offset: int = 0, recovered: bool = True) -> Json:
        """Answers the page's next subscription; returns that."""
        frame = self.wait_for("subscribe")
        self.send(
            "subscribed",
            room_id=frame["room_id"],
            epoch=EPOCH,
            offset=offset,
            recovered=recovered,
            events=list(events),
        )
        return frame

    def _on_socket(self, socket: WebSocketRoute) -> None:
        self._socket = socket
        socket.on_message(self._on_message)

    def _on_message(self, text: str | bytes) -> None:
        frame = json.loads(text)
        self.received.append(frame)
        if frame["type"] == "authenticate":
            user = {"id": 1, "name": "somebody"}
            self.send("ready", user=user, refresh_in=self._refresh_in)
        if frame["type"] == "ping":
            self.send("pong")
