"""Events, a bridge on a thread, and a browser's side of the socket, for the tests beside."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Self

import pytest
import uvloop
from websockets.exceptions import ConnectionClosed
from websockets.extensions import ClientExtensionFactory
from websockets.sync.client import connect

from bridge.server import run
from bridge.settings import BridgeSettings
from bus import events
from bus.events import MemberAdded, MemberRemoved, MessagePosted, Person
from bus.rooms.model import Position
from bus.ticket import KeySet
from tests.support.ports import HOST, free_port
from tests.support.wait import patience, wait_until

ORIGIN = "http://chat.test"
KEYS = KeySet((("test", "a-secret-of-32-characters-or-more"),))
SECONDS = patience(10)


def posted(room_id: uuid.UUID, body: str = "hi") -> MessagePosted:
    return _event(MessagePosted, room_id, events.PostedData(body))


def removed(room_id: uuid.UUID, user_id: int) -> MemberRemoved:
    return _event(MemberRemoved, room_id, events.RemovedData(Person(user_id, "u")))


def added(room_id: uuid.UUID, user_id: int) -> MemberAdded:
    return _event(MemberAdded, room_id, events.RoleData(Person(user_id, "u"), "member"))


def _event(kind: Callable[..., events.Kind], room_id: uuid.UUID, data: object) -> events.Kind:
    return events.make(kind, room_id=room_id, actor=Person(1, "alice"), data=data)


def bodies(frames: Iterable[Any]) -> list[str]:
    """The texts of the messages in ``frames`` (dicts) or among events."""
    return [frame.get("event", frame)["data"]["body"] for frame in frames]


def ticket(
    user_id: int, rooms: Iterable[uuid.UUID], keys: KeySet = KEYS, session: str = "s"
) -> str:
    return keys.sign(user_id=user_id, user_name=f"user {user_id}", session=session, room_ids=rooms)


def settings(redis_url: str, **changes: Any) -> BridgeSettings:
    """A bridge for tests: on a free port, with quick heartbeats."""
    base = BridgeSettings(
        host=HOST,
        port=free_port(),
        redis_url=redis_url,
        keys=KEYS,
        origins=(ORIGIN,),
        heartbeat=0.2,
        silence=1.0,
        # Only the tests of the verification want one: it would hide what others must do.
        verify_every=3_600,
        drain=0.0,
    )
    return replace(base, **changes)


class Bridge:
    """A bridge that runs on a thread of this process until the block ends.

    The block begins when it listens to Redis, or with ``wait=False`` at once.
    """

    def __init__(self, settings: BridgeSettings, *, wait: bool = True) -> None:
        self.port = settings.port
        self._settings = settings
        self._wait = wait
        self._is_stopping = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        return f"ws://{self._settings.host}:{self.port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        if self._wait:
            wait_until(lambda: self._ready.is_set() or self._failed, what="the bridge is ready")
            assert not self._failed
        return self

    @property
    def _failed(self) -> bool:
        return not self._thread.is_alive()

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        """Does not wait for its end."""
        if not self._is_stopping:
            self._is_stopping = True
            self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            self._stop = asyncio.Event()
            runner.run(run(self._settings, self._stop, on_ready=self._ready.set))

    def health(self, path: str = "/health/ready") -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._settings.host, self.port)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def browser(self, user_id: int, *rooms: uuid.UUID) -> Browser:
        """A socket that is authenticated, and subscribed to ``rooms`` from their ends."""
        browser = Browser(self.url)
        browser.authenticate(user_id, *rooms)
        for room_id in rooms:
            browser.subscribe(room_id)
        return browser


class Browser:
    """A socket as a page holds it; it offers the ``extensions``."""

    def __init__(
        self,
        url: str,
        origin: str | None = ORIGIN,
        extensions: Sequence[ClientExtensionFactory] = (),
    ) -> None:
        headers = {"Origin": origin} if origin else {}
        self.asides: list[dict[str, Any]] = []
        self.socket = connect(
            url,
            additional_headers=headers,
            compression=None,
            extensions=extensions or None,
            max_size=2**22,
            legacy=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, frame: dict[str, Any] | str | bytes) -> None:
        self.socket.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    def receive(self, timeout: float = SECONDS) -> dict[str, Any]:
        """The next frame that is no aside; asides are kept."""
        while True:
            frame: dict[str, Any] = json.loads(self.socket.recv(timeout))
            if frame["type"] not in ("presence", "typing"):
                return frame
            self.asides.append(frame)

    def aside(self, kind: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first aside of this type that is ``wanted``, of those kept or the next frames."""
        while True:
            while self.asides:
                frame = self.asides.pop(0)
                if frame["type"] == kind and wanted(frame):
                    return frame
            self.asides.append(json.loads(self.socket.recv(SECONDS)))

    def sees(self, *user_ids: int) -> None:
        """Waits until the presence list is of these users."""
        self.aside("presence", lambda frame: [u["id"] for u in frame["users"]] == list(user_ids))

    def expect(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next frame, which must be of this type and have these fields."""
        frame = self.receive()
        assert frame["type"] == kind, frame
        assert {key: frame[key] for key in fields} == fields, frame
        return frame

    def authenticate(self, user_id: int, *rooms: uuid.UUID, session: str = "s") -> dict[str, Any]:
        self.send({"type": "authenticate", "ticket": ticket(user_id, rooms, session=session)})
        return self.expect("ready")

    def ask(self, room_id: uuid.UUID, since: Position | None = None) -> dict[str, Any]:
        """Subscribes; whatever the answer is."""
        frame: dict[str, Any] = {"type": "subscribe", "room_id": str(room_id)}
        if since:
            frame["since"] = {"epoch": since.epoch, "offset": since.offset}
        self.send(frame)
        return self.receive()

    def subscribe(self, room_id: uuid.UUID, since: Position | None = None) -> dict[str, Any]:
        answer = self.ask(room_id, since)
        assert answer["type"] == "subscribed", answer
        return answer

    def bodies(self, count: int) -> list[str]:
        """The texts of the next ``count`` frames, all of them events."""
        return bodies(self.expect("event") for _ in range(count))

    def nothing_more(self) -> None:
        """Fails if any frame was sent before this call and not taken."""
        self.send({"type": "ping"})
        self.expect("pong")

    def close_code(self) -> tuple[int, str]:
        """How the bridge ended the socket; takes and drops what came before."""
        with pytest.raises(ConnectionClosed) as closed:
            self._take_everything()
        frame = closed.value.rcvd
        assert frame, closed.value
        return frame.code, frame.reason

    def _take_everything(self) -> None:
        while True:
            self.socket.recv(SECONDS)


def position(subscribed: dict[str, Any]) -> Position:
    """The position in a ``subscribed`` or ``event`` frame."""
    return Position(subscribed["epoch"], subscribed["offset"])
