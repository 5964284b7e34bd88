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

from bus import events
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
        with _told(link):
            marker = _marker_in_front(link, queue)
        try:
            with _told(link):
                # The marker is in hand, so that whatever came behind it is counted.
                _check_counts(link.channel, queue)
            yield
        finally:
            link.channel.basic_ack(marker.delivery_tag)


@contextmanager
def _told(link: Link) -> Iterator[None]:
    """Turns silence into QueueInUse."""
    try:
        yield
    except NotFound:
        raise
    except link.errors as error:
        raise QueueInUse(f"RabbitMQ does not tell what is on it: {error}") from error


def _marker_in_front(link: Link, queue: str) -> Any:
    """The marker, taken as the first thing on ``queue``. Raises QueueInUse."""
    taken: list[Any] = []
    channel = link.channel
    channel.basic_qos(0, 1, False)
    channel.basic_consume(queue, callback=taken.append)
    _check_counts(channel, queue)
    if not taken:
        _publish_marker(channel, queue)
        _wait_for(link, taken)
    if taken[0].properties.get("type") != MARKER:
        raise QueueInUse("messages waiting on it: 1, or more")
    return taken[0]


def _publish_marker(channel: Any, queue: str) -> None:
    properties = {"type": MARKER, "message_id": str(events.new_id())}
    channel.basic_publish(channel.prepare_message(b"", properties=properties), "", queue)


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
