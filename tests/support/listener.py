"""A page that shows rooms: the browser's socket client and its list of messages, as a thread.

It keeps the protocol as ``chatbus-client.js`` and ``history.js`` do: it resumes from its position,
shows each event once, and pages the history when the room's log could not tell what was missed.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.support.person import Json, Person

TURN = 0.2
TIMEOUT = 15.0
PING_EVERY = 5.0
SILENCE = 15.0
LONGEST_DELAY = 2.0
HISTORY_EVERY = 0.5


class Lost(Exception):
    """The connection is of no more use; the next one resumes."""


@dataclass(slots=True)
class View:
    """What the page knows of one room."""

    room_id: str
    position: Json | None = None
    subscribing: bool = False
    seen: set[str] = field(default_factory=set)
    messages: dict[str, str] = field(default_factory=dict)
    """Id → text, as on the page."""
    pushed: list[tuple[str, int, str]] = field(default_factory=list)
    """Epoch, offset and event id of all that the bridge sent, also what the page had."""
    resets: int = 0
    oldest_live: str | None = None
    history_from: float | None = None
    """When to load the history, if that is due."""

    def reset(self) -> None:
        """Events were missed that the log cannot tell."""
        self.resets += 1
        self.seen.clear()
        self.messages.clear()
        self.oldest_live = None
        self.history_from = time.monotonic()

    def show(self, event: Json) -> None:
        if event["id"] in self.seen:
            return
        self.seen.add(event["id"])
        if event["type"] == "message.posted":
            self.oldest_live = min(self.oldest_live or event["id"], event["id"])
            self.messages[event["id"]] = event["data"]["body"]

    def pushed_twice(self) -> dict[tuple[str, str], set[int]]:
        """The events that one life of the log has at more than one offset."""
        offsets: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for epoch, offset, event_id in self.pushed:
            offsets[epoch, event_id].add(offset)
        return {event: found for event, found in offsets.items() if len(found) > 1}

    def in_log_order(self) -> list[str]:
        """The events in the order of their offsets, one life of the log after another."""
        lives = list(dict.fromkeys(epoch for epoch, _, _ in self.pushed))
        ids = {(lives.index(epoch), offset): event_id for epoch, offset, event_id in self.pushed}
        return [ids[place] for place in sorted(ids)]


class Listener(threading.Thread):
    """Follows ``room_ids`` as ``person`` until ``stop``; whatever breaks, it connects again.

    It goes where its tickets say, or to ``bridge_url``.
    """

    def __init__(self, person: Person, room_ids: list[str], bridge_url: str | None = None) -> None:
        super().__init__(name="listener", daemon=True)
        self.views = {room_id: View(room_id) for room_id in room_ids}
        self.losses: list[str] = []
        self.failure: BaseException | None = None
        self._person = person
        self._bridge_url = bridge_url
        self._stopped = threading.Event()
        self._attempts = 0

    @property
    def is_following(self) -> bool:
        """Whether it has been told every room's position once."""
        return all(view.position for view in self.views.values())

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._follow()
                except (Lost, requests.RequestException, WebSocketException, OSError) as error:
                    self.losses.append(f"{time.strftime('%H:%M:%S')} {error!r}")
                    self._attempts += 1
                    bound = min(LONGEST_DELAY, 0.1 * 2**self._attempts)
                    self._stopped.wait(random.uniform(0, bound))
        except Exception as error:  # noqa: BLE001 - whoever waits for this thread raises it
            self.failure = error

    def _follow(self) -> None:
        """One connection, from its ticket to its end."""
        ticket = self._call("POST", "socket-ticket")
        with connect(
            self._bridge_url or ticket["url"],
            origin=self._person.site,
            max_size=None,
            close_timeout=1,
        ) as socket:
            _send(socket, type="authenticate", ticket=ticket["ticket"])
            heard = pinged = time.monotonic()
            while not self._stopped.is_set():
                self._load_histories()
                now = time.monotonic()
                if now - heard > SILENCE:
                    raise Lost("the bridge is silent")
                if now - pinged > PING_EVERY:
                    _send(socket, type="ping")
                    pinged = now
                try:
                    frame = json.loads(socket.recv(timeout=TURN))
                except TimeoutError:
                    continue
                heard = time.monotonic()
                self._receive(socket, frame)

    def _receive(self, socket: ClientConnection, frame: Json) -> None:
        match frame["type"]:
            case "ready":
                for view in self.views.values():
                    self._ask_for(socket, view)
            case "subscribed":
                self._attempts = 0
                _subscribed(self.views[frame["room_id"]], frame)
            case "event":
                view = self.views[frame["room_id"]]
                view.pushed.append((frame["epoch"], frame["offset"], frame["event"]["id"]))
                if not _advanced(view, frame):
                    self._ask_for(socket, view)
            case "unsubscribed" | "error":
                # A fresh ticket and the last position are the answer to each of them.
                raise Lost(json.dumps(frame))

    def _ask_for(self, socket: ClientConnection, view: View) -> None:
        view.subscribing = True
        since = {"since": view.position} if view.position else {}
        _send(socket, type="subscribe", room_id=view.room_id, **since)

    def _load_histories(self) -> None:
        for view in self.views.values():
            if view.history_from is not None and time.monotonic() >= view.history_from:
                view.history_from = time.monotonic() + HISTORY_EVERY
                self._load_history(view)

    def _load_history(self, view: View) -> None:
        """All pages. The store may be behind the socket: then it is asked again."""
        before, newest = "", ""
        while True:
            page = self._call("GET", f"rooms/{view.room_id}/messages?limit=200{before}")
            stored = {message["id"]: message["body"] for message in page["messages"]}
            view.messages |= stored
            newest = max([newest, *stored])
            if not page["has_more"]:
                break
            before = f"&before={min(stored)}"
        if newest >= (view.oldest_live or ""):
            view.history_from = None

    def _call(self, method: str, path: str) -> Any:
        session = self._person.session
        answer = session.request(
            method,
            f"{self._person.site}/api/{path}",
            headers={"X-CSRFToken": session.cookies["csrftoken"]},
            timeout=TIMEOUT,
        )
        if answer.status_code != requests.codes.ok:
            raise Lost(f"{path} was answered {answer.status_code}")
        return answer.json()


def _send(socket: ClientConnection, **frame: Any) -> None:
    socket.send(json.dumps(frame))


def _subscribed(view: View, frame: Json) -> None:
    if view.position and not frame["recovered"]:
        view.reset()
    view.subscribing = False
    view.position = {"epoch": frame["epoch"], "offset": frame["offset"]}
    first = frame["offset"] - len(frame["events"]) + 1
    for offset, event in enumerate(frame["events"], first):
        view.pushed.append((frame["epoch"], offset, event["id"]))
        view.show(event)


def _advanced(view: View, frame: Json) -> bool:
    """Takes an event in; False if others are missing before it."""
    if view.subscribing or not view.position:
        return True  # the answer to the subscription will contain it
    epoch, offset = view.position["epoch"], view.position["offset"]
    if frame["epoch"] != epoch or frame["offset"] > offset + 1:
        return False
    if frame["offset"] == offset + 1:
        view.position = {"epoch": epoch, "offset": frame["offset"]}
        view.show(frame["event"])
    return True
