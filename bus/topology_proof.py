"""The proof that a quorum queue holds nothing, which its counts are not.

RabbitMQ tells of no messages and no consumers also when the queue's leader is starting, or does
not answer within 250 ms (``stat`` in its rabbit_quorum_queue.erl), and then deletes the queue
whatever is on it. So we subscribe: where we are not counted, it was not the leader who counted.
And we put a marker behind all that the queue may hold: when it is the first thing we get, nothing
was before it, and of a queue with a single active consumer we are the active one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from amqp.exceptions import NotFound

from bus.broker import Link
from bus.errors import QueueInUse

ANSWER_SECONDS = 5.0
MARKER = "topology.marker"


@contextmanager
def held_empty(url: str, queue: str) -> Iterator[None]:
    """Around the deletion of a quorum queue that nobody publishes to: it is empty, and as nobody
    else is subscribed, it stays so.

    Raises QueueInUse where that cannot be proved, NotFound without such a queue, or
    BrokerUnavailable. A consumer that takes the marker finds no event in it, and buries it.
    """
    with closing(Link(url)) as link:
        try:
            _prove(link, queue)
        except NotFound:
            raise
        except link.errors as error:
            raise QueueInUse(f"RabbitMQ does not tell what is on it: {error}") from error
        yield


def _prove(link: Link, queue: str) -> None:
    taken: list[Any] = []
    channel = link.channel
    channel.basic_qos(0, 1, False)
    channel.basic_consume(queue, callback=taken.append)
    _check_counts(channel, queue)
    if not taken:
        channel.basic_publish(channel.prepare_message(b"", properties={"type": MARKER}), "", queue)
        _wait_for(link, taken)
    if taken[0].properties.get("type") != MARKER:
        raise QueueInUse("messages waiting on it: 1, or more")
    channel.basic_ack(taken[0].delivery_tag)
    _check_counts(channel, queue)


def _check_counts(channel: Any, queue: str) -> None:
    """Raises QueueInUse if something waits, or another consumer has something in hand."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while not (declared := channel.queue_declare(queue, passive=True)).consumer_count:
        if time.monotonic() > deadline:
            raise QueueInUse("its leader does not answer")
    ready, others = declared.message_count, declared.consumer_count - 1
    if ready or others:
        raise QueueInUse(f"messages waiting on it: {ready}, consumers: {others}")


def _wait_for(link: Link, taken: list[Any]) -> None:
    try:
        while not taken:
            link.connection.drain_events(timeout=ANSWER_SECONDS)
    except TimeoutError:
        raise QueueInUse("another consumer takes what comes to it") from None
