"""What both brokers answer over an admin connection, and None where one of them cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from bus.errors import QueueBusy
from bus.message import Message
from bus.publishing import Publisher
from bus.topology import ARCHIVE, DEAD, EVENTS, MONGO_WRITER, Queue
from bus.transport import AdminConnection, connect_admin, has_streams, subscribe
from tests.support.wait import wait_until

QUEUE = Queue("test.admin", MONGO_WRITER.bindings)


@pytest.fixture
def admin(broker_url: str) -> Iterator[AdminConnection]:
    with closing(connect_admin(broker_url)) as admin:
        admin.declare([QUEUE])
        admin.purge(QUEUE)
        yield admin


def send(url: str, number: int) -> None:
    with closing(Publisher(url)) as publisher:
        for each in range(number):
            publisher.publish(
                Message(
                    exchange="", routing_key=QUEUE.name, body=b"x", message_id=f"{each}", type="t"
                )
            )


def test_messages_are_counted_seen_and_purged(broker_url: str, admin: AdminConnection) -> None:
    admin.ping()
    assert (admin.depth(QUEUE), admin.has_message(QUEUE)) == (0, False)
    send(broker_url, 2)
    wait_until(lambda: admin.depth(QUEUE) == 2)
    assert admin.has_message(QUEUE)
    wait_until(lambda: admin.purge(QUEUE) == 2)
    assert (admin.depth(QUEUE), admin.has_message(QUEUE)) == (0, False)


def test_a_missing_queue_is_missing_until_it_is_declared(admin: AdminConnection) -> None:
    other = Queue("test.admin.other", MONGO_WRITER.bindings)
    assert admin.is_missing(other)
    admin.declare([other])
    assert not admin.is_missing(other)
    assert admin.bind(other)


def test_a_question_that_the_broker_cannot_answer_returns_none(
    broker_url: str, admin: AdminConnection
) -> None:
    bindings = admin.bindings([EVENTS, DEAD])
    with closing(subscribe(broker_url, QUEUE, prefetch=1)):
        consumers = admin.consumers(QUEUE)
    if has_streams(broker_url):
        assert (bindings, consumers) == (None, 1)
        assert admin.depth(ARCHIVE) is None
    else:
        assert consumers is None
        assert bindings
        assert (EVENTS.name, QUEUE.bindings[0].routing_key, QUEUE.name) in bindings


def test_what_a_killed_consumer_left_returns_to_the_queue(
    broker_url: str, admin: AdminConnection
) -> None:
    send(broker_url, 3)
    killed = subscribe(broker_url, QUEUE, prefetch=10, instance="killed")
    wait_until(lambda: killed.receive(3, 1.0))
    (killed._drop if has_streams(broker_url) else killed._admin.close)()
    admin.return_unsettled(QUEUE, "killed")
    wait_until(lambda: admin.depth(QUEUE) == 3)


def test_one_operator_at_a_time_locks_a_queue(broker_url: str, admin: AdminConnection) -> None:
    with closing(connect_admin(broker_url)) as other:
        with admin.queue_lock(QUEUE) as renew:
            renew()
            with pytest.raises(QueueBusy, match=QUEUE.name), other.queue_lock(QUEUE):
                pass
        with closing(connect_admin(broker_url)) as third, third.queue_lock(QUEUE):
            pass
