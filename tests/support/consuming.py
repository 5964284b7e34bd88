"""A consumer in a thread, with a sink that a test looks into."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from bus import events
from bus.consuming import Consumer
from bus.events import Event, MessagePosted
from bus.message import Delivery
from bus.publishing import Publisher
from bus.topology import MONGO_WRITER, Queue
from bus.transport import subscribe
from tests.support.wait import patience, wait_until


class ListSink:
    """Keeps what it gets; ``fail`` may raise for a batch."""

    def __init__(self, fail: Callable[[Sequence[Event]], None] = lambda batch: None) -> None:
        self.bodies: list[str] = []
        self.batches: list[int] = []
        self.calls = 0
        self._fail = fail

    def store(self, batch: Sequence[Event]) -> None:
        self.calls += 1
        self._fail(batch)
        self.batches.append(len(batch))
        self.bodies += bodies(batch)


def bodies(batch: Sequence[Event]) -> list[str]:
    return [event.data.body for event in batch if isinstance(event, MessagePosted)]


def publish(url: str, *sent: Event, queues: Sequence[Queue] = ()) -> None:
    """To whatever queues there are."""
    with closing(Publisher(url, queues)) as publisher:
        publisher.publish(*map(events.to_message, sent), timeout=30)


@contextmanager
def consuming(
    url: str, sink: ListSink, batch: int = 100, queue: Queue = MONGO_WRITER, instance: str = "1"
) -> Iterator[Consumer]:
    """The consumer, which runs until the block ends."""
    stop = threading.Event()
    connected = threading.Event()
    consumer = Consumer(
        url=url,
        queue=queue,
        sink=sink,
        stop=stop,
        batch=batch,
        instance=instance,
        on_connected=connected.set,
    )
    thread = threading.Thread(target=consumer.run)
    thread.start()
    try:
        assert connected.wait(patience(20)), "it did not connect"
        yield consumer
    finally:
        stop.set()
        thread.join(patience(20))
        assert not thread.is_alive()


def dead_letters(url: str, number: int, queue: Queue = MONGO_WRITER) -> list[Delivery]:
    """Takes ``number`` dead letters of ``queue``, as soon as they are there."""
    assert queue.dead_letters
    letters: list[Delivery] = []
    with closing(subscribe(url, queue.dead_letters, prefetch=100)) as source:

        def received() -> bool:
            letters.extend(source.receive(100, 0.1))
            return len(letters) >= number

        wait_until(received, what=f"{number} dead letters")
        source.ack(letters)
    return letters
