"""What every publisher promises, on each kind of broker."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from bus import events, topology
from bus.errors import (
    BrokerUnavailable,
    PublishExpired,
    PublishRefused,
    PublishTimeout,
    PublishUnconfirmed,
)
from bus.message import Message
from bus.publishing import Publisher
from bus.topology import Binding, Queue
from bus.transport import Subscription, connect_admin, subscribe
from bus.transport.rabbitmq.connection import RabbitChannel
from tests.support.events import posted
from tests.support.freeze import frozen
from tests.support.ports import HOST, free_port
from tests.support.rabbitmq import RabbitMQ
from tests.support.wait import patience, wait_until

QUEUE = Queue("test.publisher", (Binding(topology.EVENTS, "room.*.message.*"),))
SMALL = Queue(
    "test.small",
    arguments={"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"},
)


@pytest.fixture
def publisher(broker_url: str) -> Iterator[Publisher]:
    publisher = Publisher(broker_url, [QUEUE])
    yield publisher
    publisher.close()


@pytest.fixture
def source(broker_url: str) -> Iterator[Subscription]:
    source = subscribe(broker_url, QUEUE, prefetch=5_000)
    yield source
    source.close()


def take(source: Subscription, number: int) -> list[bytes]:
    """The bodies of the next ``number`` deliveries, acknowledged."""
    bodies: list[bytes] = []

    def received() -> bool:
        deliveries = source.receive(1_000, 0.1)
        source.ack(deliveries)
        bodies.extend(delivery.body for delivery in deliveries)
        return len(bodies) >= number

    wait_until(received, what=f"{number} deliveries")
    return bodies


def to_queue(name: str, body: bytes = b"{}") -> Message:
    return Message(exchange="", routing_key=name, body=body, message_id="x", type="t")


def test_what_is_published_arrives_whole_and_in_order(
    publisher: Publisher, source: Subscription
) -> None:
    sent = [posted(f"number {number}") for number in range(3_000)]
    for start in range(0, len(sent), 700):
        publisher.publish(*map(events.to_message, sent[start : start + 700]))
    assert take(source, len(sent)) == [events.encode(event) for event in sent]


def test_properties_and_binary_bodies_arrive(publisher: Publisher, source: Subscription) -> None:
    body = bytes(range(256)) * 16
    publisher.publish(
        Message(
            exchange="",
            routing_key=QUEUE.name,
            body=body,
            message_id="id-1",
            type="some.type",
            content_type="application/octet-stream",
            headers={"room_id": "r", "number": 7},
            correlation_id="c-1",
            reply_to="there",
            timestamp=1_700_000_000,
        )
    )
    [delivery] = wait_until(lambda: source.receive(1, 0.1))
    source.ack([delivery])
    assert delivery.body == body
    assert (delivery.message_id, delivery.type) == ("id-1", "some.type")
    assert dict(delivery.headers) == {"room_id": "r", "number": 7}
    assert (delivery.correlation_id, delivery.reply_to) == ("c-1", "there")
    assert not delivery.redelivered


def test_a_message_that_no_queue_takes_is_an_error_for_its_sender_alone(
    publisher: Publisher, source: Subscription
) -> None:
    lost = Message(
        exchange=topology.EVENTS.name, routing_key="nobody", body=b"{}", message_id="x", type="t"
    )
    good = publisher.submit(events.to_message(posted("before")))
    bad = publisher.submit(lost)
    after = publisher.submit(events.to_message(posted("after")))
    good.result(patience(10))
    after.result(patience(10))
    with pytest.raises(PublishRefused, match="nobody"):
        bad.result(patience(10))
    assert len(take(source, 2)) == 2


def test_two_senders_of_one_id_both_hear_that_no_queue_takes_it(publisher: Publisher) -> None:
    publisher.check()
    lost = Message(
        exchange=topology.EVENTS.name, routing_key="nobody", body=b"{}", message_id="x", type="t"
    )
    for sent in [publisher.submit(lost) for _ in range(20)]:
        with pytest.raises(PublishRefused, match="nobody"):
            sent.result(patience(10))


def test_a_queue_that_was_deleted_is_there_again_on_the_next_connection(broker_url: str) -> None:
    first = Publisher(broker_url, [QUEUE])
    first.publish(events.to_message(posted()))
    first.close()
    admin = connect_admin(broker_url)
    admin.channel.queue_delete(QUEUE.name)
    admin.close()
    second = Publisher(broker_url, [QUEUE])
    second.publish(events.to_message(posted("again")))
    second.close()
    source = subscribe(broker_url, QUEUE, prefetch=10)
    assert b"again" in take(source, 1)[-1]
    source.close()


@pytest.mark.parametrize("scheme", ["amqp://guest:guest@", "redis://"])
def test_nobody_listens(scheme: str) -> None:
    publisher = Publisher(f"{scheme}{HOST}:{free_port()}/0", [QUEUE])
    with pytest.raises(BrokerUnavailable):
        publisher.publish(events.to_message(posted()))
    publisher.close()


def test_a_fork_has_a_connection_of_its_own(publisher: Publisher, source: Subscription) -> None:
    publisher.publish(events.to_message(posted("parent")))
    child = os.fork()
    if child == 0:
        try:
            publisher.publish(events.to_message(posted("child")))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    publisher.publish(events.to_message(posted("parent again")))
    bodies = b"".join(take(source, 3))
    assert all(word in bodies for word in (b'"parent"', b'"child"', b'"parent again"'))


def test_a_full_queue_refuses(rabbitmq: RabbitMQ) -> None:
    publisher = Publisher(rabbitmq.fresh_vhost(), [SMALL])

    def refused() -> bool:
        try:
            publisher.publish(to_queue(SMALL.name))
        except PublishRefused:
            return True
        return False

    wait_until(refused, what="the broker refuses")  # it counts a moment later
    publisher.close()


def test_a_stopped_broker_costs_the_deadline_and_no_more_and_is_never_a_false_ok(
    rabbitmq: RabbitMQ,
) -> None:
    url = rabbitmq.fresh_vhost()
    publisher = Publisher(url, [QUEUE])
    publisher.publish(to_queue(QUEUE.name, b"before"))
    with frozen(rabbitmq.pid):
        for _ in range(3):
            with pytest.raises((PublishTimeout, PublishExpired, BrokerUnavailable)):
                publisher.publish(to_queue(QUEUE.name, b"stopped"), timeout=0.5)
    wait_until(lambda: publishes(publisher, b"after"), what="publishing works again")
    source = subscribe(url, QUEUE, prefetch=10)
    bodies = take(source, 2)
    source.close()
    publisher.close()
    assert (bodies[0], bodies[-1]) == (b"before", b"after")
    assert set(bodies[1:-1]) <= {b"stopped"}


def publishes(publisher: Publisher, body: bytes) -> bool:
    try:
        publisher.publish(to_queue(QUEUE.name, body), timeout=5)
    except (PublishTimeout, PublishExpired, BrokerUnavailable):
        return False
    return True


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """It would close a connection that the code has forgotten."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_connections_that_are_given_up_are_closed(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    before = connections_to(rabbitmq)
    publisher = Publisher(url, [QUEUE])
    publisher.publish(to_queue(QUEUE.name))
    assert connections_to(rabbitmq) == before + 1
    with frozen(rabbitmq.pid), no_garbage_collection():
        with pytest.raises((PublishTimeout, PublishExpired, BrokerUnavailable)):
            publisher.publish(to_queue(QUEUE.name), timeout=0.5)
        wait_until(lambda: connections_to(rabbitmq) == before, what="the connection is closed")
        with pytest.raises(BrokerUnavailable):
            RabbitChannel(url, heartbeat=0)
        assert connections_to(rabbitmq) == before
    publisher.close()


def test_closing_changes_nothing_for_the_sockets_of_other_threads(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[object] = []
    monkeypatch.setattr(socket, "setdefaulttimeout", changed.append)
    connect_admin(broker_url).close()
    assert changed == []


def connections_to(rabbitmq: RabbitMQ) -> int:
    mine = psutil.Process().net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == rabbitmq.port for c in mine)


def test_a_connection_that_cannot_even_be_closed_costs_its_own_round_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        def __init__(self, *arguments: object) -> None: ...

        def is_alive(self) -> bool:
            return True

        def publish(self, batch: object) -> None:
            raise ValueError("cannot be published")

        def close(self) -> None:
            raise ValueError("cannot be closed")

    monkeypatch.setattr("bus.publishing.publisher.open_publish_channel", Broken)
    publisher = Publisher("amqp://nowhere/")
    for _ in range(2):
        with pytest.raises(PublishUnconfirmed, match="cannot be published"):
            publisher.publish(to_queue("x"), timeout=5)
    publisher.close()
