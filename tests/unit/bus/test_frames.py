"""Deliveries out of RabbitMQ's bytes, however they are cut."""

from __future__ import annotations

import pytest
from pika import frame, spec

from bus.transport.rabbitmq import frames as module
from bus.transport.rabbitmq.frames import read_frames

PROPERTIES = spec.BasicProperties(
    content_type="application/json",
    headers={"room_id": "r", "x-attempts": 3},
    correlation_id="c",
    reply_to="web.replies.1",
    message_id="m",
    timestamp=1_800_000_000,
    type="message.posted",
)
HEARTBEAT = frame.Heartbeat().marshal()


def frames(*pieces: bytes, size: int | None = None) -> list[bytes]:
    """A delivery with a body of ``pieces``, frame by frame."""
    deliver = spec.Basic.Deliver("tag", 7, True, "chat.events", "room.1.message.posted")
    total = sum(map(len, pieces)) if size is None else size
    return [
        frame.Method(1, deliver).marshal(),
        frame.Header(1, total, PROPERTIES).marshal(),
        *(frame.Body(1, piece).marshal() for piece in pieces),
    ]


@pytest.mark.parametrize("pieces", [(), (b"hi",), (b"one", b"two", b"three")])
def test_a_delivery_is_read_once_it_is_whole(pieces: tuple[bytes, ...]) -> None:
    data = b"".join(frames(*pieces))
    for length in range(len(data)):
        assert read_frames(bytearray(b"before" + data[:length]), 6) == (None, 0)
    delivery, end = read_frames(bytearray(b"before" + data + b"behind"), 6)
    assert delivery
    assert end == 6 + len(data)
    assert delivery.body == b"".join(pieces)
    assert (delivery.tag, delivery.redelivered) == (7, True)
    assert delivery.routing_key == "room.1.message.posted"
    names = ("content_type", "headers", "correlation_id", "reply_to", "message_id", "type")
    for name in (*names, "timestamp"):
        assert getattr(delivery, name) == getattr(PROPERTIES, name)


def test_other_frames_are_for_pika() -> None:
    ok = frame.Method(1, spec.Basic.ConsumeOk("tag")).marshal()
    for data in (HEARTBEAT, ok):
        assert read_frames(bytearray(data + b"behind"), 0) == (None, len(data))
        assert read_frames(bytearray(data[:-1]), 0) == (None, 0)


@pytest.mark.parametrize("position", [1, 2, 3])
def test_a_delivery_that_another_frame_interrupts_is_for_pika(position: int) -> None:
    parts = frames(b"one", b"two")
    data = bytearray(b"".join([*parts[:position], HEARTBEAT, *parts[position:]]))
    start, ends = 0, []
    while start < len(data):
        delivery, start = read_frames(data, start)
        assert delivery is None
        ends.append(start)
    assert len(ends) == 5
    assert ends[-1] == len(data)


def test_a_large_body_is_not_looked_at_frame_by_frame_until_it_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every few kilobytes that come ask for it: frame by frame that would be quadratic."""
    looked: list[int] = []
    frame_end = module._frame_end

    def counted(data: bytearray, start: int) -> int:
        looked.append(start)
        return frame_end(data, start)

    monkeypatch.setattr(module, "_frame_end", counted)
    data = b"".join(frames(*(b"x" * 1_000 for _ in range(100))))
    for length in range(1_000, len(data) - 1_500, 1_000):
        looked.clear()
        assert read_frames(bytearray(data[:length]), 0) == (None, 0)
        assert len(looked) <= 2
    assert read_frames(bytearray(data), 0)[1] == len(data)
