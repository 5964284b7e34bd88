"""`python -m bench.fanout.feeder SPEC`: publishes events for one kind of server.

SPEC is the JSON of a Spec. With a rate it publishes so many per second; without one as many as
come through, with at most WINDOW of them on their way. Prints what it has done as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from bench.fanout.counter import Counter
from bench.fanout.events import made
from bus import events
from bus.events import MessagePosted
from bus.rooms.log_writer import RoomLogWriter

WINDOW = 300
BATCH = 25
# Without a delivery for so long, what is missing is lost.
PATIENCE = 2.0
CHANNEL = "bench"

Send = Callable[[Sequence[MessagePosted]], object]


@dataclass(frozen=True)
class Spec:
    kind: str
    redis_url: str
    rooms: list[str]
    sockets: int
    seconds: float
    rate: float | None
    counter: str


def main() -> None:
    spec = Spec(**json.loads(sys.argv[1]))
    with SENDERS[spec.kind](spec.redis_url) as send:
        done = _at_rate(spec, send) if spec.rate else _flood(spec, send)
    print(json.dumps(done))


def _at_rate(spec: Spec, send: Send) -> dict[str, float]:
    assert spec.rate
    rooms = itertools.cycle(map(uuid.UUID, spec.rooms))
    started = time.perf_counter()
    sent = 0
    while (elapsed := time.perf_counter() - started) < spec.seconds:
        due = int(elapsed * spec.rate) + 1 - sent
        if due:
            send([made(room) for room in itertools.islice(rooms, due)])
            sent += due
        else:
            time.sleep((sent / spec.rate) - elapsed)
    return {"sent": sent, "seconds": elapsed}


def _flood(spec: Spec, send: Send) -> dict[str, float]:
    """Keeps WINDOW events on their way to the sockets of the one room."""
    (room,) = map(uuid.UUID, spec.rooms)
    counter = Counter(spec.counter)
    began = counter.value
    lost = sent = 0
    started = moved = time.perf_counter()
    while (now := time.perf_counter()) - started < spec.seconds:
        arrived = (counter.value - began) / spec.sockets + lost
        if sent + BATCH <= arrived + WINDOW:
            send([made(room) for _ in range(BATCH)])
            sent += BATCH
            moved = now
        elif now - moved > PATIENCE:
            lost = sent - int(arrived - lost)
            moved = now
        else:
            time.sleep(0.001)
    return {
        "sent": sent,
        "seconds": now - started,
        "delivered": counter.value - began,
        "lost": lost,
    }


@contextmanager
def _room_log(url: str) -> Iterator[Send]:
    """What redis_publisher does."""
    writer = RoomLogWriter.connect(url)
    yield writer.append
    writer.close()


@contextmanager
def _pub_sub(url: str) -> Iterator[Send]:
    client = redis.Redis.from_url(url)

    def send(batch: Sequence[MessagePosted]) -> None:
        pipeline = client.pipeline(transaction=False)
        for event in batch:
            pipeline.publish(CHANNEL, events.encode(event))
        pipeline.execute()

    yield send
    client.close()


@contextmanager
def _socketio_manager(url: str) -> Iterator[Send]:
    import socketio

    manager = socketio.RedisManager(url, write_only=True)

    def send(batch: Sequence[MessagePosted]) -> None:
        for event in batch:
            manager.emit("event", json.loads(events.encode(event)), room=str(event.room_id))

    yield send


@contextmanager
def _channel_layer(url: str) -> Iterator[Send]:
    from channels_redis.pubsub import RedisPubSubChannelLayer

    with asyncio.Runner() as runner:
        layer = RedisPubSubChannelLayer([url])

        async def send_all(batch: Sequence[MessagePosted]) -> None:
            for event in batch:
                message = {"type": "room.event", "text": events.encode(event).decode()}
                await layer.group_send(str(event.room_id), message)

        yield lambda batch: runner.run(send_all(batch))


SENDERS = {
    "chatbus": _room_log,
    "channels": _channel_layer,
    "python-socketio": _socketio_manager,
    "socket.io": _pub_sub,
    "ws": _pub_sub,
}

if __name__ == "__main__":
    main()
