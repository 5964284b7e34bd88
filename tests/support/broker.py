"""What lies on a broker's queues, and emptying them."""

from __future__ import annotations

from contextlib import closing

import pika
import pika.exceptions
import redis

from bus.topology import EVENT_QUEUES, Queue
from bus.transport import connect_admin
from bus.transport.urls import is_amqp


def empty(url: str) -> None:
    """Declares the event queues and removes all that lies on them and their dead letters."""
    with closing(connect_admin(url)) as admin:
        admin.declare(EVENT_QUEUES)
        for queue in EVENT_QUEUES:
            admin.purge(queue)
            assert queue.dead_letters
            admin.purge(queue.dead_letters)


def depth(url: str, queue: Queue | None) -> int:
    """How many messages lie on ``queue`` that no consumer has taken; 0 without a queue."""
    assert queue
    with closing(connect_admin(url)) as admin:
        return admin.depth(queue) or 0


def consumers(url: str, queue: str) -> int:
    """How many consumers ``queue`` of RabbitMQ has, those on standby not counted; 0 without it."""
    try:
        return _declared(url, queue).consumer_count
    except pika.exceptions.ChannelClosedByBroker:
        return 0


def waiting(url: str, queue: str) -> int:
    """How many messages lie on ``queue`` that no consumer has taken, seen from outside."""
    return _declared(url, queue).message_count if is_amqp(url) else _on_redis(url, queue)


def _declared(url: str, queue: str) -> pika.spec.Queue.DeclareOk:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        return connection.channel().queue_declare(queue, passive=True).method


def _on_redis(url: str, queue: str) -> int:
    """In the lists of all priorities; what a consumer has taken lies in lists of its own."""
    with redis.Redis.from_url(url) as client:
        lists = [key for key in client.keys(f"{queue}*") if b".taken." not in key]
        return sum(client.llen(key) for key in lists)
