"""Where a consumer's deliveries come from: one small interface, one adapter per kind of broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bus.broker import declare, is_amqp
from bus.message import Delivery
from bus.topology import Queue


class Feed(Protocol):
    """Deliveries that are settled one day. Use it from one thread.

    Every method raises BrokerUnavailable when the connection is lost; what was not settled then
    comes again, marked ``redelivered``. After that error the feed is of no more use.
    """

    def receive(self, limit: int, wait: float) -> list[Delivery]:
        """What has arrived, at most ``limit``; waits up to ``wait`` seconds for the first."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settles ``deliveries``, any of the unsettled ones: they never come again."""
        ...

    def idle(self, seconds: float) -> None:
        """Keeps the connection alive for ``seconds`` without handing anything out."""
        ...

    def close(self) -> None:
        """Ends it; what is not settled goes back to the queue, in order."""
        ...


class Source(Feed, Protocol):
    """One consumer's subscription to one queue.

    A SubscriptionCancelled, which is a BrokerUnavailable, means that the queue was deleted, or
    may have been.
    """

    def cancel(self) -> None:
        """Asks for nothing more; what is in hand may still be settled, what is on its way received.

        For the last one in hand: its acknowledgement would bring the next, which would then go
        back marked as redelivered. It hands the queue over to the next consumer at once, so not
        for a queue whose order matters.
        """
        ...


def open_source(url: str, queue: Queue, *, prefetch: int, instance: str = "1") -> Source:
    """Declares ``queue`` and subscribes to it.

    At most ``prefetch`` deliveries are unsettled at a time. ``instance`` tells apart the
    consumers of one queue on Redis, where each finds its own unsettled deliveries by it.
    Raises BrokerUnavailable.
    """
    declare(url, [queue])
    if is_amqp(url):
        from bus.amqp_source import AmqpSource

        return AmqpSource(url, queue, prefetch)
    from bus.redis_source import RedisSource

    return RedisSource(url, queue, prefetch, instance)
