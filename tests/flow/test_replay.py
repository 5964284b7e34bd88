"""`chatbus replay`: a lost history, and lost room logs, from the archive."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from consumers.mongo_writer import open_messages
from tests.support.person import Person
from tests.support.stack import Stack
from tests.support.wait import patience, wait_until

# Streams exist on RabbitMQ only.
on_rabbitmq = pytest.mark.parametrize("backend", ["real"], indirect=True)
on_redis = pytest.mark.parametrize("backend", ["embedded"], indirect=True)


def replay(stack: Stack, *arguments: str, code: int = 0) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "replay", *arguments],
        env=stack.settings(),
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
    assert finished.returncode == code, (finished.stdout, finished.stderr)
    return finished.stdout + finished.stderr


def documents(stack: Stack) -> dict[str, Any]:
    """The whole collection, without the time of storing."""
    messages = open_messages(stack.settings()["MONGO_URL"])
    try:
        found = list(messages.find())
    finally:
        messages.database.client.close()
    return {d["_id"]: {k: v for k, v in d.items() if k != "stored_at"} for d in found}


def drop_history(stack: Stack) -> None:
    messages = open_messages(stack.settings()["MONGO_URL"])
    messages.delete_many({})
    messages.database.client.close()


@on_rabbitmq
def test_a_dropped_history_comes_back_id_by_id(backend: Stack) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    posted = [alice.post(room, f"{number}") for number in range(30)]
    wait_until(lambda: len(alice.history(room)) == 30)
    before = documents(backend)
    with alice.open_socket() as socket:
        subscribed = socket.subscribe(room)
        drop_history(backend)
        assert alice.history(room) == []
        # Of this room: other tests on this system may have published an event twice.
        assert "30 events would be replayed" in replay(
            backend, "--into", "mongo_writer", "--dry-run", "--room", room
        )
        assert documents(backend) == {}
        replay(backend, "--into", "mongo_writer", "--room", room)
        assert set(documents(backend)) == set(posted)
        replay(backend, "--into", "mongo_writer")
        assert documents(backend) == before
        replay(backend, "--into", "mongo_writer")
        assert documents(backend) == before
        socket.send(type="ping")
        socket.next("pong")
        told = [frame["type"] for frame in socket.frames if frame["type"] != "presence"]
        assert told == ["ready", "subscribed", "pong"]
    assert subscribed["events"][-1]["id"] == posted[-1]


@on_rabbitmq
def test_lost_room_logs_are_filled_again_and_nobody_hears_of_it(backend: Stack) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    for number in range(10):
        alice.post(room, f"{number}")
    with alice.open_socket() as socket:
        wait_until(lambda: len(alice.history(room)) == 10)
        before = wait_until(lambda: whole_log(alice, room, 12))
        socket.subscribe(room)
        client = redis.Redis.from_url(backend.settings()["REDIS_URL"])
        client.flushdb()
        replay(backend, "--into", "redis_publisher")
        after = wait_until(lambda: whole_log(alice, room, 12))
        assert after["epoch"] != before["epoch"]
        assert after["events"] == before["events"]
        replay(backend, "--into", "redis_publisher")
        assert wait_until(lambda: whole_log(alice, room, 12)) == after
        client.close()
        assert [f for f in socket.frames if f["type"] == "event"] == []


def whole_log(person: Person, room: str, length: int) -> dict[str, Any]:
    """What a new subscriber gets, once it is ``length`` events; until then nothing.

    A ticket that is hardly younger than the log is answered with a resync.
    """
    with person.open_socket() as socket:
        socket.send(type="subscribe", room_id=room)
        answer = socket.wait_for(lambda f: f["type"] in ("subscribed", "unsubscribed"))
    return answer if len(answer.get("events", ())) == length else {}


@on_rabbitmq
def test_a_time_span_selects(backend: Stack) -> None:
    alice = Person.registered(backend.base_url, "alice")
    room = alice.make_room("garden")
    now = datetime.now(UTC).isoformat()
    selection = ["--into", "redis_publisher", "--dry-run", "--room", room]
    output = replay(backend, *selection, "--from", now)
    assert "0 events would be replayed" in output
    assert "the archive begins with an event of 20" in output
    # The room was created, and its owner added.
    assert "2 events would be replayed" in replay(backend, *selection, "--to", now)


@on_rabbitmq
@pytest.mark.parametrize(
    "selection",
    [["--to", "2001-01-01T00:00Z"], ["--from", "2000-01-01", "--to", "2001-01-01"]],
)
def test_a_window_before_the_archive_fails_and_says_where_it_begins(
    backend: Stack, selection: list[str]
) -> None:
    Person.registered(backend.base_url, "alice").make_room("garden")
    output = replay(backend, "--into", "redis_publisher", *selection, code=1)
    assert "--to 2001-01-01T00:00:00Z: the archive begins with an event of 20" in output
    assert "0 events" not in output


@on_rabbitmq
def test_a_room_that_the_archive_does_not_know_fails(backend: Stack) -> None:
    Person.registered(backend.base_url, "alice").make_room("garden")
    room = "00000000-0000-4000-8000-000000000000"
    output = replay(backend, "--into", "mongo_writer", "--room", room, code=1)
    assert f"no event of --room {room} for mongo_writer" in output


@on_rabbitmq
@pytest.mark.parametrize(
    ("window", "problem"),
    [
        (("2026-11-02", "2026-11-01"), "--from: 2026-11-02T00:00:00Z is not before --to"),
        (("2026-11-02", "2026-11-02"), "is not before --to 2026-11-02T00:00:00Z"),
        (("2999-01-01", "2999-02-01"), "--from: 2999-01-01T00:00:00Z is in the future"),
    ],
)
def test_a_window_that_holds_no_time_is_bad_input(
    backend: Stack, window: tuple[str, str], problem: str
) -> None:
    begins, ends = window
    output = replay(backend, "--into", "mongo_writer", "--from", begins, "--to", ends, code=2)
    assert problem in output


@on_redis
def test_without_a_stream_the_command_says_so(backend: Stack) -> None:
    output = replay(backend, "--into", "mongo_writer", code=2)
    assert "BROKER_URL" in output
    assert "amqp://" in output


@pytest.mark.parametrize(
    "arguments", [["--into", "nobody"], [], ["--into", "mongo_writer", "--from", "soon"]]
)
def test_bad_arguments(backend: Stack, arguments: list[str]) -> None:
    output = replay(backend, *arguments, code=2)
    assert "Traceback" not in output
