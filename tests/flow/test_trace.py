"""``chatbus trace``: where is my message?, with every server up, and with some of them away."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest

from bus import events
from bus.admin.dead_letters import open_dead_letters
from bus.consuming.pause import pause
from bus.events import Event
from bus.publishing import Publisher
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import LOG_LENGTH
from bus.runtime.settings import Environment
from bus.topology import ARCHIVE, EVENT_QUEUES, MONGO_WRITER, REDIS_PUBLISHER
from bus.transport import connect_admin, declare
from bus.transport.rabbitmq.stream import BATCH
from consumers.mongo_writer import MongoWriter, open_messages
from deploy.commands import trace
from tests.support.command import chatbus
from tests.support.dead_letters import TRACE, bury
from tests.support.events import BOB, ROOM, added, deleted, edited, posted, posted_at
from tests.support.person import Person
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.stack import Stack
from tests.support.wait import wait_until

Answers = dict[str, Any]
NOBODY = "127.0.0.1:1"
BROKER_PARTS = {"accepted", "dead", "waiting"}


class Servers:
    """Empty servers of one test, and the sinks that the consumers would fill."""

    def __init__(self, broker_url: str, redis_url: str, mongo_url: str) -> None:
        self.settings = {
            "BROKER_URL": broker_url,
            "REDIS_URL": redis_url,
            "MONGO_URL": mongo_url,
        }
        self.publisher = Publisher(broker_url)

    def store(self, *batch: Event) -> None:
        messages = open_messages(self.settings["MONGO_URL"])
        MongoWriter(messages).store(batch)
        messages.database.client.close()

    def log(self, *batch: Event) -> None:
        with closing(RoomLogWriter.connect(self.settings["REDIS_URL"])) as writer:
            writer.append(batch)

    def trace(self, *words: str, code: int = 0, **settings: str) -> str:
        """What the command prints. Within this process: a new one costs half a second."""
        parser = ArgumentParser()
        trace.add_arguments(parser)
        with redirect_stdout(StringIO()) as output:
            found = trace.run(parser.parse_args(words), Environment(self.settings | settings))
        assert found == code, output.getvalue()
        return output.getvalue()

    def answers(self, event: Event, *words: str, code: int = 0, **settings: str) -> Answers:
        """State by part, for a queue's parts by part and queue; and the facts of the parts."""
        told = json.loads(self.trace(str(event.id), "--json", *words, code=code, **settings))
        assert told["found"] is (code == 0)
        return {f"{part['part']} {part.get('queue', '')}".strip(): part for part in told["parts"]}


@pytest.fixture
def servers(rabbitmq: RabbitMQ, redis_server: Redis, mongo: str) -> Iterator[Servers]:
    broker_url = rabbitmq.fresh_vhost()
    declare(broker_url, [*EVENT_QUEUES, ARCHIVE])
    servers = Servers(broker_url, redis_server.fresh_database(), mongo)
    yield servers
    servers.publisher.close()


@pytest.fixture
def without_archive(redis_server: Redis, mongo: str) -> Iterator[Servers]:
    """Redis is the broker."""
    broker_url = redis_server.fresh_database()
    declare(broker_url, EVENT_QUEUES)
    servers = Servers(broker_url, redis_server.fresh_database(), mongo)
    yield servers
    servers.publisher.close()


def states(answers: Answers) -> dict[str, str]:
    return {name: part["state"] for name, part in answers.items()}


def test_a_message_on_its_way(servers: Servers) -> None:
    """Accepted; then stored; then logged: each step is seen, and what waits still waits."""
    event = posted()
    pause(servers.settings["BROKER_URL"], REDIS_PUBLISHER, by="the test")
    servers.publisher.publish(events.to_message(posted()), events.to_message(event))
    answers = servers.answers(event)
    assert states(answers) == {
        "accepted": "yes",
        "stored": "no",
        "logged": "no",
        "dead chat.mongo_writer": "no",
        "dead chat.redis_publisher": "no",
        "waiting chat.mongo_writer": "yes",
        "waiting chat.redis_publisher": "yes",
    }
    assert answers["accepted"]["routing_key"] == f"room.{ROOM}.message.posted"
    assert answers["accepted"]["offset"] == 1
    assert answers["waiting chat.mongo_writer"]["depth"] == 2
    assert answers["waiting chat.mongo_writer"]["paused"] is False
    assert answers["waiting chat.redis_publisher"]["paused"] is True
    servers.store(event)
    answers = servers.answers(event)
    assert answers["stored"]["stored_at"] > event.at[:10]
    assert answers["stored"]["deleted_at"] is None
    assert answers["waiting chat.mongo_writer"]["state"] == "no"
    servers.log(posted(), event)
    answers = servers.answers(event)
    assert (answers["logged"]["state"], answers["logged"]["offset"]) == ("yes", 2)
    assert answers["waiting chat.redis_publisher"]["state"] == "no"


def test_an_imported_message_is_found_in_the_archive_by_when_it_was_stored(
    servers: Servers,
) -> None:
    event = posted_at(datetime(2004, 12, 25, tzinfo=UTC))
    before = [posted() for _ in range(BATCH)]
    servers.publisher.publish(*map(events.to_message, [*before, event]))
    assert states(servers.answers(event, code=1))["accepted"] == "no"
    servers.store(event)
    answers = servers.answers(event)
    assert states(answers)["accepted"] == "yes"
    assert answers["accepted"]["offset"] == BATCH


def test_a_change_is_traced_to_the_document_of_its_message(servers: Servers) -> None:
    message = posted()
    change, end = edited(message, "better"), deleted(message)
    servers.publisher.publish(*map(events.to_message, (message, change, end)))
    servers.store(message, change)
    assert servers.answers(change)["stored"]["edited_at"] == change.at
    assert servers.answers(end)["stored"]["state"] == "no"
    servers.store(end)
    assert servers.answers(end)["stored"]["deleted_at"] == end.at


def test_a_membership_does_not_wait_where_it_never_comes(servers: Servers) -> None:
    event = added(BOB)
    servers.publisher.publish(events.to_message(event))
    answers = servers.answers(event)
    assert "waiting chat.mongo_writer" not in answers
    assert answers["waiting chat.redis_publisher"]["state"] == "yes"


def test_a_dead_letter_is_found_with_its_reason_and_trace(servers: Servers) -> None:
    event = posted()
    servers.publisher.publish(events.to_message(posted()))
    bury(servers.publisher, [posted(), event, posted()], error="indigestible")
    answers = servers.answers(event)
    dead = answers["dead chat.mongo_writer"]
    assert (dead["state"], dead["reason"]) == ("yes", "refused_by_sink")
    assert dead["trace_id"] == TRACE.split("-")[1]
    assert states(answers)["dead chat.redis_publisher"] == "no"
    assert f"chatbus deadletters show --id {event.id}" in servers.trace(str(event.id))


def test_what_is_on_no_queue_and_nowhere_beyond_is_no_more_than_unknown(servers: Servers) -> None:
    event = posted()
    servers.publisher.publish(events.to_message(event))
    with closing(connect_admin(servers.settings["BROKER_URL"])) as admin:
        admin.purge(MONGO_WRITER)
    part = servers.answers(event)["waiting chat.mongo_writer"]
    assert part["state"] == "unknown"
    assert "chatbus replay --into mongo_writer" in part["text"]


def test_what_was_trimmed_from_the_log_was_logged(servers: Servers) -> None:
    event = posted()
    servers.publisher.publish(events.to_message(event))
    servers.log(event, *(posted() for _ in range(2 * LOG_LENGTH)))
    part = servers.answers(event, "--room", str(ROOM))["logged"]
    assert (part["state"], part["offset"]) == ("yes", None)
    assert "trimmed" in part["text"]


def test_found_nowhere_is_exit_code_1(servers: Servers) -> None:
    servers.publisher.publish(events.to_message(posted()))
    output = servers.trace(str(events.new_id()), code=1)
    assert output.endswith("found nowhere\n")
    assert "chat.mongo_writer holds 1 message before" in output


def test_without_an_archive_it_says_so_and_asks_the_others(without_archive: Servers) -> None:
    event = posted()
    without_archive.publisher.publish(events.to_message(event))
    assert "no archive" in without_archive.answers(event, code=1)["accepted"]["text"]
    without_archive.store(event)
    answers = without_archive.answers(event)
    assert states(answers) == {
        "accepted": "unknown",
        "stored": "yes",
        "logged": "no",
        "dead chat.mongo_writer": "no",
        "dead chat.redis_publisher": "no",
        "waiting chat.mongo_writer": "no",
        "waiting chat.redis_publisher": "yes",
    }


def test_without_an_archive_the_rooms_log_tells_what_the_event_is(
    without_archive: Servers,
) -> None:
    """Nothing is said to be lost that never comes to MongoDB, or is there under another id."""
    message, member = posted(), added(BOB)
    change = edited(message, "better")
    without_archive.log(message, member, change)
    without_archive.store(message, change)
    answers = without_archive.answers(member, "--room", str(ROOM))
    assert answers["logged"]["type"] == "member.added"
    assert "waiting chat.mongo_writer" not in answers
    answers = without_archive.answers(change, "--room", str(ROOM))
    assert answers["stored"]["edited_at"] == change.at
    assert answers["waiting chat.mongo_writer"]["state"] == "no"
    assert without_archive.answers(change, code=1)["stored"]["state"] == "unknown"


def test_without_an_archive_nobody_is_sent_to_replay_it(without_archive: Servers) -> None:
    event = posted()
    without_archive.log(event)
    part = without_archive.answers(event, "--room", str(ROOM))["waiting chat.mongo_writer"]
    assert part["state"] == "unknown"
    assert "lost" in part["text"]
    assert "replay" not in part["text"]


@pytest.mark.parametrize(
    ("name", "url", "reason", "unknown"),
    [
        ("MONGO_URL", "", "is not set", {"stored"}),
        ("MONGO_URL", f"mongodb://{NOBODY}/", r"^MongoDB: .*refused", {"stored"}),
        ("REDIS_URL", f"redis://{NOBODY}/", r"^Redis: .*refused", {"logged"}),
        ("BROKER_URL", f"amqp://{NOBODY}/", r"^cannot reach the broker: .*refused", BROKER_PARTS),
        ("BROKER_URL", "", "is not set", BROKER_PARTS),
    ],
)
def test_a_server_that_is_away_makes_only_its_own_answer_unknown(
    servers: Servers, name: str, url: str, reason: str, unknown: set[str]
) -> None:
    event = posted()
    servers.publisher.publish(events.to_message(event))
    servers.store(event)
    servers.log(event)
    answers = servers.answers(event, **{name: url})
    asked = {part for part, state in states(answers).items() if state == "unknown"}
    # Whether a message still waits is known from what lies behind the queue.
    assert unknown <= {part.split()[0] for part in asked} <= unknown | {"waiting"}
    assert all(re.search(reason, answers[p]["text"]) for p in asked if p.split()[0] in unknown)


def test_an_operator_at_the_dead_letters_makes_only_these_unknown(servers: Servers) -> None:
    event = posted()
    servers.publisher.publish(events.to_message(event))
    with open_dead_letters(servers.settings["BROKER_URL"], MONGO_WRITER):
        answers = servers.answers(event)
    assert "another command" in answers["dead chat.mongo_writer"]["text"]
    assert states(answers)["dead chat.redis_publisher"] == "no"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("nix",), "'nix' is no id"),
        ((str(ROOM),), "accepted is a UUIDv7"),
        (("ffffffff-ffff-7fff-bfff-ffffffffffff",), "accepted is a UUIDv7"),
        ((str(events.new_id()), "--room", "den"), "--room"),
        ((str(events.new_id()), "--within", "nan"), "--within"),
        ((), "MESSAGE_ID"),
    ],
)
def test_bad_input_gets_one_line(words: tuple[str, ...], named: str) -> None:
    done = chatbus("trace", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert named in done.stderr


def test_from_the_post_to_every_place(backend: Stack) -> None:
    alice = Person.registered(backend.base_url, "alice")
    message_id = alice.post(alice.make_room("garden"), "where am I?")
    settings = {k: v for k, v in backend.settings().items() if k.endswith("_URL")}

    def arrived() -> dict[str, str]:
        done = chatbus("trace", message_id, "--json", **settings)
        parts = {part["part"]: part["state"] for part in json.loads(done.stdout)["parts"]}
        return parts if parts["stored"] == parts["logged"] == "yes" else {}

    parts = wait_until(arrived)
    has_archive = settings["BROKER_URL"].startswith("amqp")
    assert parts["accepted"] == ("yes" if has_archive else "unknown")
    assert (parts["dead"], parts["waiting"]) == ("no", "no")
