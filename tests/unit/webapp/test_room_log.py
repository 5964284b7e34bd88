"""GET /api/rooms/{id}/log: a cursor that misses nothing, held until there is something."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.conf import LazySettings

from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import keys_of
from tests.support.events import posted
from tests.support.wait import patience, wait_until
from tests.unit.webapp.conftest import Broker, Browser
from webapp.chat import room_log
from webapp.rooms.memberships import add_member, remove_member

WAIT = 20
Json = dict[str, Any]


class Log:
    """A room's log, as redis_publisher writes it and as its members read it."""

    def __init__(self, url: str, path: str) -> None:
        self.room_id = uuid.UUID(path.rpartition("/")[2])
        self.path = path
        self.redis = redis.Redis.from_url(url)
        self._writer = RoomLogWriter(self.redis)

    def append(self, *texts: str) -> None:
        self._writer.append([posted(text, room_id=self.room_id) for text in texts])

    def waiting(self) -> int:
        """How many requests Redis holds until there is something."""
        return sum("xread" in each["cmd"] for each in self.redis.client_list())

    def read(self, reader: Browser, position: Json | None = None, wait: int = 0):
        query: Json = {"wait": wait}
        if position:
            query |= {"epoch": position["epoch"], "offset": position["offset"]}
        return reader.get(f"{self.path}/log", query)


def texts(answer: Json) -> list[str]:
    return [event["data"]["body"] for event in answer["events"]]


@pytest.fixture
def log(room: tuple[Browser, str], broker: Broker, settings: LazySettings) -> Iterator[Log]:
    settings.REDIS_URL = broker.other_database
    log = Log(settings.REDIS_URL, room[1])
    log.redis.flushdb()
    yield log
    log.redis.close()


@pytest.fixture
def alice(room: tuple[Browser, str]) -> Browser:
    return room[0]


@pytest.fixture
def later() -> Iterator[Callable[..., Future[Any]]]:
    """Runs a request in a thread of its own, as the server does."""
    from django.db import connection

    def run(call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        yield lambda call, *arguments: pool.submit(run, call, *arguments)


def test_a_reader_that_follows_its_position_misses_nothing(alice: Browser, log: Log) -> None:
    log.append("one", "two")
    first = log.read(alice).json()
    assert (texts(first), first["offset"], first["recovered"]) == (["one", "two"], 2, False)
    log.append("three")
    second = log.read(alice, first).json()
    assert (texts(second), second["offset"], second["recovered"]) == (["three"], 3, True)
    third = log.read(alice, second).json()
    assert (texts(third), third["offset"], third["recovered"]) == ([], 3, True)


def test_a_position_that_the_log_does_not_reach_is_said(alice: Browser, log: Log) -> None:
    log.append("one")
    position = log.read(alice).json()
    other = {"epoch": "0123", "offset": 1}
    answer = log.read(alice, other, wait=WAIT).json()
    assert (answer["recovered"], answer["epoch"]) == (False, position["epoch"])
    log.append("two", "three")
    log.redis.xtrim(keys_of(log.room_id).log, maxlen=1, approximate=False)
    answer = log.read(alice, position, wait=WAIT).json()
    assert (answer["recovered"], texts(answer)) == (False, ["three"])


def test_it_waits_for_the_next_event(
    alice: Browser, log: Log, later: Callable[..., Future[Any]]
) -> None:
    log.append("one")
    position = log.read(alice).json()
    answer = later(log.read, alice, position, WAIT)
    wait_until(lambda: log.waiting() == 1)
    log.append("two")
    assert texts(answer.result(patience(WAIT)).json()) == ["two"]


def test_a_wait_that_ends_says_where_the_reader_is(alice: Browser, log: Log) -> None:
    position = log.read(alice).json()
    answer = log.read(alice, position, wait=1).json()
    assert answer == position | {"recovered": True, "events": []}


def test_a_log_that_begins_again_ends_the_wait(
    alice: Browser, log: Log, later: Callable[..., Future[Any]]
) -> None:
    log.append("one", "two")
    position = log.read(alice).json()
    answer = later(log.read, alice, position, WAIT)
    wait_until(lambda: log.waiting() == 1)
    log.redis.flushdb()
    log.append("three")
    answered = answer.result(patience(WAIT)).json()
    assert (answered["recovered"], texts(answered)) == (False, ["three"])


def test_a_process_that_stops_lets_nobody_wait(
    alice: Browser, log: Log, later: Callable[..., Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(room_log, "stopping", stopping)
    position = log.read(alice).json()
    answer = later(log.read, alice, position, WAIT)
    wait_until(lambda: log.waiting() == 1)
    stopping.set()
    wait_until(answer.done, WAIT / 2, "the wait has ended before its time")
    assert answer.result().json() == position | {"recovered": True, "events": []}


def test_whoever_is_removed_while_they_wait_gets_nothing(
    alice: Browser,
    log: Log,
    browser: Callable[[str], Browser],
    later: Callable[..., Future[Any]],
) -> None:
    bob = browser("bob")
    add_member(log.room_id, bob.user, actor=alice.user)
    position = log.read(bob).json()
    answer = later(log.read, bob, position, WAIT)
    wait_until(lambda: log.waiting() == 1)
    remove_member(log.room_id, bob.user.id, actor=alice.user)
    log.append("secret")
    refused = answer.result(patience(WAIT))
    assert refused.status_code == 403
    assert "secret" not in refused.content.decode()


def test_whoever_logs_out_while_they_wait_gets_nothing(
    alice: Browser, log: Log, later: Callable[..., Future[Any]]
) -> None:
    position = log.read(alice).json()
    answer = later(log.read, alice, position, WAIT)
    wait_until(lambda: log.waiting() == 1)
    alice.session.flush()
    log.append("secret")
    assert answer.result(patience(WAIT)).status_code == 401


def test_whoever_is_deactivated_while_they_wait_gets_nothing(
    alice: Browser, log: Log, later: Callable[..., Future[Any]]
) -> None:
    position = log.read(alice).json()
    answer = later(log.read, alice, position, WAIT)
    wait_until(lambda: log.waiting() == 1)
    alice.user.is_active = False
    alice.user.save()
    log.append("secret")
    assert answer.result(patience(WAIT)).status_code == 401


def test_strangers_read_no_log(log: Log, browser: Callable[[str], Browser]) -> None:
    log.append("secret")
    assert log.read(Browser()).status_code == 401
    assert log.read(browser("mallory")).status_code == 403
    log.path = f"/api/rooms/{uuid.uuid4()}"
    assert log.read(browser("eve")).status_code == 404


def test_when_all_places_are_taken_the_answer_comes_at_once(
    alice: Browser, log: Log, later: Callable[..., Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_log, "places", threading.BoundedSemaphore(2))
    position = log.read(alice).json()
    waiting = [later(log.read, alice, position, WAIT) for _ in range(2)]
    wait_until(lambda: log.waiting() == 2)
    turned_away = log.read(alice, position, wait=WAIT)
    assert turned_away.status_code == 200
    assert turned_away["Retry-After"] == "2"
    assert turned_away.json() == position | {
        "recovered": True,
        "events": [],
        "retry_after": 2,
    }
    assert log.waiting() == 2
    log.append("one")
    for answer in waiting:
        assert texts(answer.result(patience(WAIT)).json()) == ["one"]
    assert texts(log.read(alice, position, wait=WAIT).json()) == ["one"]
    assert room_log.places.acquire(blocking=False), "a place is free again"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("epoch=a", "epoch"),
        ("offset=1", "offset"),
        ("epoch=a&offset=-1", "offset"),
        ("epoch=a&offset=9999999999999999999", "offset"),
        ("wait=26", "wait"),
        ("wait=1.5", "wait"),
    ],
)
def test_bad_input_is_named(alice: Browser, log: Log, query: str, named: str) -> None:
    answer = alice.get(f"{log.path}/log?{query}")
    assert answer.status_code == 400
    assert f"“{named}”" in answer.json()["error"]["message"]


def test_without_redis_it_is_unavailable(
    alice: Browser, log: Log, settings: LazySettings, broker: Broker
) -> None:
    broker.stop()
    assert log.read(alice).status_code == 503
    settings.REDIS_URL = None
    answer = log.read(alice)
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
