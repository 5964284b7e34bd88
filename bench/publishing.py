"""Confirmed publishing to the real topology: ours beside kombu and pika as they come.

Two quorum queues and the archive stream take every message, so the broker's own work is in every
figure alike; the processor time is the publisher's alone. For comparison, one quorum queue takes
them. A round takes one after the other, and ratios are taken within a round: a machine's speed
changes from one minute to the next.
"""

from __future__ import annotations

import argparse
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import kombu
import msgspec
import pika

from bench import request
from bus import events, topology
from bus.message import Message
from bus.publishing import Publisher
from bus.transport import connect_admin
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ

MESSAGES = 10_000
SINGLE = 1_000
CHUNK = 500
ROUNDS = 3
QUEUES = (*topology.EVENT_QUEUES, topology.ARCHIVE)
Publish = Callable[[str, Sequence[Message]], None]


def run(arguments: argparse.Namespace) -> None:
    count = arguments.messages or MESSAGES
    rooms = [uuid.uuid4() for _ in range(100)]
    messages = [
        events.to_message(posted("x" * 120, rooms[number % len(rooms)])) for number in range(count)
    ]
    with RabbitMQ() as rabbitmq:
        url = rabbitmq.url
        print("to the exchange:")
        _table("pika, pipelined", IN_BULK, url, messages)
        print("to one of its queues:")
        _table("pika, pipelined", IN_BULK, url, [_to_one_queue(each) for each in messages])
        print("to the exchange:")
        _table("pika, one by one", ONE_BY_ONE, url, messages[:SINGLE])
        request.run(url, QUEUES, messages[0])


def _to_one_queue(message: Message) -> Message:
    return msgspec.structs.replace(message, exchange="", routing_key=topology.MONGO_WRITER.name)


def _table(
    peer: str, contenders: dict[str, Publish], url: str, messages: Sequence[Message]
) -> None:
    """Prints what each contender took; its time in each round is divided by the ``peer``'s."""
    rounds = [
        {name: _measure(publish, url, messages) for name, publish in contenders.items()}
        for _ in range(ROUNDS)
    ]
    print(f"{f'{len(messages):,} messages':<30}{'messages/s':>12}{'CPU µs each':>14}{peer:>20} = 1")
    for name in contenders:
        rate = statistics.median(1 / costs[name][0] for costs in rounds)
        used = statistics.median(costs[name][1] for costs in rounds) * 1e6
        ratio = statistics.median(costs[name][0] / costs[peer][0] for costs in rounds)
        print(f"{name:<30}{rate:>12,.0f}{used:>14.0f}{ratio:>24.2f}")


def _measure(publish: Publish, url: str, messages: Sequence[Message]) -> tuple[float, float]:
    """Seconds for each message: of the clock, and of this process's processor time."""
    admin = connect_admin(url)
    admin.declare(QUEUES)
    for queue in topology.EVENT_QUEUES:
        admin.purge(queue)
    admin.close()
    started, used = time.perf_counter(), time.process_time()
    publish(url, messages)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    return seconds / len(messages), used / len(messages)


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


def pika_pipelined(url: str, messages: Sequence[Message]) -> None:
    """SelectConnection: everything is sent at once; the last one's confirm is the end."""

    def on_confirm(frame: Any) -> None:
        assert isinstance(frame.method, pika.spec.Basic.Ack)
        if frame.method.delivery_tag == len(messages):
            connection.close()

    def on_channel(channel: Any) -> None:
        channel.confirm_delivery(on_confirm)
        for message in messages:
            _pika(channel, message)

    connection = pika.SelectConnection(
        pika.URLParameters(url),
        on_open_callback=lambda connection: connection.channel(on_open_callback=on_channel),
        on_close_callback=lambda connection, reason: connection.ioloop.stop(),
    )
    connection.ioloop.start()


def pika_one_by_one(url: str, messages: Sequence[Message]) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for message in messages:
        _pika(channel, message)
    connection.close()


def _pika(channel: Any, message: Message) -> None:
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


IN_BULK: dict[str, Publish] = {
    "pika, pipelined": pika_pipelined,
    "chatbus, in bulk": ours_in_bulk,
    "kombu, unconfirmed": kombu_unconfirmed,
}
ONE_BY_ONE: dict[str, Publish] = {
    "pika, one by one": pika_one_by_one,
    "chatbus, one by one": ours_one_by_one,
    "kombu, one by one": kombu_one_by_one,
}
