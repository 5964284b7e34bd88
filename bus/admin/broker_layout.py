"""What is on a broker now, as ``bus.admin.topology_plan`` compares it."""

from __future__ import annotations

from contextlib import closing

from bus.admin.topology_plan import Layout, layout_of
from bus.topology import EXCHANGES, QUEUES
from bus.transport import connect_admin
from bus.transport.rabbitmq.management_api import BindingInfo, Management


def find_layout(url: str, management: Management | None) -> Layout:
    """What the broker has; ``management`` is its API, None for Redis. Raises BrokerUnavailable."""
    return _found_by_api(management) if management else _found_by_bindings(url)


def _found_by_api(management: Management) -> Layout:
    """Everything in the virtual host but what belongs to a single connection."""
    queues = management.queues()
    private = {queue.name for queue in queues if queue.exclusive}
    return Layout(
        tuple(management.exchanges()),
        tuple(queue for queue in queues if queue.name not in private),
        tuple(each for each in management.bindings() if each.destination not in private),
    )


def _found_by_bindings(url: str) -> Layout:
    """The bindings are all that Redis keeps of a topology: exchanges and queues exist once
    something is written to them."""
    code = layout_of(QUEUES)
    with closing(connect_admin(url)) as admin:
        found = admin.bindings(EXCHANGES) or ()
    bindings = tuple(BindingInfo(source, queue, "queue", key) for source, key, queue in found)
    return Layout(code.exchanges, code.queues, bindings)
