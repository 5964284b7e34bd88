"""What is on a broker now, as ``bus.admin.topology_plan`` compares it."""

from __future__ import annotations

from bus.admin.topology_plan import Layout, layout_of
from bus.errors import BrokerUnavailable
from bus.topology import EXCHANGES, QUEUES
from bus.transport.admin import Link
from bus.transport.rabbitmq.management_api import BindingInfo, Management


def found_on_rabbitmq(management: Management) -> Layout:
    """Everything in the virtual host but what its connections hold for themselves. Raises
    BrokerUnavailable."""
    queues = management.queues()
    private = {queue.name for queue in queues if queue.exclusive}
    return Layout(
        tuple(management.exchanges()),
        tuple(queue for queue in queues if queue.name not in private),
        tuple(each for each in management.bindings() if each.destination not in private),
    )


def found_on_redis(url: str) -> Layout:
    """The bindings in kombu's tables, which are all that Redis keeps of a topology: exchanges
    and queues are there when they are written to. Raises BrokerUnavailable."""
    code = layout_of(QUEUES)
    link = Link(url)
    try:
        tables = {exchange.name: link.channel.get_table(exchange.name) for exchange in EXCHANGES}
    except link.errors as error:
        raise BrokerUnavailable(f"Redis as broker: {error!r}") from error
    finally:
        link.close()
    bindings = tuple(
        BindingInfo(exchange, queue, "queue", routing_key)
        for exchange, table in tables.items()
        for routing_key, _, queue in table
    )
    return Layout(code.exchanges, code.queues, bindings)
