"""What a client says to each kind of server until it is in its room."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bus.ticket import KeySet

TICKET_KEY = "bench:a-secret-for-the-benchmark-alone"
_KEYS = KeySet((tuple(TICKET_KEY.split(":")),))  # type: ignore[arg-type]


class Step(NamedTuple):
    """What is sent, if anything, and a part of what must come next."""

    send: bytes
    expect: bytes


class Greeting(NamedTuple):
    """The path of the handshake, and after it the steps of socket ``number`` into its room."""

    path: str
    steps: Callable[[int, str], Iterator[Step]]


def _chatbus(number: int, room: str) -> Iterator[Step]:
    ticket = _KEYS.sign(
        user_id=number + 1, user_name=f"u{number}", session="s", room_ids=[uuid.UUID(room)]
    )
    yield Step(f'{{"type":"authenticate","ticket":"{ticket}"}}'.encode(), b'"ready"')
    yield Step(f'{{"type":"subscribe","room_id":"{room}"}}'.encode(), b'"subscribed"')


def _plain(number: int, room: str) -> Iterator[Step]:
    yield Step(room.encode(), b"joined")


def _socketio(number: int, room: str) -> Iterator[Step]:
    yield Step(b"", b"0{")
    yield Step(b"40", b"40{")
    yield Step(f'42["join","{room}"]'.encode(), b"joined")


GREETINGS = {
    "chatbus": Greeting("/", _chatbus),
    "channels": Greeting("/", _plain),
    "python-socketio": Greeting("/socket.io/?EIO=4&transport=websocket", _socketio),
    "socket.io": Greeting("/socket.io/?EIO=4&transport=websocket", _socketio),
    "ws": Greeting("/", _plain),
}
