"""Whether a quorum queue is empty, proved by a marker: what its counts do not show is found."""

from __future__ import annotations

from collections.abc import Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from bus.admin.empty_queue import held_while_empty
from bus.errors import QueueInUse, QueueMissing
from bus.transport.rabbitmq.management_api import Management, QueueInfo
from bus.transport.rabbitmq.marker_channel import MarkerChannel
from tests.support.broker import waiting
from tests.support.rabbitmq import RabbitMQ
from tests.support.wait import wait_until

# Of a queue whose dead letters may be lost; nobody asks the API for it.
OLD = QueueInfo("old", durable=True)
NO_API = Management((), "/")


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.fresh_vhost()


@pytest.fixture
def channel(url: str) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection.channel()


def test_no_queue(url: str) -> None:
    with pytest.raises(QueueMissing), held_while_empty(url, OLD, NO_API):
        pass


def test_messages_that_wait_or_are_in_anothers_hand(channel: BlockingChannel, url: str) -> None:
    arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    channel.queue_declare("old", durable=True, arguments=arguments)
    channel.confirm_delivery()
    with held_while_empty(url, OLD, NO_API):
        pass
    for number in (1, 2):
        channel.basic_publish("", "old", b"keep me", mandatory=True)
        with (
            pytest.raises(QueueInUse, match="messages waiting"),
            held_while_empty(url, OLD, NO_API),
        ):
            pass
        wait_until(lambda: waiting(url, "old") == number)  # noqa: B023
    channel.basic_consume("old", lambda *delivery: None)
    wait_until(lambda: waiting(url, "old") == 0, what="another consumer has all in hand")
    with pytest.raises(QueueInUse, match="another consumer"), held_while_empty(url, OLD, NO_API):
        pass


def test_a_message_that_comes_behind_the_marker_is_kept(
    channel: BlockingChannel, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel.queue_declare("old", durable=True, arguments={"x-queue-type": "quorum"})
    channel.confirm_delivery()
    wait = MarkerChannel.wait

    def wait_and_publish(marker: MarkerChannel, count: int) -> bool:
        came = wait(marker, count)
        channel.basic_publish("", "old", b"keep me", mandatory=True)
        return came

    monkeypatch.setattr(MarkerChannel, "wait", wait_and_publish)
    with (
        pytest.raises(QueueInUse, match="messages waiting on it: 1"),
        held_while_empty(url, OLD, NO_API),
    ):
        pass
    wait_until(lambda: waiting(url, "old") == 1)
    assert channel.basic_get("old", auto_ack=True)[2] == b"keep me"
