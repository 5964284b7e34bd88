"""The client module in Node where no WebSocket comes through: it follows the logs by HTTP."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
import redis

from bus.rooms.log_reader import RoomLogFollower
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import Position
from tests.contract.chat import Bridge, posted, settings
from tests.contract.test_client_node import NodeClient, Start, start
from tests.support.ports import HOST, free_port

__all__ = ["start"]


class LogServer(ThreadingHTTPServer):
    """Answers as the web tier does, from the real logs, to a member of all rooms but ``closed``."""

    daemon_threads = True

    def __init__(self, redis_url: str) -> None:
        super().__init__((HOST, 0), _Handler)
        self.follower = RoomLogFollower.connect(redis_url)
        self.closed: set[uuid.UUID] = set()
        self.hints = 0  # so many answers say that nobody may wait
        self.url = f"http://{HOST}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: LogServer

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        query, room_id = dict(parse_qsl(target.query)), uuid.UUID(target.path[1:])
        since = Position(query["epoch"], int(query["offset"])) if "epoch" in query else None
        hint: dict[str, Any] = {}
        wait = float(query["wait"])
        if since and self.server.hints:
            self.server.hints -= 1
            hint, wait = {"retry_after": 0}, 0
        reading = self.server.follower.read_next(room_id, since, wait)
        content = hint | {
            "epoch": reading.position.epoch,
            "offset": reading.position.offset,
            "recovered": reading.recovered,
            "events": [msgspec.Raw(entry.event) for entry in reading.entries],
        }
        body = msgspec.json.encode(content)
        self.send_response(403 if room_id in self.server.closed else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(redis_url: str) -> Iterator[LogServer]:
    with LogServer(redis_url) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def rooms() -> list[uuid.UUID]:
    return [uuid.uuid4(), uuid.uuid4()]


@pytest.fixture
def writer(redis_url: str) -> Iterator[RoomLogWriter]:
    writer = RoomLogWriter.connect(redis_url)
    yield writer
    writer.close()


def nowhere() -> str:
    """The URL of a bridge that cannot be reached."""
    return f"ws://{HOST}:{free_port()}/"


def wait_for_all(node: NodeClient, rooms: list[uuid.UUID]) -> None:
    """Returns when all are followed; the rooms keep no order among one another."""
    wanted = set(map(str, rooms))
    node.wait_for(lambda _: wanted <= {t["roomId"] for t in node.seen if t["type"] == "subscribed"})


def test_it_misses_nothing_and_shows_everything_once(
    server: LogServer, writer: RoomLogWriter, rooms: list[uuid.UUID], start: Start
) -> None:
    node = start(nowhere(), rooms, server.url)
    wait_for_all(node, rooms)
    server.hints = 3
    for n in range(20):
        writer.append([posted(rooms[0], str(n))])
    writer.append([posted(rooms[1], "last")])
    node.wait_for(lambda _: sum(told["type"] == "event" for told in node.seen) == 21)
    assert node.texts(rooms[0]) == [str(n) for n in range(20)]
    assert node.texts(rooms[1]) == ["last"]
    assert {"type": "state", "state": "online", "reason": "http"} in node.seen


def test_a_log_that_is_lost_is_a_reset(
    server: LogServer,
    writer: RoomLogWriter,
    rooms: list[uuid.UUID],
    start: Start,
    redis_url: str,
) -> None:
    node = start(nowhere(), rooms[:1], server.url)
    node.wait_for_type("subscribed")
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    writer.append([posted(rooms[0], "after")])
    node.wait_for_type("reset", roomId=str(rooms[0]))
    node.wait_for_text("after")


def test_a_removal_ends_the_room_and_not_the_client(
    server: LogServer, writer: RoomLogWriter, rooms: list[uuid.UUID], start: Start
) -> None:
    node = start(nowhere(), rooms, server.url)
    wait_for_all(node, rooms)
    server.closed.add(rooms[0])
    writer.append([posted(rooms[0], "secret"), posted(rooms[1], "on")])
    node.wait_for_type("removed", roomId=str(rooms[0]))
    if "on" not in node.texts(rooms[1]):
        node.wait_for_text("on")
    assert node.texts(rooms[0]) == []


def test_who_has_had_a_socket_does_not_fall_back(
    server: LogServer, writer: RoomLogWriter, rooms: list[uuid.UUID], start: Start, redis_url: str
) -> None:
    """A bridge that is away must not send all its sockets to the web tier."""
    with Bridge(settings(redis_url)) as bridge:
        node = start(bridge.url, rooms[:1], server.url)
        node.wait_for_type("subscribed")
    for _ in range(3):
        node.wait_for_type("state", state="offline")
    assert {"type": "state", "state": "online", "reason": "http"} not in node.seen
