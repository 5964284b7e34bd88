"""Messages with headers that no publisher of ours writes: buried, and nothing waits for them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from threading import Event

import pika
import pytest

from bus.topology import ARCHIVE, EVENT_QUEUES, EVENTS, MONGO_WRITER
from consumers.replay import Selection, replay
from tests.support.broker import empty
from tests.support.consuming import ListSink, bodies, consuming, dead_letters, publish
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ
from tests.support.wait import wait_until

EVERYTHING = Selection(None, None, None)


def far_future(pieces: list[bytes]) -> int:
    pieces.append(struct.pack(">cQ", b"T", 2**60))
    return 9


def deep_table(pieces: list[bytes]) -> int:
    table = b""
    for _ in range(3_000):
        table = b"\x01kF" + struct.pack(">I", len(table)) + table
    pieces.append(b"F" + struct.pack(">I", len(table)) + table)
    return 5 + len(table)


def publish_raw(
    url: str,
    headers: dict[str, object],
    exchange: str = "",
    routing_key: str | bytes = MONGO_WRITER.name,
) -> None:
    properties = pika.BasicProperties(message_id="bad", headers=headers)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange, routing_key, b"no JSON", properties, mandatory=True)


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header whose value is one of the functions above travels as what that writes."""
    encode = pika.data.encode_value

    def encode_raw(pieces: list[bytes], value: object) -> int:
        return value(pieces) if callable(value) else encode(pieces, value)

    monkeypatch.setattr(pika.data, "encode_value", encode_raw)


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("header", [far_future, deep_table])
def test_headers_that_pika_cannot_read_hold_up_nothing(
    rabbitmq: RabbitMQ, header: Callable[[list[bytes]], int]
) -> None:
    url = rabbitmq.fresh_vhost()
    empty(url)
    publish(url, posted("before"))
    publish_raw(url, {"key": header})
    publish(url, posted("after"))
    sink = ListSink()
    with consuming(url, sink):
        [letter] = dead_letters(url, 1)
        wait_until(lambda: sink.bodies == ["before", "after"])
    assert (letter.body, letter.message_id) == (b"no JSON", "bad")
    assert set(letter.headers) >= {"key", "x-reason"}


@pytest.mark.usefixtures("raw")
def test_a_repair_and_a_replay_pass_what_pika_cannot_read(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    publish(url, posted("before"), queues=[*EVENT_QUEUES, ARCHIVE])
    sink = ListSink()
    with consuming(url, sink) as consumer:
        wait_until(lambda: sink.bodies == ["before"])
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            connection.channel().queue_delete(MONGO_WRITER.name)
        publish(url, posted("lost"))
        # A surrogate: UTF-8 to RabbitMQ, and not to Python.
        publish_raw(url, {}, EVENTS.name, b"room.\xed\xa0\x80.message.posted")
        publish_raw(url, {"key": far_future}, EVENTS.name, "room.1.message.posted")
        wait_until(lambda: "lost" in sink.bodies)
        wait_until(lambda: consumer.status() == "ok")
        publish(url, posted("after"))
        wait_until(lambda: "after" in sink.bodies)
    stored: list[str] = []
    replay(url, EVERYTHING, "mongo_writer", lambda batch: stored.extend(bodies(batch)), Event())
    assert stored == ["before", "lost", "after"]


def test_headers_that_cannot_be_published_again_hold_up_nothing(rabbitmq: RabbitMQ) -> None:
    """They fit into one frame, and with what a burial adds they no longer do."""
    url = rabbitmq.fresh_vhost()
    empty(url)
    publish_raw(url, {"key": "x" * 130_900})
    publish(url, posted("after"))
    sink = ListSink()
    with consuming(url, sink):
        [letter] = dead_letters(url, 1)
        wait_until(lambda: sink.bodies == ["after"])
    assert (letter.body, letter.message_id) == (b"no JSON", "bad")
    assert letter.headers["x-reason"] == "invalid_event"
    assert "key" not in letter.headers


@pytest.mark.parametrize("name", ["message_id", "type", "content_type"])
@pytest.mark.parametrize("value", [b"\xed\xa0\x80" * 85, b"x" * 255])
def test_names_of_any_bytes_and_length_hold_up_nothing(
    rabbitmq: RabbitMQ, name: str, value: bytes
) -> None:
    url = rabbitmq.fresh_vhost()
    empty(url)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        properties = pika.BasicProperties(**{name: value})
        connection.channel().basic_publish("", MONGO_WRITER.name, b"no JSON", properties)
    publish(url, posted("after"))
    sink = ListSink()
    with consuming(url, sink):
        [letter] = dead_letters(url, 1)
        wait_until(lambda: sink.bodies == ["after"])
    assert letter.body == b"no JSON"
    assert len(getattr(letter, name)) == 255
