"""The topology while publishers and consumers run: what is confirmed stays, whatever is changed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Self

import pika
import pytest

from bus import events
from bus.consuming import Consumer
from bus.errors import RetryableError
from bus.events import Event
from bus.publishing import Publisher
from bus.runtime.process import die_with_parent
from bus.runtime.settings import Environment
from bus.topology import CONSUMERS, EVENT_QUEUES, GATE, MONGO_WRITER, Queue, pause_queue
from bus.transport import subscribe
from bus.transport.rabbitmq.management_api import Management
from deploy.commands import topology as command
from tests.support.broker import consumers
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.wait import patience, wait_until

SOME = 50


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.fresh_vhost()


class Ledger(AbstractContextManager["Ledger"]):
    """A thread that publishes without pause, and without a guard; it notes what was confirmed."""

    def __init__(self, url: str) -> None:
        self.confirmed: set[uuid.UUID] = set()
        self.refused = 0
        self._publisher = Publisher(url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._publisher.close()

    def wait_for_more(self) -> None:
        """Returns when more was confirmed."""
        enough = len(self.confirmed) + SOME
        wait_until(lambda: len(self.confirmed) >= enough, what="events are confirmed")

    def wait_for_refusals(self) -> None:
        before = self.refused
        wait_until(lambda: self.refused > before, what="events are refused")

    def _publish(self) -> None:
        while not self._stop.is_set():
            event = posted()
            try:
                self._publisher.publish(events.to_message(event))
            except RetryableError:
                self.refused += 1
            else:
                self.confirmed.add(event.id)


class Memory:
    """A sink."""

    def __init__(self) -> None:
        self.stored: set[uuid.UUID] = set()

    def store(self, batch: Sequence[Event]) -> None:
        self.stored |= {event.id for event in batch}


@pytest.fixture
def memory(url: str) -> Iterator[Memory]:
    """What a running consumer of MONGO_WRITER has stored."""
    memory = Memory()
    stop, connected = threading.Event(), threading.Event()
    consumer = Consumer(
        url=url,
        queue=MONGO_WRITER,
        sink=memory,
        stop=stop,
        batch=100,
        on_connected=connected.set,
    )
    thread = threading.Thread(target=consumer.run)
    thread.start()
    wait_until(connected.is_set, what="the consumer is connected")
    yield memory
    stop.set()
    thread.join()


def apply(rabbitmq: RabbitMQ, url: str, *words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    settings = {"BROKER_URL": url, "BROKER_API_URL": rabbitmq.api_url}
    return command.run(parser.parse_args(["apply", *words]), Environment(settings))


def ids_on(url: str, queue: Queue) -> set[uuid.UUID]:
    """Takes everything from ``queue``."""
    with closing(subscribe(url, queue, prefetch=10_000)) as source:
        found: set[uuid.UUID] = set()
        while deliveries := source.receive(10_000, 1.0):
            found |= {events.decode(delivery.body).id for delivery in deliveries}
            source.ack(deliveries)
        return found


def declare_otherwise(url: str, queue: Queue) -> None:
    """As an older release would have."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        arguments = {**queue.arguments, "x-max-length": 1_000_000}
        connection.channel().queue_declare(queue.name, durable=True, arguments=arguments)


def test_a_queue_is_made_anew_under_load_and_nothing_confirmed_is_lost(
    rabbitmq: RabbitMQ, url: str, request: pytest.FixtureRequest
) -> None:
    declare_otherwise(url, MONGO_WRITER)
    apply(rabbitmq, url)
    memory: Memory = request.getfixturevalue("memory")
    with Ledger(url) as ledger:
        ledger.wait_for_more()
        assert apply(rabbitmq, url, "--recreate") == 0
        assert ledger.refused, "nothing was published while the gate was closed"
        ledger.wait_for_more()
    wait_until(lambda: ledger.confirmed <= memory.stored, what="all that was confirmed is stored")
    queues = {queue.name: queue for queue in Management.from_url(url, rabbitmq.api_url).queues()}
    assert queues[MONGO_WRITER.name].arguments == MONGO_WRITER.arguments
    assert GATE.name not in queues


def test_an_exchange_made_again_lets_nothing_through_to_only_some_of_its_queues(
    rabbitmq: RabbitMQ, url: str
) -> None:
    apply(rabbitmq, url)
    with Ledger(url) as ledger:
        ledger.wait_for_more()
        before = ledger.confirmed.copy()
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            connection.channel().exchange_delete("chat.events")
        ledger.wait_for_refusals()
        # RabbitMQ deletes an exchange's bindings one by one: a confirm may tell of half of them.
        while_deleted = ledger.confirmed - before
        assert apply(rabbitmq, url) == 0
        ledger.wait_for_more()
    for queue in EVENT_QUEUES:
        assert ledger.confirmed - while_deleted <= ids_on(url, queue), queue.name


@pytest.fixture
def settings(url: str, redis_server: Redis, mongo: str, tmp_path: Path) -> dict[str, str]:
    """Of a process on an empty broker."""
    return {
        "BROKER_URL": url,
        "REDIS_URL": redis_server.fresh_database(),
        "MONGO_URL": mongo,
        "DATABASE_URL": f"sqlite:///{tmp_path}/database",
        "SECRET_KEY": "only-for-tests-0123456789-abcdefgh",
        "TICKET_KEYS": f"k:{'x' * 50}",
        "ALLOWED_HOSTS": "localhost",
    }


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_declares_its_own_queue_and_no_other(
    rabbitmq: RabbitMQ, url: str, settings: dict[str, str], name: str
) -> None:
    management = Management.from_url(url, rabbitmq.api_url)
    queue = CONSUMERS[name]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "deploy.cli", "run", name],
        env=os.environ | settings,
        preexec_fn=die_with_parent(),  # noqa: PLW1509 - it only calls prctl
    )
    try:
        wait_until(lambda: consumers(url, queue.name), 60, f"{name} consumes")
        parts = (queue, queue.dead_letters, pause_queue(queue))
        own = {part.name for part in parts if part}
        assert {found.name for found in management.queues()} == own
        assert {bound.destination for bound in management.bindings()} == own
    finally:
        process.terminate()
        assert process.wait(patience(30)) == 0
