"""The client module alone, in Node, with a real bridge: several rooms, losses, and the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bus.rooms.log_writer import RoomLogWriter
from tests.conftest import fail_or_skip
from tests.contract import chat
from tests.contract.chat import ORIGIN, Bridge, posted, removed
from tests.support.servers import ServerMissing

ALICE = 1
ROOT = Path(__file__).parents[2]
MODULE = ROOT / "webapp/chat/static/chat/chatbus-client.js"
SCRIPT = Path(__file__).parent / "node/client.mjs"
Json = dict[str, Any]


class NodeClient:
    """The script as a process. Gives it a ticket whenever it asks, for ``allowed`` rooms."""

    def __init__(self, url: str, rooms: list[uuid.UUID], log_url: str = "") -> None:
        self.allowed = rooms
        self.answers: list[Json] = []  # instead of a ticket, first
        self.tickets = 0
        self.seen: list[Json] = []
        self._process = subprocess.Popen(
            [
                "node",
                "--experimental-websocket",
                "--experimental-default-type=module",
                str(SCRIPT),
                MODULE.as_uri(),
                url,
                ORIGIN,
                *map(str, rooms),
            ],
            env=os.environ | {"LOG_URL": log_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_for(self, wanted: Callable[[Json], bool]) -> Json:
        """The next line that is ``wanted``; those before it are kept in ``seen``."""
        assert self._process.stdout
        for line in self._process.stdout:
            told = json.loads(line)
            if "ticket" in told:
                self._hand_out()
                continue
            self.seen.append(told)
            if wanted(told):
                return told
        raise AssertionError(f"the client ended after {self.seen}")

    def wait_for_type(self, kind: str, **fields: Any) -> Json:
        return self.wait_for(lambda told: told.items() >= {"type": kind, **fields}.items())

    def wait_for_text(self, text: str) -> Json:
        return self.wait_for(
            lambda told: told["type"] == "event" and told["event"]["data"].get("body") == text
        )

    def texts(self, room_id: uuid.UUID) -> list[str]:
        """All messages of a room that were shown, in order."""
        return [
            told["event"]["data"]["body"]
            for told in self.seen
            if told["type"] == "event" and told["roomId"] == str(room_id)
        ]

    def wait_until_ended(self) -> int:
        return self._process.wait(chat.SECONDS)

    def _hand_out(self) -> None:
        self.tickets += 1
        ticket = {"ticket": chat.ticket(ALICE, self.allowed)}
        answer = self.answers.pop(0) if self.answers else ticket
        assert self._process.stdin
        self._process.stdin.write(json.dumps(answer) + "\n")
        self._process.stdin.flush()


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def rooms() -> list[uuid.UUID]:
    return [uuid.uuid4(), uuid.uuid4()]


@pytest.fixture
def start() -> Iterator[Callable[..., NodeClient]]:
    if not shutil.which("node"):
        fail_or_skip(ServerMissing("node"))
    clients: list[NodeClient] = []

    def start(url: str, rooms: list[uuid.UUID], log_url: str = "") -> NodeClient:
        clients.append(NodeClient(url, rooms, log_url))
        return clients[-1]

    yield start
    for each in clients:
        each.close()


Start = Callable[..., NodeClient]


def test_several_rooms_and_asides(
    redis_url: str, redis_client: redis.Redis, rooms: list[uuid.UUID], start: Start
) -> None:
    log = RoomLogWriter(redis_client)
    with Bridge(chat.settings(redis_url)) as bridge:
        node = start(bridge.url, rooms)
        for room_id in rooms:
            node.wait_for_type("subscribed", roomId=str(room_id), recovered=False)
        log.append([posted(rooms[0], "one"), posted(rooms[1], "two"), posted(rooms[0], "three")])
        # The rooms keep no order among one another.
        node.wait_for(lambda _: sum(told["type"] == "event" for told in node.seen) == 3)
        assert [node.texts(room_id) for room_id in rooms] == [["one", "three"], ["two"]]
        users = [{"id": ALICE, "name": "user 1"}]
        node.wait_for(
            lambda _: all(
                {"type": "presence", "roomId": str(room_id), "users": users, "count": 1}
                in node.seen
                and {"type": "typing", "roomId": str(room_id), "users": users} in node.seen
                for room_id in rooms
            )
        )


def test_a_bridge_that_restarts_costs_nothing_but_time(
    redis_url: str, redis_client: redis.Redis, rooms: list[uuid.UUID], start: Start
) -> None:
    log = RoomLogWriter(redis_client)
    settings = chat.settings(redis_url)
    with Bridge(settings) as bridge:
        node = start(bridge.url, rooms)
        node.wait_for_type("subscribed", roomId=str(rooms[1]))
        log.append([posted(rooms[0], "before")])
        node.wait_for_text("before")
    node.wait_for_type("state", state="offline")
    log.append([posted(rooms[0], "while it was away"), posted(rooms[1], "and here")])
    with Bridge(settings):
        node.wait_for_type("subscribed", roomId=str(rooms[1]), recovered=True)
        log.append([posted(rooms[0], "after")])
        node.wait_for_text("after")
    assert node.texts(rooms[0]) == ["before", "while it was away", "after"]
    assert node.texts(rooms[1]) == ["and here"]
    assert not [told for told in node.seen if told["type"] == "reset"]
    assert node.tickets >= 2


def test_lost_messages_are_asked_for(
    redis_url: str, redis_client: redis.Redis, rooms: list[uuid.UUID], start: Start
) -> None:
    log = RoomLogWriter(redis_client)
    with Bridge(chat.settings(redis_url)) as bridge:
        node = start(bridge.url, rooms[:1])
        node.wait_for_type("subscribed")
        redis_client.client_kill_filter(_type="pubsub")
        log.append([posted(rooms[0], str(n)) for n in range(50)])
        node.wait_for_text("49")
        assert node.texts(rooms[0]) == [str(n) for n in range(50)]


def test_a_log_that_is_lost_is_a_reset(
    redis_url: str, redis_client: redis.Redis, rooms: list[uuid.UUID], start: Start
) -> None:
    log = RoomLogWriter(redis_client)
    with Bridge(chat.settings(redis_url)) as bridge:
        node = start(bridge.url, rooms[:1])
        node.wait_for_type("subscribed")
        log.append([posted(rooms[0], "before")])
        node.wait_for_text("before")
        redis_client.flushdb()
        log.append([posted(rooms[0], "after")])
        node.wait_for_type("reset", roomId=str(rooms[0]))
        node.wait_for_text("after")


def test_a_removal_ends_the_room_and_not_the_client(
    redis_url: str, redis_client: redis.Redis, rooms: list[uuid.UUID], start: Start
) -> None:
    log = RoomLogWriter(redis_client)
    with Bridge(chat.settings(redis_url)) as bridge:
        node = start(bridge.url, rooms)
        for room_id in rooms:
            node.wait_for_type("subscribed", roomId=str(room_id))
        log.append([removed(rooms[0], ALICE), posted(rooms[0], "secret"), posted(rooms[1], "on")])
        node.wait_for_type("removed", roomId=str(rooms[0]))
        node.wait_for_text("on")
        assert node.texts(rooms[0]) == []


def test_who_is_no_member_is_told_once(redis_url: str, start: Start) -> None:
    """One fresh ticket is asked for, whatever the number of rooms."""
    rooms = [uuid.uuid4() for _ in range(20)]
    with Bridge(chat.settings(redis_url)) as bridge:
        node = start(bridge.url, rooms)
        node.allowed = []
        node.wait_for(lambda _: sum(told["type"] == "forbidden" for told in node.seen) == 20)
        assert {told["roomId"] for told in node.seen if told["type"] == "forbidden"} == {
            str(room_id) for room_id in rooms
        }
        assert node.tickets == 2


def test_a_fresh_ticket_lets_into_all_rooms_that_waited_for_it(
    redis_url: str, start: Start
) -> None:
    rooms = [uuid.uuid4() for _ in range(20)]
    with Bridge(chat.settings(redis_url)) as bridge:
        node = start(bridge.url, rooms)
        node.answers = [{"ticket": chat.ticket(ALICE, rooms[:5])}]
        node.wait_for(lambda _: sum(told["type"] == "subscribed" for told in node.seen) == 20)
        followed = [told["roomId"] for told in node.seen if told["type"] == "subscribed"]
        assert sorted(followed) == sorted(map(str, rooms))
        assert node.tickets == 2


def test_a_socket_that_cannot_be_made_is_tried_again(
    redis_url: str, rooms: list[uuid.UUID], start: Start
) -> None:
    with Bridge(chat.settings(redis_url)) as bridge:
        node = start(bridge.url, rooms[:1])
        node.answers = [{"url": "nonsense", "ticket": "x"}]
        told = node.wait_for_type("state", state="offline")
        assert "URL" in told["reason"]
        node.wait_for_type("subscribed")
        assert node.tickets == 2


def test_a_log_out_stops_it(redis_url: str, rooms: list[uuid.UUID], start: Start) -> None:
    with Bridge(chat.settings(redis_url)) as bridge:
        node = start(bridge.url, rooms)
        node.wait_for_type("subscribed", roomId=str(rooms[1]))
    node.answers = [{"status": 401}]
    node.wait_for_type("state", state="stopped", reason="logged out")
    assert node.wait_until_ended() == 0
