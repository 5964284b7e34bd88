"""A subscription to one queue that puts marker messages behind whatever the queue holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import NotFound

from bus import events
from bus.errors import QueueMissing, reason
from bus.transport.rabbitmq.admin import RabbitAdmin

ANSWER_SECONDS = 5.0
MARKER = "topology.marker"


class MarkerChannel(RabbitAdmin):
    """Takes one message at a time from ``queue``, and puts markers there.

    Use it from one thread. Every method raises BrokerUnavailable, and QueueMissing without such
    a queue.
    """

    def __init__(self, url: str, queue: str) -> None:
        super().__init__(url)
        self.queue = queue
        self._taken: list[Any] = []

    def subscribe(self) -> None:
        with self._answers():
            self.channel.basic_qos(0, 1, False)
            self.channel.basic_consume(self.queue, callback=self._taken.append)

    @property
    def taken(self) -> int:
        """How many messages have come."""
        return len(self._taken)

    @property
    def is_marker(self) -> bool:
        """Whether the message that came last is a marker."""
        return bool(self._taken) and self._taken[-1].properties.get("type") == MARKER

    def send_marker(self) -> None:
        properties = {"type": MARKER, "message_id": str(events.new_id())}
        with self._answers():
            marker = self.channel.prepare_message(b"", properties=properties)
            self.channel.basic_publish(marker, "", self.queue)

    def ack(self) -> None:
        """Settles the message that came last; the next one may then come."""
        with self._answers():
            self.channel.basic_ack(self._taken[-1].delivery_tag)

    def wait(self, count: int) -> bool:
        """Waits until ``count`` messages have come; False when none comes in ANSWER_SECONDS."""
        with self._answers():
            try:
                while self.taken < count:
                    self.connection.drain_events(timeout=ANSWER_SECONDS)
            except TimeoutError:
                return False
        return True

    def counts(self) -> tuple[int, int]:
        """How many messages wait on the queue, and how many consumers it has, this one included.

        On the channel of the subscription: what the broker sent before its answer has come then.
        """
        with self._answers():
            declared = self.channel.queue_declare(self.queue, passive=True)
        return declared.message_count, declared.consumer_count

    @contextmanager
    def _answers(self) -> Iterator[None]:
        with self.broker_errors(f"look into {self.queue}"):
            try:
                yield
            except NotFound as error:
                raise QueueMissing(reason(error)) from error
