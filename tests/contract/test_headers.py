"""Messages with headers that no publisher of ours writes: buried, and nothing waits for them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pika
import pytest

from bus.topology import MONGO_WRITER
from tests.support.consuming import ListSink, consuming, dead_letters, empty, publish
from tests.support.events import posted
from tests.support.rabbitmq import RabbitMQ
from tests.support.wait import wait_until


def far_future(pieces: list[bytes]) -> int:
    pieces.append(struct.pack(">cQ", b"T", 2**60))
    return 9


def deep_table(pieces: list[bytes]) -> int:
    table = b""
    for _ in range(3_000):
        table = b"\x01kF" + struct.pack(">I", len(table)) + table
    pieces.append(b"F" + struct.pack(">I", len(table)) + table)
    return 5 + len(table)


def publish_raw(url: str, body: bytes, headers: dict[str, object]) -> None:
    properties = pika.BasicProperties(message_id="bad", headers=headers)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", MONGO_WRITER.name, body, properties, mandatory=True)


@pytest.mark.parametrize("header", [far_future, deep_table])
def test_headers_that_cannot_be_read_hold_up_nothing(
    rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch, header: Callable[[list[bytes]], int]
) -> None:
    url = rabbitmq.fresh_vhost()
    empty(url)
    encode = pika.data.encode_value

    def encode_raw(pieces: list[bytes], value: object) -> int:
        return header(pieces) if value is header else encode(pieces, value)

    publish(url, posted("before"))
    with monkeypatch.context() as patch:
        patch.setattr(pika.data, "encode_value", encode_raw)
        publish_raw(url, b"no JSON", {"key": header})
    publish(url, posted("after"))
    sink = ListSink()
    with consuming(url, sink):
        [letter] = dead_letters(url, 1)
        wait_until(lambda: sink.bodies == ["before", "after"])
    assert letter.body == b"no JSON"


def test_headers_that_cannot_be_published_again_hold_up_nothing(rabbitmq: RabbitMQ) -> None:
    """They fit into one frame, and with what a burial adds they no longer do."""
    url = rabbitmq.fresh_vhost()
    empty(url)
    publish_raw(url, b"no JSON", {"key": "x" * 130_900})
    publish(url, posted("after"))
    sink = ListSink()
    with consuming(url, sink):
        [letter] = dead_letters(url, 1)
        wait_until(lambda: sink.bodies == ["after"])
    assert (letter.body, letter.message_id) == (b"no JSON", "bad")
    assert letter.headers["x-reason"] == "invalid_event"
    assert "key" not in letter.headers
