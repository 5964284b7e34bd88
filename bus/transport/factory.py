"""Opens connections of the kind that a broker's URL names; its driver is imported only then."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from bus.runtime.settings import Environment
from bus.topology import Queue
from bus.transport.interfaces import AdminConnection, PublishChannel, Subscription
from bus.transport.urls import is_amqp

if TYPE_CHECKING:
    from bus.transport.rabbitmq.management_api import Management


def connect_admin(url: str) -> AdminConnection:
    """Connects, to ask and to declare. Raises BrokerUnavailable."""
    if is_amqp(url):
        from bus.transport.rabbitmq.admin import RabbitAdmin

        return RabbitAdmin(url)
    from bus.transport.redis.admin import RedisAdmin

    return RedisAdmin(url)


def declare(url: str, queues: Iterable[Queue]) -> None:
    """Declares ``queues`` on a connection made for it. Raises BrokerUnavailable."""
    with closing(connect_admin(url)) as admin:
        admin.declare(queues)


def depth(url: str, queue: Queue) -> int | None:
    """``AdminConnection.depth`` on a connection made for it. Raises BrokerUnavailable."""
    with closing(connect_admin(url)) as admin:
        return admin.depth(queue)


def subscribe(url: str, queue: Queue, *, prefetch: int, instance: str = "1") -> Subscription:
    """Declares ``queue`` and subscribes to it.

    At most ``prefetch`` deliveries are unsettled at a time. ``instance`` names this consumer
    among those of one queue: on Redis it finds its own unsettled deliveries by that name.
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


def management_api(environment: Environment) -> Management | None:
    """The management API of the broker of ``environment``; None for Redis, which has none.

    Raises SettingError.
    """
    if not is_amqp(environment.broker_url()):
        return None
    from bus.transport.rabbitmq.management_api import Management

    return Management.from_environment(environment)
