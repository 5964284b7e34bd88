"""docs/new-consumer.md, done word by word to a copy of the project, on real servers."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bus import events, topology
from bus.events import Event, MessagePosted
from bus.message import Message
from bus.publishing import Publisher
from bus.transport import declare
from tests.conftest import StartStack
from tests.support.broker import consumers, waiting
from tests.support.events import deleted, edited, posted
from tests.support.page import Page, Shell
from tests.support.person import Person
from tests.support.rabbitmq import RabbitMQ
from tests.support.wait import patience, wait_until

ROOT = Path(__file__).parents[2]
PAGE = Page(ROOT / "docs/new-consumer.md")
QUEUE = "chat.search_indexer"
CACHES = shutil.ignore_patterns(".git", ".*_cache", "*.egg-info", "__pycache__", ".venv", "node_*")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project with the files of the page."""
    copy = tmp_path_factory.mktemp("project") / "chatbus"
    shutil.copytree(ROOT, copy, ignore=CACHES)
    PAGE.apply(copy)
    return copy


@pytest.fixture
def broker_url(rabbitmq: RabbitMQ) -> str:
    """A broker as it was before the new queue."""
    url = rabbitmq.fresh_vhost()
    declare(url, topology.QUEUES)
    return url


@pytest.fixture
def shell(project: Path, rabbitmq: RabbitMQ, broker_url: str) -> Shell:
    return Shell(project, {"BROKER_URL": broker_url, "BROKER_API_URL": rabbitmq.api_url})


@pytest.fixture
def publisher(broker_url: str) -> Iterator[Publisher]:
    with closing(Publisher(broker_url)) as publisher:
        yield publisher


def publish(publisher: Publisher, *published: Event) -> None:
    publisher.publish(*map(events.to_message, published))


def poison(publisher: Publisher) -> None:
    publisher.publish(
        Message(
            exchange=topology.EVENTS.name,
            routing_key="room.7.message.posted",
            body=b"{",
            message_id="poison",
            type="message.posted",
        )
    )


def found(database: Path) -> list[tuple[str, str]]:
    """What the page's query finds."""
    (query,) = PAGE.blocks("Into production", "sql")
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def row(event: MessagePosted) -> tuple[str, str]:
    return str(event.id), event.data.body


def test_the_project_holds_together_with_it(project: Path) -> None:
    """What the linters print is on the page."""
    shell = Shell(project, {})
    (checks,) = PAGE.consoles("The process")
    assert len(checks) == 4
    for command in checks:
        shell.run(command)


def test_its_queue_is_made_filled_and_operated(
    project: Path, shell: Shell, broker_url: str, publisher: Publisher
) -> None:
    index = project / "search.db"
    make, (setting, start), (fill,) = PAGE.consoles("Into production")
    (pause, resume), (look,) = PAGE.consoles("In operation")
    old, new, later, last = (posted(f"{word} bus") for word in ("old", "new", "later", "last"))
    publish(publisher, old, deleted(old), posted("train"))

    for command in make:
        shell.run(command)
    publish(publisher, new)
    wait_until(lambda: waiting(broker_url, QUEUE) == 1)

    shell.run(setting)
    with shell.running(start) as process:
        wait_until(lambda: consumers(broker_url, QUEUE) == 1)
        wait_until(lambda: found(index) == [row(new)])
        shell.run(fill)
        assert found(index) == [row(new)], "the old one was deleted"
        shell.run(fill)
        assert found(index) == [row(new)]

        shell.run(pause)
        wait_until(lambda: not consumers(broker_url, QUEUE))
        publish(publisher, edited(later, "even later bus"), later)
        poison(publisher)
        wait_until(lambda: waiting(broker_url, QUEUE) == 3)
        assert found(index) == [row(new)]
        shell.run(resume)
        wait_until(lambda: found(index) == [row(new), (str(later.id), "even later bus")])

        wait_until(lambda: waiting(broker_url, f"{QUEUE}.dead") == 1)
        shell.run(look)
        publish(publisher, last)
        wait_until(lambda: row(last) in found(index), what="it goes on after the poison")
        process.send_signal(signal.SIGTERM)
        assert process.wait(patience(20)) == 0
    assert waiting(broker_url, QUEUE) == 0


def test_chatbus_up_runs_it_with_the_others(
    project: Path, stack: StartStack, tmp_path: Path
) -> None:
    index = tmp_path / "search.db"
    running = stack(PYTHONPATH=str(project), SEARCH_DATABASE=str(index))
    assert "search_indexer" in running.processes()
    alice = Person.registered(running.base_url, "alice")
    message = alice.post(alice.make_room("garden"), "the bus is late")
    wait_until(lambda: found(index) == [(message, "the bus is late")])
    assert running.stop() == 0
