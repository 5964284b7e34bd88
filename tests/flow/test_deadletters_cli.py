"""``chatbus deadletters`` as an operator uses it, on each kind of broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from bus.admin.dead_letters import BATCH, open_dead_letters
from bus.consuming.dead_letter import INVALID
from bus.message import Message
from bus.publishing import Publisher
from bus.runtime.process import die_with_parent
from bus.topology import EVENT_QUEUES, MONGO_WRITER, REDIS_PUBLISHER
from bus.transport import subscribe
from bus.transport.redis import admin as redis_admin
from consumers.mongo_writer import open_messages
from tests.support.broker import depth, empty
from tests.support.command import COMMAND, chatbus
from tests.support.dead_letters import bury
from tests.support.events import posted
from tests.support.wait import patience, wait_until

DEAD = MONGO_WRITER.dead_letters
assert DEAD


@pytest.fixture
def publisher(broker_url: str) -> Iterator[Publisher]:
    """On empty queues."""
    empty(broker_url)
    with closing(Publisher(broker_url)) as publisher:
        yield publisher


def deadletters(url: str, *words: str, code: int = 0) -> str:
    """What the command prints; an error is one line."""
    done = chatbus("deadletters", *words, BROKER_URL=url)
    assert done.returncode == code, (done.stdout, done.stderr)
    if code == 2:
        assert done.stderr.count("\n") == 1, done.stderr
    return done.stdout + done.stderr


def as_json(url: str, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in deadletters(url, *words, "--json").splitlines()]


def test_list_shows_each_letter_and_counts_them(broker_url: str, publisher: Publisher) -> None:
    first = bury(publisher, [posted()])
    second = bury(publisher, [posted()], reason=INVALID, queue=REDIS_PUBLISHER)
    *lines, count = deadletters(broker_url, "list").splitlines()
    columns = [line.split("\t") for line in lines]
    assert [(row[0], row[1], row[4]) for row in columns] == [
        ("chat.mongo_writer", first[0], "refused_by_sink"),
        ("chat.redis_publisher", second[0], "invalid_event"),
    ]
    assert count == (
        "2 dead letters shown; chat.mongo_writer.dead holds 1, chat.redis_publisher.dead holds 1"
    )
    for name in ("mongo_writer", "chat.mongo_writer", "chat.mongo_writer.dead"):
        assert [x["id"] for x in as_json(broker_url, "list", "--queue", name)] == first
    assert [x["id"] for x in as_json(broker_url, "list", "--reason", INVALID)] == second


def test_list_is_limited_and_says_what_there_is(broker_url: str, publisher: Publisher) -> None:
    ids = bury(publisher, [posted() for _ in range(130)])
    assert [x["id"] for x in as_json(broker_url, "list")] == ids[:100]
    output = deadletters(broker_url, "list", "--limit", "2")
    assert "2 dead letters shown; chat.mongo_writer.dead holds 130" in output


def test_without_letters_there_is_nothing_to_do(broker_url: str, publisher: Publisher) -> None:
    assert deadletters(broker_url, "list").startswith("0 dead letters shown")
    assert deadletters(broker_url, "redrive", "--all") == "0 dead letters redriven\n"


def test_show_tells_everything_and_nothing_reaches_the_terminal(
    broker_url: str, publisher: Publisher
) -> None:
    evil = "\x1b[2J\x07\u202etxt"
    [message_id] = bury(publisher, [posted(evil)], error=evil)
    shown = deadletters(broker_url, "show", "--id", message_id)
    assert "\\x1b[2J" in shown
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    [letter] = as_json(broker_url, "show", "--id", message_id)
    assert json.loads(letter["body"])["data"]["body"] == evil
    assert letter["headers"]["traceparent"].startswith("00-4bf9")


def test_a_body_that_is_no_text_is_shown_too(broker_url: str, publisher: Publisher) -> None:
    raw = Message(
        exchange="", routing_key=DEAD.name, body=b"\xff\x00\x1b[31m", message_id="bad", type="x"
    )
    publisher.publish(raw)
    assert "\\xff\\x00\\x1b[31m" in deadletters(broker_url, "show")
    [letter] = as_json(broker_url, "show")
    assert (letter["body_base64"], letter["reason"]) == ("/wAbWzMxbQ==", "unknown")


@pytest.mark.parametrize("action", ["redrive", "drop"])
def test_a_dry_run_changes_nothing_and_the_real_one_only_what_it_said(
    broker_url: str, publisher: Publisher, action: str
) -> None:
    kept = bury(publisher, [posted() for _ in range(3)])
    gone = bury(publisher, [posted() for _ in range(2)], reason=INVALID)
    would = deadletters(broker_url, action, "--reason", INVALID, "--dry-run")
    assert all(message_id in would for message_id in gone)
    assert would.splitlines()[-1].startswith("2 dead letters would be ")
    assert (depth(broker_url, DEAD), depth(broker_url, MONGO_WRITER)) == (5, 0)
    done = deadletters(broker_url, action, "--reason", INVALID)
    assert done == would.replace("would be ", "")
    assert [x["id"] for x in as_json(broker_url, "list")] == kept
    assert depth(broker_url, MONGO_WRITER) == (2 if action == "redrive" else 0)
    assert depth(broker_url, REDIS_PUBLISHER) == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("redrive",), "--queue, --id, --reason or --all"),
        (("drop", "--limit", "1"), "--queue, --id, --reason or --all"),
        (("list", "--queue", "web.requests"), "'web.requests' has no dead letters; accepted are"),
        (("list", "--queue", "mysql"), "'mysql' is not a queue; accepted are mongo_writer"),
        (("bury",), "'bury'"),
        (("list", "--limit", "0"), "a whole number from 1"),
    ],
)
def test_bad_input_gets_one_line(words: tuple[str, ...], named: str) -> None:
    assert named in deadletters("redis://127.0.0.1:1/", *words, code=2)


def test_an_id_that_is_nowhere_is_told_by_the_exit_code(
    broker_url: str, publisher: Publisher
) -> None:
    assert "0 dead letters shown" in deadletters(broker_url, "show", "--id", "nix", code=1)
    assert "0 dead letters dropped" in deadletters(broker_url, "drop", "--id", "nix", code=1)


def test_a_second_operator_gets_a_clear_error(broker_url: str, publisher: Publisher) -> None:
    ids = bury(publisher, [posted()])
    with open_dead_letters(broker_url, MONGO_WRITER):
        line = deadletters(broker_url, "drop", "--all", code=1)
    assert line.startswith("chatbus: chat.mongo_writer.dead is locked by another command")
    assert [x["id"] for x in as_json(broker_url, "list")] == ids


def test_a_reader_that_goes_is_no_error(broker_url: str, publisher: Publisher) -> None:
    bury(publisher, [posted("x" * 4_000) for _ in range(100)])
    command = " ".join([*COMMAND, "deadletters", "show", "--json"])
    done = subprocess.run(
        f"{command} | head -c 1",
        shell=True,
        env={**os.environ, "BROKER_URL": broker_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{", "")
    assert depth(broker_url, DEAD) == 100


def test_a_broker_that_is_away_is_one_line() -> None:
    assert "cannot reach the broker" in deadletters("amqp://127.0.0.1:1/", "list", code=1)


def test_killed_in_the_middle_of_a_redrive_nothing_is_lost(
    broker_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_admin, "LOCK_SECONDS", 1)
    ids = bury(publisher, [posted(f"{n}") for n in range(5_000)])
    program = (
        "import sys; from bus.transport.redis import admin; admin.LOCK_SECONDS = 1;"
        "from deploy.cli import main;"
        "sys.exit(main(['deadletters', 'redrive', '--all']))"
    )
    operator = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "BROKER_URL": broker_url},
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent(),  # noqa: PLW1509 - it only calls prctl
    )
    wait_until(lambda: depth(broker_url, MONGO_WRITER))
    operator.kill()
    assert operator.wait(patience(20)) == -signal.SIGKILL
    wait_until(lambda: chatbus("deadletters", "list", BROKER_URL=broker_url).returncode == 0)
    redriven, dead = depth(broker_url, MONGO_WRITER), depth(broker_url, DEAD)
    assert 0 < redriven < len(ids), "it was killed in the middle"
    assert dead >= len(ids) - redriven
    deadletters(broker_url, "redrive", "--all")
    assert depth(broker_url, DEAD) == 0
    seen: list[str | None] = []
    with closing(subscribe(broker_url, MONGO_WRITER, prefetch=1_000)) as source:
        while batch := source.receive(1_000, 1.0):
            seen += [delivery.message_id for delivery in batch]
            source.ack(batch)
    assert set(seen) == set(ids)
    # RabbitMQ may not have read the last acknowledgements when the connection broke.
    assert len(seen) <= len(ids) + 10 * BATCH, "only the last batches went twice"


def test_from_the_poison_to_the_history(broker_url: str, publisher: Publisher, mongo: str) -> None:
    """A consumer buries what it cannot take; what was mended is redriven, and stored."""
    poison = Message(
        exchange="",
        routing_key=MONGO_WRITER.name,
        body=b'{"v":2}',
        message_id="poison",
        type="message.posted",
    )
    event = posted("mended")
    with closing(Publisher(broker_url, EVENT_QUEUES)) as declaring:
        declaring.publish(poison)
    bury(publisher, [event])
    writer = subprocess.Popen(
        [*COMMAND, "run", "mongo_writer"],
        env={**os.environ, "BROKER_URL": broker_url, "MONGO_URL": mongo},
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent(),  # noqa: PLW1509 - it only calls prctl
    )
    try:
        wait_until(lambda: depth(broker_url, DEAD) == 2)
        reasons = {x["id"]: x["reason"] for x in as_json(broker_url, "list")}
        assert reasons == {str(event.id): "refused_by_sink", "poison": "invalid_event"}
        deadletters(broker_url, "redrive", "--id", str(event.id))
        deadletters(broker_url, "drop", "--reason", "invalid_event")
        messages = open_messages(mongo)
        wait_until(lambda: messages.find_one({"_id": str(event.id)}))
        assert depth(broker_url, DEAD) == 0
    finally:
        writer.terminate()
        writer.wait(patience(20))
