"""Deliveries with other frames between theirs, as AMQP allows: read like all others."""

from __future__ import annotations

import random
import socket
from contextlib import closing, suppress
from urllib.parse import urlsplit

from bus.message import Delivery, Message
from bus.publishing import Publisher
from bus.topology import MONGO_WRITER
from bus.transport import subscribe
from tests.support.broker import empty
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitMQ

HEARTBEAT = b"\x08" + bytes(6) + b"\xce"
# Of every other frame: type, channel and size before its payload, one byte behind it.
HEADER, END = 7, 1
MESSAGES = 200


class Interrupting(Proxy):
    """Puts a heartbeat behind every other frame that RabbitMQ sends, by chance."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.interruptions = 0
        self._chance = random.Random(8)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        if source.getpeername()[1] != self._target:
            super()._pump(source, sink)
            return
        received = bytearray()
        with suppress(OSError):
            while chunk := source.recv(65_536):
                received += chunk
                sink.sendall(self._interrupted(received))
        self._forget(source, sink)

    def _interrupted(self, received: bytearray) -> bytes:
        """The whole frames in ``received``, which are taken out of it."""
        pieces = []
        while len(received) >= HEADER:
            end = HEADER + int.from_bytes(received[3:HEADER]) + END
            if len(received) < end:
                break
            pieces.append(bytes(received[:end]))
            del received[:end]
            if self._chance.random() < 0.5:
                pieces.append(HEARTBEAT)
                self.interruptions += 1
        return b"".join(pieces)


def sent(number: int, size: int) -> Message:
    return Message(
        exchange="",
        routing_key=MONGO_WRITER.name,
        body=bytes([number % 256]) * size,
        message_id=f"id {number}",
        type="a type",
        headers={"number": number, "table": {"nested": [1, "two"]}},
        timestamp=1_700_000_000 + number,
        correlation_id="c",
        reply_to="r",
    )


def fields(delivery: Message | Delivery) -> tuple[object, ...]:
    names = ("routing_key", "body", "message_id", "type", "content_type", "headers", "timestamp")
    return tuple(getattr(delivery, name) for name in (*names, "correlation_id", "reply_to"))


def test_every_delivery_comes_whole_and_in_order(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    empty(url)
    # The last ones take several body frames, of 128 KiB at most.
    sizes = [0, 1, 500, 5_000] * (MESSAGES // 4) + [131_064, 131_065, 400_000]
    messages = [sent(number, size) for number, size in enumerate(sizes)]
    with closing(Publisher(url)) as publisher:
        publisher.publish(*messages, timeout=30)
    with (
        Interrupting(rabbitmq.port) as proxy,
        closing(subscribe(proxied(url, proxy), MONGO_WRITER, prefetch=1_000)) as source,
    ):
        got: list[Delivery] = []
        while len(got) < len(messages):
            deliveries = source.receive(50, 10)
            assert deliveries, f"nothing came after {len(got)}"
            got += deliveries
            source.ack(deliveries)
        assert [*map(fields, got)] == [*map(fields, messages)]
        assert proxy.interruptions > MESSAGES


def proxied(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(str(parts.port), str(proxy.port))).geturl()
