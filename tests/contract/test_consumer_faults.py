"""What breaks around a consumer: itself, its queue, and a sink that stops to answer."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
import redis

from bus.consuming import backfill
from bus.consuming.backfill import ArchiveFeed
from bus.errors import BrokerUnavailable, StoreUnavailable
from bus.events import Event
from bus.message import Delivery
from bus.topology import ARCHIVE, EVENT_QUEUES, MONGO_WRITER, REDIS_PUBLISHER, Queue
from bus.transport import declare
from bus.transport.rabbitmq import stream
from consumers.mongo_writer import open_messages
from tests.contract import file_sink
from tests.support.broker import consumers, depth, empty
from tests.support.consuming import ListSink, consuming, dead_letters, publish
from tests.support.events import ALICE, added, posted
from tests.support.ports import HOST
from tests.support.process import Process
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import Redis
from tests.support.wait import patience, wait_until

KILLS = 25
WITH_ARCHIVE = (*EVENT_QUEUES, ARCHIVE)


def delete(url: str, queue: Queue) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_delete(queue.name)


def both_subscribe(rabbitmq: RabbitMQ, url: str) -> bool:
    """Whether the active consumer and a standby do: to a client the queue counts the active one."""
    return len(rabbitmq.subscriptions(url.rpartition("/")[2], REDIS_PUBLISHER.name)) == 2


def stored(url: str) -> int:
    """How many messages MongoDB has."""
    messages = open_messages(url)
    with messages.database.client:
        return messages.count_documents({})


def test_twenty_five_kills_lose_nothing(broker_url: str, tmp_path: Path) -> None:
    empty(broker_url)
    sent: list[str] = []
    path = tmp_path / "taken"
    path.touch()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        [
            file_sink.__name__,
            "bus.transport.rabbitmq.subscription",
            "bus.transport.redis.subscription",
        ]
    )

    def taken() -> list[str]:
        return path.read_text().split()

    for _ in range(KILLS):
        before = len(taken())
        # More than it takes in one batch, in each round: a quick one may leave nothing over.
        fresh = [f"{len(sent) + number}" for number in range(40)]
        publish(broker_url, *map(posted, fresh), queues=[MONGO_WRITER])
        sent += fresh
        process = processes.Process(target=file_sink.consume, args=(broker_url, str(path)))
        process.start()
        wait_until(lambda before=before: len(taken()) > before, what="it took something")  # type: ignore[misc]
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process = processes.Process(target=file_sink.consume, args=(broker_url, str(path)))
    process.start()
    wait_until(lambda: len(set(taken())) == len(sent), what="the rest")
    process.kill()
    process.join()
    assert set(taken()) == set(sent)
    assert depth(broker_url, MONGO_WRITER.dead_letters) == 0


@pytest.mark.parametrize("queue", EVENT_QUEUES, ids=lambda queue: queue.name)
def test_what_a_deleted_queue_lost_comes_from_the_archive(
    rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture, queue: Queue
) -> None:
    url = rabbitmq.fresh_vhost()
    publish(url, posted("first"), queues=WITH_ARCHIVE)
    down = [False]

    def fail(batch: Sequence[Event]) -> None:
        if down[0]:
            raise StoreUnavailable("down")

    sink = ListSink(fail)
    lost = [f"{number}" for number in range(100)]
    with consuming(url, sink, batch=10, queue=queue):
        wait_until(lambda: sink.bodies == ["first"])
        down[0] = True
        publish(url, *map(posted, lost), added(ALICE))
        wait_until(lambda: depth(url, queue) >= 80, what="the rest lies on the queue")
        delete(url, queue)
        down[0] = False
        wait_until(lambda: consumers(url, queue.name) == 1, what="the consumer is back")
        publish(url, posted("after"))
        wait_until(lambda: "after" in sink.bodies, 40)
        # "after" may have come with the rest of the archive, before the repair ends.
        [record] = wait_until(
            lambda: [r for r in caplog.records if "events from the archive" in r.getMessage()]
        )
    once = list(dict.fromkeys(sink.bodies))
    expected = ["first", *lost, "after"]
    if queue == MONGO_WRITER:
        # It keeps no order: what failed alone is tried again behind the others.
        once, expected = sorted(once), sorted(expected)
    assert once == expected
    assert record.levelno == logging.WARNING
    number = record.args[1]  # type: ignore[index]
    assert number >= len(lost)  # type: ignore[operator]


def test_poison_in_the_archive_is_isolated_too(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    publish(url, posted("first"), queues=WITH_ARCHIVE)

    def fail(batch: Sequence[Event]) -> None:
        if any(event.data.body == "poison" for event in batch):  # type: ignore[union-attr]
            raise ValueError("no")

    sink = ListSink(fail)
    with consuming(url, sink):
        wait_until(lambda: sink.bodies)
        delete(url, MONGO_WRITER)
        publish(url, posted("1"), posted("poison"), posted("2"))
        assert dead_letters(url, 1)
        wait_until(lambda: {"1", "2"} <= set(sink.bodies), 40)


def test_the_standby_leaves_the_repair_to_the_active_consumer(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    publish(url, posted("first"), queues=WITH_ARCHIVE)

    sinks = [ListSink(), ListSink()]
    with consuming(url, sinks[0], queue=REDIS_PUBLISHER):
        wait_until(lambda: sinks[0].bodies == ["first"])
        with consuming(url, sinks[1], queue=REDIS_PUBLISHER, instance="2"):
            wait_until(lambda: both_subscribe(rabbitmq, url))
            delete(url, REDIS_PUBLISHER)
            publish(url, *(posted(f"{number}") for number in range(50)))
            wait_until(lambda: both_subscribe(rabbitmq, url))
            wait_until(lambda: "49" in sinks[0].bodies, 40)
    assert list(dict.fromkeys(sinks[0].bodies)) == ["first", *(f"{n}" for n in range(50))]
    assert sinks[1].bodies == []


def test_a_repair_that_broke_off_is_begun_again_beside_a_standby(
    rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = rabbitmq.fresh_vhost()
    publish(url, posted("first"), queues=WITH_ARCHIVE)
    attempts: list[ArchiveFeed] = []
    standby_is_there = threading.Event()

    class Breaking(ArchiveFeed):
        """Lost once, as the stream's node may be, when a standby has subscribed already."""

        def receive(self, limit: int, wait: float) -> list[Delivery]:
            if self is attempts[0]:
                assert standby_is_there.wait(patience(20))
                raise BrokerUnavailable("broken off")
            return super().receive(limit, wait)

    def open_archive(*arguments: Any) -> ArchiveFeed:
        attempts.append(Breaking(*arguments))
        return attempts[-1]

    monkeypatch.setattr(backfill, "ArchiveFeed", open_archive)
    sinks = [ListSink(), ListSink()]
    with consuming(url, sinks[0], queue=REDIS_PUBLISHER):
        wait_until(lambda: sinks[0].bodies == ["first"])
        with consuming(url, sinks[1], queue=REDIS_PUBLISHER, instance="2"):
            wait_until(lambda: both_subscribe(rabbitmq, url))
            delete(url, REDIS_PUBLISHER)
            publish(url, *(posted(f"{number}") for number in range(50)))
            wait_until(lambda: both_subscribe(rabbitmq, url))
            standby_is_there.set()
            wait_until(lambda: "49" in sinks[0].bodies, 40)
    assert len(attempts) == 2
    assert {f"{number}" for number in range(50)} <= set(sinks[0].bodies + sinks[1].bodies)


def test_without_an_archive_the_log_says_what_may_be_lost(
    rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    url = rabbitmq.fresh_vhost()
    publish(url, posted("first"), queues=EVENT_QUEUES)
    sink = ListSink()
    with consuming(url, sink):
        wait_until(lambda: sink.bodies)
        delete(url, MONGO_WRITER)
        wait_until(lambda: consumers(url, MONGO_WRITER.name) == 1)
        publish(url, posted("after"))
        wait_until(lambda: "after" in sink.bodies)
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "may be lost" in record.getMessage()


def test_unbound_in_redis_it_binds_again_and_says_what_may_be_lost(
    redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    url = redis_server.fresh_database()
    publish(url, posted("first"), queues=EVENT_QUEUES)
    sink = ListSink()
    with consuming(url, sink):
        wait_until(lambda: sink.bodies)
        with closing(redis.Redis.from_url(url)) as client:
            client.flushdb()
            wait_until(lambda: client.exists("_kombu.binding.chat.events"), what="a binding")
        publish(url, posted("after"))
        wait_until(lambda: "after" in sink.bodies)
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "may be lost" in record.getMessage()


def test_a_first_start_beside_a_full_archive_names_the_command(
    rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    url = rabbitmq.fresh_vhost()
    publish(url, posted("early"), queues=[ARCHIVE])
    wait_until(lambda: depth(url, ARCHIVE), what="the broker has counted it")
    sink = ListSink()
    with consuming(url, sink):
        publish(url, posted("late"))
        wait_until(lambda: sink.bodies == ["late"])
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "chatbus replay --into mongo_writer --archived-from TIME" in record.getMessage()


def test_a_first_start_beside_an_empty_archive_says_nothing(
    rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = rabbitmq.fresh_vhost()
    declare(url, [ARCHIVE])
    monkeypatch.setattr(stream, "ANSWER_SECONDS", 60.0)
    with consuming(url, ListSink()):
        wait_until(lambda: consumers(url, MONGO_WRITER.name) == 1)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_sigterm_ends_a_process_whose_sink_does_not_answer(
    broker_url: str, mongo: str, tmp_path: Path
) -> None:
    empty(broker_url)
    server = urlsplit(mongo)
    assert server.port
    with Proxy(server.port) as proxy:
        mongo_url = server._replace(netloc=f"{HOST}:{proxy.port}").geturl()
        settings = {"BROKER_URL": broker_url, "MONGO_URL": mongo_url}
        process = Process("mongo_writer", tmp_path / "log", settings)
        try:
            publish(broker_url, posted("before"))
            wait_until(lambda: stored(mongo) == 1, what="the sink works")
            proxy.black_hole()
            publish(broker_url, posted("held"))
            # The driver's monitor sends too, so any byte would not do.
            wait_until(lambda: b"held" in proxy.held, what="the sink waits for an answer")
            process.terminate()
            assert process.wait() == 0
            assert "unacknowledged messages return to the queue" in process.output
        finally:
            process.close()
    sink = ListSink()
    with consuming(broker_url, sink):
        wait_until(lambda: "held" in sink.bodies)


def test_sigterm_ends_a_process_whose_store_is_not_to_be_closed(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    processes = multiprocessing.get_context("forkserver")
    process = processes.Process(target=file_sink.consume_without_a_farewell, args=(url,))
    process.start()
    try:
        wait_until(lambda: consumers(url, MONGO_WRITER.name) == 1, what="it consumes")
        process.terminate()
        process.join(patience(20))
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
