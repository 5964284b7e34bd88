"""Confirmed publishing to the real topology: ours beside kombu and pika as they come.

Two quorum queues and the archive stream take every message, so the broker's own work is in every
figure alike; the processor time is the publisher's alone.
"""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import kombu
import pika

from bus import events, topology
from bus.broker import Link
from bus.message import Message
from bus.publisher import Publisher
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ

MESSAGES = 10_000
SINGLE = 1_000
CHUNK = 500
QUEUES = (*topology.EVENT_QUEUES, topology.ARCHIVE)
Publish = Callable[[str, Sequence[Message]], None]


def run(arguments: argparse.Namespace) -> None:
    rooms = [uuid.uuid4() for _ in range(100)]
    messages = [
        events.to_message(posted("x" * 120, rooms[number % len(rooms)]))
        for number in range(MESSAGES)
    ]
    with RabbitMQ() as rabbitmq:
        print(f"{'':<44}{'messages/s':>12}{'CPU µs each':>14}")
        for name, publish, number in CONTENDERS:
            _measure(name, publish, rabbitmq.url, messages[:number])


def _measure(name: str, publish: Publish, url: str, messages: Sequence[Message]) -> None:
    link = Link(url)
    link.declare(QUEUES)
    for queue in topology.EVENT_QUEUES:
        link.channel.queue_purge(queue.name)
    link.close()
    started, used = time.perf_counter(), time.process_time()
    publish(url, messages)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    rate, each = len(messages) / seconds, used / len(messages) * 1e6
    print(f"{name:<44}{rate:>12,.0f}{each:>14.0f}")


def ours_in_bulk(url: str, messages: Sequence[Message]) -> None:
    publisher = Publisher(url, QUEUES)
    chunks: list[Future[None]] = [
        publisher.submit(*messages[start : start + CHUNK], timeout=60)
        for start in range(0, len(messages), CHUNK)
    ]
    for chunk in chunks:
        chunk.result()
    publisher.close()


def ours_one_by_one(url: str, messages: Sequence[Message]) -> None:
    publisher = Publisher(url, QUEUES)
    for message in messages:
        publisher.publish(message)
    publisher.close()


def kombu_one_by_one(url: str, messages: Sequence[Message]) -> None:
    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
        _kombu(connection, messages)


def kombu_unconfirmed(url: str, messages: Sequence[Message]) -> None:
    with kombu.Connection(url) as connection:
        _kombu(connection, messages)


def _kombu(connection: Any, messages: Sequence[Message]) -> None:
    producer = connection.Producer()
    for message in messages:
        producer.publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            content_type=message.content_type,
            content_encoding="utf-8",
            message_id=message.message_id,
            headers=dict(message.headers),
            delivery_mode=2,
        )


def pika_one_by_one(url: str, messages: Sequence[Message]) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for message in messages:
        channel.basic_publish(
            message.exchange,
            message.routing_key,
            message.body,
            pika.BasicProperties(
                content_type=message.content_type,
                message_id=message.message_id,
                headers=dict(message.headers),
                delivery_mode=2,
            ),
            mandatory=True,
        )
    connection.close()


CONTENDERS: tuple[tuple[str, Publish, int], ...] = (
    ("chatbus, confirmed, in bulk", ours_in_bulk, MESSAGES),
    ("kombu, unconfirmed (may lose all of it)", kombu_unconfirmed, MESSAGES),
    ("chatbus, confirmed one by one", ours_one_by_one, SINGLE),
    ("pika BlockingConnection, confirmed one by one", pika_one_by_one, SINGLE),
    ("kombu, confirmed one by one", kombu_one_by_one, SINGLE),
    ("chatbus, confirmed, in bulk, once more", ours_in_bulk, MESSAGES),
)
