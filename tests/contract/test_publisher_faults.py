"""Publishing to a RabbitMQ that fails in every way that a test can bring about: never a false OK,
and never longer than the deadline."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bus.errors import (
    BrokerBlocked,
    BrokerUnavailable,
    InvalidMessage,
    PublishExpired,
    PublishRefused,
    PublishTimeout,
    PublishUnconfirmed,
)
from bus.message import Message
from bus.publishing import Publisher, TopologyGuard
from bus.runtime.metrics import CONFIRMED, PUBLISHED, RECONNECTS, REFUSED, UNPUBLISHED
from bus.topology import EVENTS, Binding, Queue
from bus.transport import connect_admin, declare, subscribe
from tests.support.ports import HOST, free_port
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitMQ
from tests.support.rabbitmq_faults import alarm
from tests.support.wait import patience, wait_until

QUEUE = Queue("test.faults", (Binding(EVENTS, "room.#"),), {"x-queue-type": "quorum"})
# What a machine under load may add to a deadline.
SLACK = patience(3)
# A deadline that no call here comes near unless it waits for it.
LONG = 120.0
# Of a caller and the thread that publishes, either may notice first that the time is over.
NOT_CONFIRMED = (PublishTimeout, PublishExpired, BrokerUnavailable)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def vhost(breakable_rabbitmq: RabbitMQ) -> str:
    return breakable_rabbitmq.fresh_vhost()


@pytest.fixture
def url(vhost: str) -> str:
    """The broker with an empty queue."""
    admin = connect_admin(vhost)
    admin.declare([QUEUE])
    admin.purge(QUEUE)
    admin.close()
    return vhost


@pytest.fixture
def proxy(breakable_rabbitmq: RabbitMQ) -> Iterator[Proxy]:
    with Proxy(breakable_rabbitmq.port) as proxy:
        yield proxy


@pytest.fixture
def publish() -> Iterator[Callable[..., Publisher]]:
    made: list[Publisher] = []

    def make(url: str, **options: object) -> Publisher:
        made.append(Publisher(url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


@pytest.fixture
def publisher(publish: Callable[..., Publisher], url: str) -> Publisher:
    """One that has a connection."""
    publisher = publish(url)
    publisher.publish(message("first"))
    return publisher


def message(name: str, routing_key: str = "room.1", **options: object) -> Message:
    values = {"exchange": EVENTS.name, "type": "t", "body": name.encode()} | options
    return Message(routing_key=routing_key, message_id=name, **values)  # type: ignore[arg-type]


def on_port(url: str, port: int) -> str:
    return f"amqp://guest:guest@{HOST}:{port}/{url.rpartition('/')[2]}"


def bodies(url: str, last: str) -> list[str]:
    """All that is on the queue up to the body ``last``, which is published for this."""
    publisher = Publisher(url)
    publisher.publish(message(last), timeout=20)
    publisher.close()
    found: list[str] = []
    source = subscribe(url, QUEUE, prefetch=1_000)
    while not found or found[-1] != last:
        deliveries = source.receive(1_000, 5.0)
        assert deliveries, f"the queue ends before {last}: {found[-3:]}"
        source.ack(deliveries)
        found += [delivery.body.decode() for delivery in deliveries]
    source.close()
    return found[:-1]


def timed(call: Callable[[], object], at_most: float) -> None:
    started = time.monotonic()
    call()
    assert time.monotonic() - started < at_most + SLACK


def works_again(publisher: Publisher) -> None:
    def publishes() -> bool:
        try:
            publisher.publish(message("works"))
        except NOT_CONFIRMED:
            return False
        return True

    wait_until(publishes, what="publishing works again")


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_blocked_broker_is_noticed_at_once_and_then_nothing_is_sent(
    breakable_rabbitmq: RabbitMQ,
    url: str,
    publish: Callable[..., Publisher],
    publisher: Publisher,
    kind: str,
) -> None:
    """The broker tells of it in answer to a message only, which it may take later."""

    def fails(sender: Publisher, error: type[BrokerUnavailable], name: str) -> None:
        with pytest.raises(error, match=kind):
            sender.publish(message(name), timeout=LONG)

    idle = publish(url)
    idle.check()
    with alarm(breakable_rabbitmq, kind):
        for error in (PublishUnconfirmed, BrokerBlocked):
            with pytest.raises(error, match=kind):
                idle.check()
        timed(lambda: fails(publisher, PublishUnconfirmed, "perhaps"), LONG / 4)
        timed(lambda: fails(publisher, BrokerBlocked, "refused 1"), LONG / 4)
        timed(lambda: fails(publisher, BrokerBlocked, "refused 2"), LONG / 4)
        fresh = publish(url)
        timed(lambda: fails(fresh, BrokerBlocked, "refused 3"), LONG / 4)
    works_again(publisher)
    works_again(fresh)
    assert [body for body in bodies(url, "last") if body != "perhaps"] == [
        "first",
        "works",
        "works",
    ]


def test_an_idle_publisher_that_is_asked_waits_for_an_answer(
    url: str, proxy: Proxy, publish: Callable[..., Publisher]
) -> None:
    publisher = publish(on_port(url, proxy.port))
    publisher.check()
    proxy.black_hole()
    with pytest.raises(NOT_CONFIRMED):
        publisher.check(timeout=0.5)


def test_a_late_confirm_is_not_taken_for_another_message(
    url: str, proxy: Proxy, publish: Callable[..., Publisher]
) -> None:
    publisher = publish(on_port(url, proxy.port))
    publisher.publish(message("first"))
    proxy.black_hole()
    with pytest.raises(NOT_CONFIRMED):
        publisher.publish(message("late"), timeout=0.5)
    assert proxy.held
    proxy.forward()
    with pytest.raises(PublishRefused, match="nobody"):
        publisher.publish(message("lost", "nobody"))


def test_what_waits_behind_a_stalled_round_past_its_deadline_was_not_sent(
    url: str, proxy: Proxy, publish: Callable[..., Publisher]
) -> None:
    publisher = publish(on_port(url, proxy.port))
    publisher.publish(message("first"))
    proxy.black_hole()
    stalled = publisher.submit(message("stalled"), timeout=1.5)
    wait_until(lambda: proxy.held, what="the first round is sent")
    expired = publisher.submit(message("expired"), timeout=0.1)
    with pytest.raises(PublishExpired, match=r"nothing was sent within 0\.2 s"):
        publisher.publish(message("given up"), timeout=0.2)
    with pytest.raises(PublishUnconfirmed):
        stalled.result(20)
    with pytest.raises(PublishExpired):
        expired.result(20)
    proxy.forward()
    works_again(publisher)
    assert set(bodies(url, "last")) <= {"first", "stalled", "works"}


def test_publishing_nothing_needs_no_broker(publish: Callable[..., Publisher]) -> None:
    publisher = publish(f"amqp://{HOST}:{free_port()}/")
    publisher.publish()
    publisher.submit().result(0)
    with pytest.raises(BrokerUnavailable):
        publisher.check()


def test_a_deleted_exchange_is_no_ok(url: str, publisher: Publisher) -> None:
    admin = connect_admin(url)
    admin.channel.exchange_delete(EVENTS.name)
    admin.close()
    with pytest.raises(PublishUnconfirmed, match="NOT_FOUND"):
        publisher.publish(message("to nowhere"))
    declare(url, [QUEUE])
    works_again(publisher)


@pytest.mark.parametrize("fault", ["close_all_connections", "stop_app", "kill"])
def test_all_that_was_confirmed_is_there_whatever_the_broker_does(
    breakable_rabbitmq: RabbitMQ, url: str, publisher: Publisher, fault: str
) -> None:
    confirmed: list[str] = []
    connections = RECONNECTS.labels("publisher")._value
    before = connections.get()
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            name = f"number {next(_numbers)}"
            try:
                publisher.publish(message(name))
                confirmed.append(name)
            except NOT_CONFIRMED:
                pass  # not answered OK, so it may be there or not

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(confirmed) > 50)
        break_broker(breakable_rabbitmq, fault)
        wait_until(lambda: connections.get() > before, 60.0, "the connection was lost")
        so_far = len(confirmed)
        wait_until(lambda: len(confirmed) > so_far + 50, 60.0)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(confirmed) <= set(bodies(url, "last"))


def break_broker(rabbitmq: RabbitMQ, fault: str) -> None:
    match fault:
        case "close_all_connections":
            rabbitmq.ctl("close_all_connections", "--global", "test")
        case "stop_app":
            rabbitmq.ctl("stop_app")
            rabbitmq.ctl("start_app")
        case "kill":
            rabbitmq.kill()
            rabbitmq.start()


def test_silent_and_dead_hosts_do_not_keep_from_the_good_one(
    url: str,
    breakable_rabbitmq: RabbitMQ,
    publish: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the publisher's connection nor that of its guard."""
    with socket.create_server((HOST, 0)) as silent:
        ports = (
            free_port(),
            silent.getsockname()[1],
            silent.getsockname()[1],
            breakable_rabbitmq.port,
        )
        hosts = ";".join(on_port(url, port) for port in ports)
        monkeypatch.setattr(random, "shuffle", lambda hosts: None)  # the worst order
        guard = TopologyGuard(hosts, [QUEUE])
        timed(lambda: publish(hosts, guard=guard).publish(message("by detour")), 5.0)
        guard.close()
        assert silent.accept()[0], "the silent host was tried"
    assert bodies(url, "last") == ["by detour"]


def test_a_broker_that_takes_connections_and_says_nothing_costs_the_deadline(
    publish: Callable[..., Publisher],
) -> None:
    with socket.create_server((HOST, 0)) as silent:
        publisher = publish(f"amqp://guest:guest@{HOST}:{silent.getsockname()[1]}/%2F")

        def give_up() -> None:
            with pytest.raises(NOT_CONFIRMED):
                publisher.publish(message("x"), timeout=1.0)

        timed(give_up, 1.0)
        assert silent.accept()[0]


def test_a_connection_that_goes_silent_costs_the_deadline_once(
    url: str, proxy: Proxy, publish: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    publisher = publish(on_port(url, proxy.port))
    publisher.publish(message("first"))
    reconnects = RECONNECTS.labels("publisher")._value.get()
    proxy.black_hole()

    def give_up() -> None:
        with pytest.raises(NOT_CONFIRMED):
            publisher.publish(message("held"), timeout=1.0)

    timed(give_up, 1.0)
    # The caller's clock may run out a moment before that of the thread that publishes.
    wait_until(lambda: "not published" in caplog.text, what="the connection is given up")
    proxy.forward()
    works_again(publisher)
    assert proxy.connections == 2
    assert RECONNECTS.labels("publisher")._value.get() == reconnects + 1


@pytest.mark.parametrize(
    "bad",
    [
        {"headers": {"key": object()}},
        {"headers": {"k" * 300: 1}},
        {"headers": {"key": "x" * 200_000}},
        {"priority": 300},
        {"timestamp": -1},
        {"reply_to": "x" * 256},
    ],
)
def test_a_message_that_cannot_be_encoded_fails_alone(
    url: str, publisher: Publisher, bad: dict[str, object]
) -> None:
    good = publisher.submit(message("before"))
    refusable = message("bad", **bad)
    refused = publisher.submit(message("left out"), refusable)
    after = publisher.submit(message("after"))
    good.result(patience(10))
    after.result(patience(10))
    with pytest.raises(InvalidMessage, match=f"message {refusable.message_id} cannot be encoded"):
        refused.result(patience(10))
    assert bodies(url, "last") == ["first", "before", "after"]


def test_a_fork_is_not_held_up_by_a_lock_of_its_parent(url: str, publisher: Publisher) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with publisher._lock:
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            publisher.publish(message("child"))
            status = 0
        finally:
            os._exit(status)
    try:
        wait_until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        release.set()
        holder.join()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0
    publisher.publish(message("parent"))
    assert bodies(url, "last") == ["first", "child", "parent"]


def test_every_message_is_counted_once(publisher: Publisher, breakable_rabbitmq: RabbitMQ) -> None:
    counters = (PUBLISHED, CONFIRMED, REFUSED, UNPUBLISHED)
    before = [counter._value.get() for counter in counters]
    publisher.publish(message("one"), message("two"))
    with pytest.raises(PublishRefused):
        publisher.publish(message("lost", "nobody"))
    with pytest.raises(InvalidMessage):
        publisher.publish(message("bad", priority=300))
    publisher.check()
    after = [counter._value.get() for counter in counters]
    assert [new - old for new, old in zip(after, before, strict=True)] == [4, 2, 1, 1]
