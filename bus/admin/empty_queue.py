"""The proof that a quorum queue holds nothing; its counts prove nothing.

RabbitMQ also counts no messages and no consumers while the queue's leader is starting, or does
not answer within 250 ms (``stat`` in its rabbit_quorum_queue.erl), and then deletes the queue
whatever is on it. So this subscribes to the queue: a count that leaves this subscription out does
not come from the leader. It also puts a marker behind everything that the queue may hold. When
the marker is the first message to arrive, nothing was before it, and if the queue has a single
active consumer, it is this one.

A message that died, and waits until the dead-letter queue takes it, is on the queue too, and
never meets a marker. Only the statistics count it. They lag, but once they have counted one
marker and then two, the later count was made while this held the queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from bus.errors import BrokerUnavailable, QueueInUse
from bus.transport.rabbitmq.management_api import Management, QueueInfo
from bus.transport.rabbitmq.marker_channel import ANSWER_SECONDS, MarkerChannel

# RabbitMQ counts a quorum queue every 5 s, and gathers the counts every 5 s.
STATISTICS_SECONDS = 30.0
POLL_SECONDS = 0.2


@contextmanager
def held_while_empty(url: str, info: QueueInfo, api: Management) -> Iterator[None]:
    """Surrounds the deletion of a quorum queue that nothing is published to: the queue is empty,
    and as it has no other consumer, it stays empty.

    Takes up to STATISTICS_SECONDS for a queue that dead-letters at least once. Raises QueueInUse
    when it cannot be proved, QueueMissing without such a queue, or BrokerUnavailable. A consumer
    that takes a marker finds no event in it, and dead-letters it.
    """
    with closing(MarkerChannel(url, info.name)) as channel:
        with _in_use_if_silent():
            _put_marker_in_front(channel)
        try:
            with _in_use_if_silent():
                # The marker is not settled, so whatever came behind it is counted.
                _check_counts(channel)
                if info.arguments.get("x-dead-letter-strategy") == "at-least-once":
                    _check_statistics(channel, api)
            yield
        finally:
            if channel.is_marker:
                channel.ack()


@contextmanager
def _in_use_if_silent() -> Iterator[None]:
    """Turns silence into QueueInUse."""
    try:
        yield
    except BrokerUnavailable as error:
        raise QueueInUse(f"RabbitMQ does not answer what is on it: {error}") from error


def _put_marker_in_front(channel: MarkerChannel) -> None:
    """Subscribes, and takes a marker as the first message. Raises QueueInUse."""
    channel.subscribe()
    _check_counts(channel)
    if not channel.taken:
        channel.send_marker()
        _wait_for(channel, 1)
    _check_is_marker(channel)


def _check_statistics(channel: MarkerChannel, api: Management) -> None:
    """Raises QueueInUse unless two markers, the second one after the first, are all that the
    statistics count; the second one is taken then."""
    _wait_until_counted(api, channel.queue, 1)
    channel.send_marker()
    _wait_until_counted(api, channel.queue, 2)
    channel.ack()
    _wait_for(channel, 2)
    _check_is_marker(channel)
    _check_counts(channel)


def _check_is_marker(channel: MarkerChannel) -> None:
    if not channel.is_marker:
        raise QueueInUse("messages waiting on it: 1, or more")


def _check_counts(channel: MarkerChannel) -> None:
    """Raises QueueInUse if a message waits, or the queue has another consumer."""
    deadline = time.monotonic() + ANSWER_SECONDS
    ready, consumers = channel.counts()
    while not consumers:
        if time.monotonic() > deadline:
            raise QueueInUse("its leader does not answer")
        ready, consumers = channel.counts()
    if ready or consumers > 1:
        raise QueueInUse(f"messages waiting on it: {ready}, consumers: {consumers - 1}")


def _wait_for(channel: MarkerChannel, count: int) -> None:
    if not channel.wait(count):
        raise QueueInUse("another consumer takes what comes to it, or its leader does not answer")


def _wait_until_counted(api: Management, queue: str, count: int) -> None:
    """Waits until the statistics say that ``count`` markers are all, and that one of them is
    taken. Raises QueueInUse."""
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
