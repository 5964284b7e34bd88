"""What the consumer loop promises, on each kind of broker."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import redis

from bus import events, topology
from bus.consuming import Consumer
from bus.errors import BrokerUnavailable, StoreUnavailable
from bus.events import Event, MessagePosted
from bus.message import Delivery, Message
from bus.publishing import Publisher
from bus.runtime.backoff import Backoff
from bus.topology import MONGO_WRITER, REDIS_PUBLISHER, WEB_REQUESTS
from bus.transport import subscribe
from bus.transport.rabbitmq.subscription import RabbitSubscription
from bus.transport.redis.admin import taken_list
from tests.support.broker import empty
from tests.support.consuming import ListSink, consuming, dead_letters, publish
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.wait import patience, wait_until


@pytest.fixture
def publisher(broker_url: str) -> Iterator[Publisher]:
    empty(broker_url)
    publisher = Publisher(broker_url, topology.EVENT_QUEUES)
    yield publisher
    publisher.close()


def raw(body: bytes) -> Message:
    """Bytes on the queue that nobody checked."""
    return Message(
        exchange="", routing_key=MONGO_WRITER.name, body=body, message_id="bad", type="x"
    )


def test_everything_arrives_once_and_in_order(broker_url: str, publisher: Publisher) -> None:
    sent = [posted(f"{number}") for number in range(2_000)]
    publisher.publish(*map(events.to_message, sent))
    sink = ListSink()
    with consuming(broker_url, sink):
        wait_until(lambda: len(sink.bodies) >= len(sent))
    assert sink.bodies == [event.data.body for event in sent]
    assert max(sink.batches) <= 100 < sum(sink.batches) / len(sink.batches) * 50, sink.batches


def test_both_queues_get_a_message_and_only_one_gets_membership(
    broker_url: str, publisher: Publisher
) -> None:
    from tests.support.events import BOB, added

    publisher.publish(events.to_message(added(BOB)), events.to_message(posted()))
    counts = {}
    for queue in topology.EVENT_QUEUES:
        source = subscribe(broker_url, queue, prefetch=10)
        received: list[Delivery] = []
        wanted = 1 if queue is MONGO_WRITER else 2
        wait_until(lambda: received.extend(source.receive(10, 0.2)) or len(received) >= wanted)  # noqa: B023
        counts[queue.name] = [delivery.type for delivery in received]
        source.ack(received)
        source.close()
    assert counts == {
        "chat.mongo_writer": ["message.posted"],
        "chat.redis_publisher": ["member.added", "message.posted"],
    }


@pytest.mark.parametrize("bad", [b"{", b'{"v":2}', b"\xff", b""])
def test_a_malformed_event_is_a_dead_letter_and_the_rest_goes_on(
    broker_url: str, publisher: Publisher, bad: bytes
) -> None:
    publisher.publish(events.to_message(posted("before")), raw(bad))
    publisher.publish(events.to_message(posted("after")))
    sink = ListSink()
    with consuming(broker_url, sink):
        wait_until(lambda: len(sink.bodies) >= 2)
        [letter] = dead_letters(broker_url, 1)
    assert sink.bodies == ["before", "after"]
    assert letter.body == bad
    assert letter.headers["x-reason"] == "invalid_event"
    assert "InvalidEvent" in letter.headers["x-exception"]
    assert letter.headers["x-consumer"] == MONGO_WRITER.name


def test_what_no_publisher_wrote_is_a_dead_letter_too(redis_server: Redis) -> None:
    url = redis_server.fresh_database()
    kombu = '{"body":"x","properties":{"delivery_info":{"routing_key":"k"}},"headers":%s}'
    foreign = [b"\xff{", b"[]", b"[" * 100_000, *((kombu % h).encode() for h in ("[1]", '"x"'))]
    publisher = Publisher(url, topology.EVENT_QUEUES)
    publisher.publish(events.to_message(posted("before")))
    with redis.Redis.from_url(url) as client:
        client.lpush(MONGO_WRITER.name, *foreign)
    publisher.publish(events.to_message(posted("after")))
    publisher.close()
    first = subscribe(url, MONGO_WRITER, prefetch=10)
    assert len(first.receive(10, 1)) == 2 + len(foreign)
    first.close()
    sink = ListSink()
    with consuming(url, sink):
        letters = dead_letters(url, len(foreign))
        wait_until(lambda: len(sink.bodies) >= 2)
    assert sink.bodies == ["before", "after"]
    assert [letter.headers["x-reason"] for letter in letters] == ["invalid_event"] * len(foreign)


def test_one_poisonous_event_is_isolated_from_its_batch(
    broker_url: str, publisher: Publisher
) -> None:
    def fail(batch: Sequence[Event]) -> None:
        if any(isinstance(e, MessagePosted) and e.data.body == "poison" for e in batch):
            raise ValueError("cannot digest this")

    bodies = [f"{number}" for number in range(20)]
    bodies[7] = "poison"
    publisher.publish(*(events.to_message(posted(body)) for body in bodies))
    sink = ListSink(fail)
    with consuming(broker_url, sink):
        [letter] = dead_letters(broker_url, 1)
        wait_until(lambda: len(sink.bodies) >= 19)
    assert sink.bodies == [body for body in bodies if body != "poison"]
    assert letter.headers["x-reason"] == "refused_by_sink"
    assert "cannot digest this" in letter.headers["x-exception"]


def test_a_sink_that_is_down_pauses_the_consumer_and_loses_nothing(
    broker_url: str, publisher: Publisher
) -> None:
    failures = iter(range(4))
    attempts: list[int] = []

    def fail(batch: Sequence[Event]) -> None:
        attempts.append(len(batch))
        if next(failures, None) is not None:
            raise StoreUnavailable("down")

    sent = [posted(f"{number}") for number in range(300)]
    publisher.publish(*map(events.to_message, sent))
    sink = ListSink(fail)
    with consuming(broker_url, sink):
        wait_until(lambda: len(sink.bodies) >= len(sent))
    assert len(attempts) > 4, "the sink did fail"
    assert sink.bodies == [event.data.body for event in sent]


def test_a_stop_while_the_sink_is_down_settles_nothing_behind_what_goes_back(
    broker_url: str, publisher: Publisher
) -> None:
    sent = [posted(f"{number}") for number in range(30)]
    publisher.publish(*map(events.to_message, sent))
    stop = threading.Event()

    def fail(batch: Sequence[Event]) -> None:
        if not stop.is_set():
            stop.set()
            raise StoreUnavailable("down, but only for this batch")

    sink = ListSink(fail)
    Consumer(url=broker_url, queue=MONGO_WRITER, sink=sink, stop=stop, batch=10).run()
    with consuming(broker_url, sink):
        wait_until(lambda: len(sink.bodies) >= len(sent))
    assert sink.bodies == [event.data.body for event in sent]


def test_a_stop_does_not_wait_for_a_sink_that_is_down(
    broker_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next", lambda self: 60.0)
    failed = threading.Event()

    def fail(batch: Sequence[Event]) -> None:
        failed.set()
        raise StoreUnavailable("down")

    publisher.publish(events.to_message(posted()))
    with consuming(broker_url, ListSink(fail)):
        assert failed.wait(patience(20))


def test_a_standby_goes_on_where_the_active_consumer_ended(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    active = subscribe(url, REDIS_PUBLISHER, prefetch=20)
    wait_until(lambda: active.receive(1, 0.1) or subscribed(rabbitmq, url) == 1)
    standby = subscribe(url, REDIS_PUBLISHER, prefetch=20)
    wait_until(lambda: standby.receive(1, 0.1) or subscribed(rabbitmq, url) == 2)
    publisher = Publisher(url, topology.EVENT_QUEUES)
    publisher.publish(*(events.to_message(posted(f"{number}")) for number in range(60)))
    publisher.close()
    done: list[Delivery] = []
    wait_until(lambda: done.extend(active.receive(10 - len(done), 0.2)) or len(done) >= 10)
    active.ack(done)
    active.close()

    def received() -> bool:
        deliveries = standby.receive(20, 0.2)
        standby.ack(deliveries)
        done.extend(deliveries)
        return len(done) >= 60

    wait_until(received)
    standby.close()
    bodies = [events.decode(delivery.body).data.body for delivery in done]  # type: ignore[union-attr]
    assert bodies == [f"{number}" for number in range(60)]


def subscribed(rabbitmq: RabbitMQ, url: str) -> int:
    """How many consumers the queue has, those on standby too."""
    return len(rabbitmq.subscriptions(url.rpartition("/")[2], REDIS_PUBLISHER.name))


def test_what_a_stopped_consumer_had_in_hand_comes_again_first_and_marked(
    broker_url: str, publisher: Publisher
) -> None:
    publisher.publish(*(events.to_message(posted(f"{number}")) for number in range(10)))
    first = subscribe(broker_url, MONGO_WRITER, prefetch=4)
    taken: list[Delivery] = []
    wait_until(lambda: taken.extend(first.receive(4, 0.2)) or len(taken) >= 4)
    first.cancel()
    first.ack(taken[:2])
    first.close()
    second = subscribe(broker_url, MONGO_WRITER, prefetch=20)
    rest: list[Delivery] = []
    wait_until(lambda: rest.extend(second.receive(20, 0.2)) or len(rest) >= 8)
    second.ack(rest)
    second.close()
    bodies = [events.decode(delivery.body).data.body for delivery in rest]  # type: ignore[union-attr]
    assert bodies == [f"{number}" for number in range(2, 10)]
    assert [delivery.redelivered for delivery in rest] == [True] * 2 + [False] * 6


def test_who_only_keeps_the_connection_alive_learns_that_it_is_lost(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    with closing(subscribe(url, MONGO_WRITER, prefetch=1)) as source:
        source.idle(0)
        rabbitmq.ctl("close_all_connections", "--vhost", url.rpartition("/")[2], "over")
        with pytest.raises(BrokerUnavailable):
            wait_until(lambda: source.idle(0), 5)


def test_deliveries_show_that_the_broker_lives(rabbitmq: RabbitMQ) -> None:
    """RabbitMQ sends no heartbeat where it sends anything else; pika looks at this count."""
    url = rabbitmq.fresh_vhost()
    empty(url)
    with closing(subscribe(url, MONGO_WRITER, prefetch=10)) as source:
        assert isinstance(source, RabbitSubscription)
        before = source.channel.connection.bytes_received
        publish(url, posted())
        wait_until(lambda: source.receive(10, 0.1))
        assert source.channel.connection.bytes_received > before


def test_who_opened_a_source_is_the_active_consumer_at_once(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    with (
        closing(subscribe(url, REDIS_PUBLISHER, prefetch=10)) as first,
        closing(subscribe(url, REDIS_PUBLISHER, prefetch=10)) as second,
    ):
        publish(url, posted())
        assert second.receive(10, 0.2) == []
        assert first.receive(10, 5)


def test_on_redis_a_subscription_that_fails_leaves_no_connection(
    redis_server: Redis, uncollected: None
) -> None:
    url = redis_server.fresh_database()
    with closing(redis.Redis.from_url(url)) as client:
        client.set(taken_list(MONGO_WRITER, "1"), "not a list")
        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match="cannot return messages"):
                subscribe(url, MONGO_WRITER, prefetch=1)

        def connections() -> int:
            database = url.rpartition("/")[2]
            return sum(each["db"] == database for each in client.client_list())

        wait_until(lambda: connections() == 1, what="only this test's connection is left")


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What has ended is not closed by the garbage collector's chance."""
    gc.disable()
    yield
    gc.enable()


def test_on_redis_a_message_of_any_priority_is_seen_at_once(redis_server: Redis) -> None:
    url = redis_server.fresh_database()
    with closing(subscribe(url, WEB_REQUESTS, prefetch=1)) as source:
        for priority in (0, 5, 9):
            request = Message(
                exchange="",
                routing_key=WEB_REQUESTS.name,
                body=b"x",
                message_id="1",
                type="request",
                priority=priority,
            )
            with closing(Publisher(url)) as publisher, ThreadPoolExecutor() as pool:
                waiting = pool.submit(source.receive, 1, 3.0)
                publisher.publish(request)
                received = waiting.result()
            assert len(received) == 1
            source.ack(received)


def test_no_more_than_the_prefetch_is_handed_out(broker_url: str, publisher: Publisher) -> None:
    publisher.publish(*(events.to_message(posted()) for _ in range(10)))
    source = subscribe(broker_url, MONGO_WRITER, prefetch=3)
    taken: list[Delivery] = []
    wait_until(lambda: taken.extend(source.receive(100, 0.2)) or len(taken) >= 3)
    assert source.receive(100, 0.3) == []
    source.ack(taken)
    assert wait_until(lambda: source.receive(100, 0.2))
    source.close()
