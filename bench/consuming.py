"""Consuming from the real queues: our loops beside pika and kombu as they come.

Each empties a full quorum queue. pika and kombu only count and acknowledge; ours decode every
event, and redis_publisher appends it to its room's log. A round takes one after the other, and
ratios are taken within a round: a machine's speed changes from one minute to the next.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import kombu
import pika

from bench.filling import fill
from bus import topology
from bus.consuming import Consumer
from bus.events import Event
from bus.rooms.log_writer import RoomLogWriter
from bus.topology import Queue
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis

MESSAGES = 20_000
ROOMS = 100
ROUNDS = 5
BATCH = 500
PREFETCH = 2 * BATCH

Consume = Callable[[str, Queue, int], None]
Store = Callable[[Sequence[Event]], object]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds for each event: of the clock, and of this process's processor time."""

    clock: float
    processor: float


def run(arguments: argparse.Namespace) -> None:
    count = arguments.messages or MESSAGES
    print(f"{count:,} events of {ROOMS} rooms, acknowledged by {BATCH}; medians of {ROUNDS} rounds")
    with RabbitMQ() as rabbitmq, Redis() as redis, closing(RoomLogWriter.connect(redis.url)) as log:
        contenders: dict[str, tuple[Queue, Consume]] = {
            "pika BlockingConnection": (topology.MONGO_WRITER, pika_blocking),
            "pika SelectConnection": (topology.MONGO_WRITER, pika_select),
            "kombu": (topology.MONGO_WRITER, kombu_consumer),
            "mongo_writer, into nothing": (topology.MONGO_WRITER, ours(_nothing)),
            "redis_publisher, into Redis": (topology.REDIS_PUBLISHER, ours(log.append)),
        }
        rounds = [
            {name: _measure(*who, rabbitmq.url, count) for name, who in contenders.items()}
            for _ in range(ROUNDS)
        ]
    print(
        f"{'':<30}{'events/s':>10}{'CPU µs each':>14}{'time: Blocking = 1':>22}{'Select = 1':>14}"
    )
    for name in contenders:
        _report(name, rounds)


def _measure(queue: Queue, consume: Consume, url: str, count: int) -> Cost:
    fill(url, queue, count, rooms=ROOMS)
    started, used = time.perf_counter(), time.process_time()
    consume(url, queue, count)
    clock, used = time.perf_counter() - started, time.process_time() - used
    return Cost(clock / count, used / count)


def _report(name: str, rounds: list[dict[str, Cost]]) -> None:
    rate = statistics.median(1 / costs[name].clock for costs in rounds)
    used = statistics.median(costs[name].processor for costs in rounds) * 1e6
    blocking, select = (
        statistics.median(costs[name].clock / costs[peer].clock for costs in rounds)
        for peer in ("pika BlockingConnection", "pika SelectConnection")
    )
    print(f"{name:<30}{rate:>10,.0f}{used:>14.0f}{blocking:>22.2f}{select:>14.2f}")


def ours(store: Store) -> Consume:
    """The loop of our consumers, with ``store`` for a sink."""

    def consume(url: str, queue: Queue, count: int) -> None:
        sink = _Counting(store, count)
        Consumer(url=url, queue=queue, sink=sink, stop=sink.full, batch=BATCH).run()

    return consume


class _Counting:
    """A sink that knows when it has taken ``count`` events."""

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self._left = count
        self.full = threading.Event()

    def store(self, batch: Sequence[Event]) -> None:
        self._store(batch)
        self._left -= len(batch)
        if self._left <= 0:
            self.full.set()


def _nothing(batch: Sequence[Event]) -> None:
    """Takes everything."""


def pika_blocking(url: str, queue: Queue, count: int) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.basic_consume(queue.name, _acknowledging(count, channel.stop_consuming))
    channel.start_consuming()
    connection.close()


def pika_select(url: str, queue: Queue, count: int) -> None:
    def consume(channel: Any) -> None:
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(queue.name, _acknowledging(count, connection.close))

    connection = pika.SelectConnection(
        pika.URLParameters(url),
        on_open_callback=lambda connection: connection.channel(on_open_callback=consume),
        on_close_callback=lambda connection, reason: connection.ioloop.stop(),
    )
    connection.ioloop.start()


def _acknowledging(count: int, done: Callable[[], object]) -> Callable[..., None]:
    """A callback for pika that acknowledges by BATCH and ends after ``count`` deliveries."""
    taken = 0

    def on_delivery(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        nonlocal taken
        taken += 1
        if taken % BATCH == 0 or taken == count:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if taken == count:
            done()

    return on_delivery


def kombu_consumer(url: str, queue: Queue, count: int) -> None:
    taken = 0

    def on_message(message: Any) -> None:
        nonlocal taken
        taken += 1
        if taken % BATCH == 0 or taken == count:
            message.ack(multiple=True)

    with kombu.Connection(url) as connection, connection.channel() as channel:
        consumer = kombu.Consumer(
            channel,
            [kombu.Queue(queue.name, no_declare=True)],
            on_message=on_message,
            prefetch_count=PREFETCH,
        )
        with consumer:
            while taken < count:
                connection.drain_events(timeout=5)
