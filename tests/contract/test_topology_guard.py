"""What the guard finds on each kind of broker, and what it keeps a publisher from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from bus import events, topology
from bus.errors import TopologyBroken
from bus.publishing import Publisher
from bus.publishing.topology_guard import NOT_CHECKED, UNREACHABLE, TopologyGuard
from bus.topology import EVENT_QUEUES, MONGO_WRITER, REDIS_PUBLISHER, Queue
from bus.transport import connect_admin, declare
from bus.transport.urls import is_amqp
from tests.support.broker import waiting
from tests.support.events import posted
from tests.support.ports import HOST, free_port
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.wait import wait_until

NOTICE_SECONDS = 10.0
Guard = Callable[..., TopologyGuard]


@pytest.fixture(params=["amqp", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty broker of each kind, for one test."""
    if request.param == "amqp":
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        return rabbitmq.fresh_vhost()
    redis: Redis = request.getfixturevalue("redis_server")
    return redis.fresh_database()


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> str:
    url = rabbitmq.fresh_vhost()
    declare(url, EVENT_QUEUES)
    return url


@pytest.fixture
def guard() -> Iterator[Guard]:
    made: list[TopologyGuard] = []

    def make(url: str, **options: object) -> TopologyGuard:
        made.append(TopologyGuard(url, EVENT_QUEUES, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


def unbind(url: str, queue: Queue) -> None:
    [binding] = queue.bindings
    admin = connect_admin(url)
    if is_amqp(url):
        admin.channel.queue_unbind(queue.name, binding.exchange.name, binding.routing_key)
    else:
        table = f"_kombu.binding.{binding.exchange.name}"
        [entry] = [each for each in admin.channel.client.smembers(table) if queue.name in str(each)]
        admin.channel.client.srem(table, entry)
    admin.close()


def remove(url: str, queue: Queue) -> None:
    """Deletes it; in Redis a queue without bindings is none."""
    if not is_amqp(url):
        unbind(url, queue)
        return
    admin = connect_admin(url)
    admin.channel.queue_delete(queue.name)
    admin.close()


def test_a_whole_topology_is_no_problem(url: str, guard: Guard) -> None:
    declare(url, EVENT_QUEUES)
    assert guard(url).problem() is None


def test_nothing_is_published_before_the_queues_are_there(url: str, guard: Guard) -> None:
    publisher = Publisher(url, guard=guard(url))
    declare(url, [REDIS_PUBLISHER])
    with pytest.raises(TopologyBroken, match=MONGO_WRITER.name):
        publisher.publish(events.to_message(posted()))
    assert waiting(url, REDIS_PUBLISHER.name) == 0
    declare(url, EVENT_QUEUES)
    publisher.publish(events.to_message(posted()))
    assert [waiting(url, queue.name) for queue in EVENT_QUEUES] == [1, 1]
    publisher.close()


def test_a_queue_that_is_deleted_is_noticed_and_its_return_too(url: str, guard: Guard) -> None:
    declare(url, EVENT_QUEUES)
    publisher = Publisher(url, guard=guard(url))
    publisher.publish(events.to_message(posted()))
    remove(url, MONGO_WRITER)

    def refused() -> bool:
        try:
            publisher.publish(events.to_message(posted()))
        except TopologyBroken as error:
            return MONGO_WRITER.name in str(error)
        return False

    wait_until(refused, NOTICE_SECONDS, "the publisher refuses")
    before = waiting(url, REDIS_PUBLISHER.name)
    assert refused()
    assert waiting(url, REDIS_PUBLISHER.name) == before
    declare(url, EVENT_QUEUES)
    publisher.publish(events.to_message(posted()))
    publisher.close()


def test_by_the_management_api_a_missing_binding_is_noticed(
    rabbitmq: RabbitMQ, vhost: str, guard: Guard
) -> None:
    checked = guard(vhost, api_url=rabbitmq.api_url, interval=0.2)
    assert checked.problem() is None
    unbind(vhost, MONGO_WRITER)
    wait_until(checked.problem, NOTICE_SECONDS)
    assert checked.problem() == (
        "queue chat.mongo_writer is not bound to chat.events with room.*.message.*"
    )
    declare(vhost, EVENT_QUEUES)
    assert checked.problem() is None


@pytest.mark.parametrize("api_url", [None, f"http://{HOST}:1"])
def test_without_the_api_a_missing_binding_is_made_again(
    vhost: str, guard: Guard, api_url: str | None
) -> None:
    checked = guard(vhost, api_url=api_url, interval=0.2)
    assert checked.problem() is None
    unbind(vhost, MONGO_WRITER)
    publisher = Publisher(vhost)

    def is_bound_again() -> bool:
        publisher.publish(events.to_message(posted()))
        return waiting(vhost, MONGO_WRITER.name) > 0

    wait_until(is_bound_again, NOTICE_SECONDS)
    publisher.close()
    assert checked.problem() is None


def test_a_missing_exchange_is_noticed(vhost: str, guard: Guard) -> None:
    checked = guard(vhost, interval=0.2)
    assert checked.problem() is None
    admin = connect_admin(vhost)
    admin.channel.exchange_delete(topology.EVENTS.name)
    admin.close()
    problem = wait_until(checked.problem, NOTICE_SECONDS)
    assert problem == "queue chat.mongo_writer or its exchange is missing"
    declare(vhost, EVENT_QUEUES)
    assert checked.problem() is None


@pytest.mark.parametrize("scheme", ["amqp://guest:secret@", "redis://:secret@"])
def test_a_broker_that_is_away_is_a_problem_without_secrets(guard: Guard, scheme: str) -> None:
    assert guard(f"{scheme}{HOST}:{free_port()}/0").problem() == UNREACHABLE


def test_nobody_waits_for_a_look_longer_than_they_want(vhost: str, guard: Guard) -> None:
    """Its look would find no problem."""
    assert guard(vhost).problem(0.0) == NOT_CHECKED


def test_the_connection_is_made_anew_after_it_was_lost(
    rabbitmq: RabbitMQ, vhost: str, guard: Guard
) -> None:
    checked = guard(vhost, interval=0.2)
    assert checked.problem() is None
    rabbitmq.ctl("close_all_connections", "--global", "test")
    remove(vhost, MONGO_WRITER)
    wait_until(lambda: MONGO_WRITER.name in (checked.problem() or ""), NOTICE_SECONDS)


def test_a_fork_looks_for_itself(vhost: str, guard: Guard) -> None:
    checked = guard(vhost, interval=60.0)
    assert checked.problem() is None
    remove(vhost, MONGO_WRITER)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if checked.problem() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
