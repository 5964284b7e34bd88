"""What lies on a queue, seen from outside."""

from __future__ import annotations

import pika
import redis

from bus.transport.urls import is_amqp


def waiting(url: str, queue: str) -> int:
    """How many messages lie on ``queue`` that no consumer has taken."""
    return _on_rabbitmq(url, queue) if is_amqp(url) else _on_redis(url, queue)


def _on_rabbitmq(url: str, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        declared = connection.channel().queue_declare(queue, passive=True)
        count: int = declared.method.message_count
        return count


def _on_redis(url: str, queue: str) -> int:
    """In the lists of all priorities; what a consumer has taken lies in lists of its own."""
    with redis.Redis.from_url(url) as client:
        lists = [key for key in client.keys(f"{queue}*") if b".taken." not in key]
        return sum(client.llen(key) for key in lists)
