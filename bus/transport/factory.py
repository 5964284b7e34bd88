"""Opens connections of the kind that a broker's URL names; its driver is imported only then."""

from __future__ import annotations

from bus.topology import Queue
from bus.transport.admin import declare, is_amqp
from bus.transport.interfaces import PublishChannel, Subscription


def subscribe(url: str, queue: Queue, *, prefetch: int, instance: str = "1") -> Subscription:
    """Declares ``queue`` and subscribes to it.

    At most ``prefetch`` deliveries are unsettled at a time. ``instance`` tells apart the
    consumers of one queue on Redis, where each finds its own unsettled deliveries by it.
    Raises BrokerUnavailable.
    """
    declare(url, [queue])
    if is_amqp(url):
        from bus.transport.rabbitmq.subscription import RabbitSubscription

        return RabbitSubscription(url, queue, prefetch)
    from bus.transport.redis.subscription import RedisSubscription

    return RedisSubscription(url, queue, prefetch, instance)


def open_publish_channel(url: str, queues: tuple[Queue, ...]) -> PublishChannel:
    """Connects and declares ``queues``. Raises BrokerUnavailable."""
    if is_amqp(url):
        from bus.transport.rabbitmq.publish_channel import ConfirmChannel

        return ConfirmChannel(url, queues)
    from bus.transport.redis.publish_channel import RedisPublishChannel

    return RedisPublishChannel(url, queues)
