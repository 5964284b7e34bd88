"""The dead letters of one queue, for an operator who reads, redrives or drops them.

A dead letter leaves only by being settled. A redriven one is settled after the broker has confirmed
it on its queue, so a killed command loses none, and at worst sends some twice. All others return
in their order when the operator is done. A lock admits one operator at a time, because two would
each see a part.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from bus.consuming.dead_letter import DeadLetter
from bus.errors import BrokerUnavailable
from bus.message import Delivery
from bus.publishing import Publisher
from bus.topology import Queue
from bus.transport import AdminConnection, Subscription, connect_admin, subscribe
from bus.transport.interfaces import Renew

# Dead letters that are read and kept stay unsettled until the end; RabbitMQ counts them in 16
# bits.
MOST_HELD = 50_000
BATCH = 100
ANSWER_SECONDS = 10.0
RETURN_SECONDS = 5.0
POLL_SECONDS = 0.02
# The consumer name of operators on Redis; the next operator returns what a killed one left.
INSTANCE = "operator"


class DeadLetterQueue:
    """The ``count`` dead letters that ``open_dead_letters`` found, and what may be done with them.

    Use it from one thread. Every method raises BrokerUnavailable, and QueueBusy when another
    operator took over.
    """

    def __init__(self, url: str, queue: Queue, count: int, renew_lock: Renew) -> None:
        self.queue = queue
        self._dead = dead_queue(queue)
        self.count = count
        self._url = url
        self._renew_lock = renew_lock
        self._source: Subscription | None = None
        self._seen = 0
        self._settled = 0

    @property
    def left(self) -> int:
        """How many of ``count`` are not settled."""
        return self.count - self._settled

    @property
    def unseen(self) -> int:
        """How many of ``count`` were not read."""
        return self.count - self._seen

    def read(self) -> Iterator[list[DeadLetter]]:
        """The dead letters that were there at the start, oldest first, in batches.

        Ends before the last of them when MOST_HELD are unsettled.
        """
        while self.unseen and self._seen - self._settled < MOST_HELD:
            deliveries = self._receive(min(BATCH, self.unseen))
            self._seen += len(deliveries)
            yield [DeadLetter(self.queue, delivery) for delivery in deliveries]

    def redrive(self, publisher: Publisher, letters: Sequence[DeadLetter]) -> None:
        """Sends ``letters`` to their queue alone and settles them once the broker confirms that.

        Raises PublishRefused (the queue is full or gone), PublishTimeout or PublishUnconfirmed;
        then ``letters`` are still here, and some of them perhaps on the queue as well.
        """
        publisher.publish(*(letter.to_message() for letter in letters))
        self.drop(letters)

    def drop(self, letters: Sequence[DeadLetter]) -> None:
        """Settles ``letters``, which removes them."""
        self._renew_lock()
        self._opened().ack([letter.delivery for letter in letters])
        self._settled += len(letters)

    def close(self) -> None:
        """Returns what is not settled."""
        if self._source:
            self._source.close()

    def _receive(self, limit: int) -> list[Delivery]:
        self._renew_lock()
        deliveries = self._opened().receive(limit, ANSWER_SECONDS)
        if not deliveries:
            raise BrokerUnavailable(
                f"{self._dead.name} stalls after {self._seen} of {self.count} letters; "
                "does another program read from it?"
            )
        return deliveries

    def _opened(self) -> Subscription:
        if self._source is None:
            self._source = _subscribe(self._url, self._dead)
        return self._source


@contextmanager
def open_dead_letters(url: str, queue: Queue) -> Iterator[DeadLetterQueue]:
    """The dead letters of ``queue``, locked for this operator until the block ends.

    Raises QueueBusy while another operator holds the lock, or BrokerUnavailable.
    """
    dead = dead_queue(queue)
    with closing(connect_admin(url)) as admin, admin.queue_lock(dead) as renew_lock:
        admin.return_unsettled(dead, INSTANCE)
        letters = DeadLetterQueue(url, queue, admin.depth(dead) or 0, renew_lock)
        try:
            yield letters
        finally:
            letters.close()
        _wait_until_returned(admin, dead, letters.left)


def dead_queue(queue: Queue) -> Queue:
    """The queue of the dead letters of ``queue``, which must have one."""
    assert queue.dead_letters, queue.name
    return queue.dead_letters


def _subscribe(url: str, dead: Queue) -> Subscription:
    return subscribe(url, dead, prefetch=MOST_HELD, instance=INSTANCE)


def _wait_until_returned(admin: AdminConnection, dead: Queue, number: int) -> None:
    """Waits for the return of unsettled dead letters, which RabbitMQ does after the connection has
    ended: the next command must see them all."""
    deadline = time.monotonic() + RETURN_SECONDS
    while (admin.depth(dead) or 0) < number and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
