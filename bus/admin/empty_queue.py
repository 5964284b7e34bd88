"""The proof that a quorum queue holds nothing, which its counts are not.

RabbitMQ tells of no messages and no consumers also when the queue's leader is starting, or does
not answer within 250 ms (``stat`` in its rabbit_quorum_queue.erl), and then deletes the queue
whatever is on it. So we subscribe: where we are not counted, it was not the leader who counted.
And we put a marker behind all that the queue may hold: when it is the first thing we get, nothing
was before it, and of a queue with a single active consumer we are the active one.

A message that has died, and waits for the dead-letter queue to take it, is on the queue too, and
no marker meets it. Only the statistics count it. They lag; but when they have counted one marker
of ours and then two, the latter were made while we held the queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from amqp.exceptions import NotFound

from bus import events
from bus.errors import QueueInUse
from bus.transport.admin import Link
from bus.transport.rabbitmq.management_api import Management, QueueInfo

ANSWER_SECONDS = 5.0
# RabbitMQ counts a quorum queue every 5 s, and gathers the counts every 5 s.
STATISTICS_SECONDS = 30.0
POLL_SECONDS = 0.2
MARKER = "topology.marker"


@contextmanager
def held_while_empty(url: str, info: QueueInfo, api: Management) -> Iterator[None]:
    """Around the deletion of a quorum queue that nobody publishes to: it is empty, and as nobody
    else is subscribed, it stays so.

    Of a queue that dead-letters at least once, it takes up to STATISTICS_SECONDS. Raises
    QueueInUse where it cannot be proved, NotFound without such a queue, or BrokerUnavailable. A
    consumer that takes a marker finds no event in it, and buries it.
    """
    queue = info.name
    with closing(Link(url)) as link:
        with _in_use_if_silent(link):
            taken = _marker_in_front(link, queue)
        try:
            with _in_use_if_silent(link):
                # The marker is in hand, so that whatever came behind it is counted.
                _check_counts(link.channel, queue)
                if info.arguments.get("x-dead-letter-strategy") == "at-least-once":
                    _check_statistics(link, queue, api, taken)
            yield
        finally:
            if _is_marker(taken[-1]):
                link.channel.basic_ack(taken[-1].delivery_tag)


@contextmanager
def _in_use_if_silent(link: Link) -> Iterator[None]:
    """Turns silence into QueueInUse."""
    try:
        yield
    except NotFound:
        raise
    except link.errors as error:
        raise QueueInUse(f"RabbitMQ does not tell what is on it: {error}") from error


def _marker_in_front(link: Link, queue: str) -> list[Any]:
    """What is taken from ``queue``: a marker, as the first thing. Raises QueueInUse."""
    taken: list[Any] = []
    channel = link.channel
    channel.basic_qos(0, 1, False)
    channel.basic_consume(queue, callback=taken.append)
    _check_counts(channel, queue)
    if not taken:
        _publish_marker(channel, queue)
        _wait_for(link, taken, 1)
    if not _is_marker(taken[0]):
        raise QueueInUse("messages waiting on it: 1, or more")
    return taken


def _check_statistics(link: Link, queue: str, api: Management, taken: list[Any]) -> None:
    """Raises QueueInUse unless two markers, the second one after the first, are all that the
    statistics count; the second one is in hand then."""
    _wait_until_counted(api, queue, 1)
    _publish_marker(link.channel, queue)
    _wait_until_counted(api, queue, 2)
    link.channel.basic_ack(taken[0].delivery_tag)
    _wait_for(link, taken, 2)
    if not _is_marker(taken[1]):
        raise QueueInUse("messages waiting on it: 1, or more")
    _check_counts(link.channel, queue)


def _is_marker(message: Any) -> bool:
    return bool(message.properties.get("type") == MARKER)


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


def _wait_for(link: Link, taken: list[Any], count: int) -> None:
    try:
        while len(taken) < count:
            link.connection.drain_events(timeout=ANSWER_SECONDS)
    except TimeoutError:
        problem = "another consumer takes what comes to it, or its leader does not answer"
        raise QueueInUse(problem) from None


def _wait_until_counted(api: Management, queue: str, count: int) -> None:
    """Until the statistics say that our markers, ``count`` of them, are all, and that we have
    one. Raises QueueInUse."""
    deadline = time.monotonic() + STATISTICS_SECONDS
    while True:
        [info] = [info for info in api.queues() if info.name == queue]
        if (info.messages, info.messages_unacknowledged) == (count, 1):
            return
        if time.monotonic() > deadline:
            raise QueueInUse(
                f"messages on it: {info.messages}, besides {count} to try that; some may have "
                "died and wait for a place among the dead letters"
            )
        time.sleep(POLL_SECONDS)
