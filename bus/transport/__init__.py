"""The two kinds of broker, RabbitMQ and Redis, behind one interface.

``interfaces`` says what a connection to a broker can do, ``rabbitmq`` and ``redis`` implement it,
and ``factory`` chooses one by the URL. Only modules below here import kombu, py-amqp and pika,
and only when a function here is called.
"""

from bus.transport.factory import (
    connect_admin,
    declare,
    depth,
    management_api,
    open_publish_channel,
    subscribe,
)
from bus.transport.interfaces import AdminConnection, DeliveryFeed, PublishChannel, Subscription
from bus.transport.urls import has_streams

__all__ = [
    "AdminConnection",
    "DeliveryFeed",
    "PublishChannel",
    "Subscription",
    "connect_admin",
    "declare",
    "depth",
    "has_streams",
    "management_api",
    "open_publish_channel",
    "subscribe",
]
