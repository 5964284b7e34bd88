"""Queues full of events to consume."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice

import msgspec

from bus import events
from bus.message import Message
from bus.publishing import Publisher
from bus.topology import Queue
from bus.transport import AdminConnection, connect_admin
from tests.support.events import posted

BODY = "x" * 120
CHUNK = 500
ON_THE_WAY = 8
TIMEOUT = 60.0


def fill(url: str, queue: Queue, count: int, *, rooms: int) -> None:
    """Leaves ``count`` new events of ``rooms`` rooms in ``queue``, and nothing else."""
    admin = connect_admin(url)
    admin.declare([queue])
    admin.purge(queue)
    admin.close()
    messages = _messages(queue, count, [uuid.uuid4() for _ in range(rooms)])
    publisher = Publisher(url)
    sent: deque[Future[None]] = deque()
    while chunk := list(islice(messages, CHUNK)):
        sent.append(publisher.submit(*chunk, timeout=TIMEOUT))
        if len(sent) > ON_THE_WAY:
            sent.popleft().result()
    for future in sent:
        future.result()
    publisher.close()


def _messages(queue: Queue, count: int, rooms: list[uuid.UUID]) -> Iterator[Message]:
    """To the queue itself, past the exchange: no other queue is to take them."""
    for number in range(count):
        message = events.to_message(posted(BODY, rooms[number % len(rooms)]))
        yield msgspec.structs.replace(message, exchange="", routing_key=queue.name)


def depth(admin: AdminConnection, queue: Queue) -> int:
    """How many messages wait in ``queue``."""
    return admin.depth(queue) or 0
