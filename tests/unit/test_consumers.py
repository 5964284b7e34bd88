"""What follows from a queue in bus/topology.py: its process, its module, its sink."""

from __future__ import annotations

import uuid
from importlib import import_module

import pytest

from bus.topology import (
    CONSUMERS,
    EVENT_CONSUMERS,
    EVENTS,
    MONGO_WRITER,
    REDIS_PUBLISHER,
    Binding,
    Queue,
)
from deploy.commands.up import STOP_STAGES
from deploy.processes import PROCESSES


def test_every_queue_has_a_process_that_consumes_it() -> None:
    for name, queue in CONSUMERS.items():
        assert PROCESSES[name] == f"consumers.{name}"
        assert queue.name in (f"chat.{name}", "web.requests")


@pytest.mark.parametrize("name", list(EVENT_CONSUMERS))
def test_replay_finds_the_sink_of_every_event_consumer(name: str) -> None:
    assert callable(import_module(PROCESSES[name]).open_sink)


def test_every_process_is_stopped_in_some_stage() -> None:
    assert {name for stage in STOP_STAGES for name in stage.names} >= set(PROCESSES)


@pytest.mark.parametrize(
    ("pattern", "taken", "not_taken"),
    [
        ("room.#", "room room.1 room.1.message.posted", "rooms.1 hall.room"),
        ("room.*.message.*", "room.1.message.posted", "room.message.posted room.1.member.added"),
        ("#", "room anything.at.all", ""),
        ("#.posted", "posted room.1.message.posted", "room.1.message.posted.twice"),
        ("a.#.b.*", "a.b.c a.x.y.b.c a.b.b.c", "a.b a.x.c b.c"),
        ("a.b", "a.b", "a a.b.c a.c"),
    ],
)
def test_a_queue_takes_what_its_binding_matches(pattern: str, taken: str, not_taken: str) -> None:
    queue = Queue("q", (Binding(EVENTS, pattern),))
    assert all(map(queue.takes, taken.split()))
    assert not any(map(queue.takes, not_taken.split()))


def test_a_queue_without_bindings_takes_nothing() -> None:
    assert not Queue("q").takes("room.1.message.posted")


def test_the_history_takes_messages_and_the_room_logs_take_all() -> None:
    room = uuid.uuid4()
    assert MONGO_WRITER.takes(f"room.{room}.message.edited")
    assert not MONGO_WRITER.takes(f"room.{room}.member.added")
    assert REDIS_PUBLISHER.takes(f"room.{room}.member.added")
