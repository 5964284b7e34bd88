"""The topology in the form that RabbitMQ imports: ``rabbitmqctl import_definitions``.

Source: https://www.rabbitmq.com/docs/definitions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bus.admin.topology_plan import layout_of
from bus.topology import Queue
from bus.transport.rabbitmq.management_api import BindingInfo, ExchangeInfo, QueueInfo


def definitions(queues: Iterable[Queue], vhost: str) -> dict[str, Any]:
    """``queues`` with their exchanges, bindings and dead-letter queues, for the virtual host
    ``vhost``."""
    layout = layout_of(queues)
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [_exchange(exchange, vhost) for exchange in layout.exchanges],
        "queues": [_queue(queue, vhost) for queue in layout.queues],
        "bindings": [_binding(binding, vhost) for binding in layout.bindings],
    }


def _exchange(exchange: ExchangeInfo, vhost: str) -> dict[str, Any]:
    return {
        "name": exchange.name,
        "vhost": vhost,
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": False,
        "internal": False,
        "arguments": exchange.arguments,
    }


def _queue(queue: QueueInfo, vhost: str) -> dict[str, Any]:
    return {
        "name": queue.name,
        "vhost": vhost,
        "durable": queue.durable,
        "auto_delete": False,
        "arguments": queue.arguments,
    }


def _binding(binding: BindingInfo, vhost: str) -> dict[str, Any]:
    return {
        "source": binding.source,
        "vhost": vhost,
        "destination": binding.destination,
        "destination_type": binding.destination_type,
        "routing_key": binding.routing_key,
        "arguments": binding.arguments,
    }
