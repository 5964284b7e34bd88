"""A gate around a change to the topology on RabbitMQ, so that it loses no message.

RabbitMQ deletes a quorum queue whatever is on it, and cannot replace a queue or a binding in one
step. The gate is a queue with the same bindings that takes nothing. While it is bound, a publish
that should reach the changed queue is refused, however far the change has come, and publishers
try again. Where a change is interrupted the gate stays closed; the next apply repairs the rest
and opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from amqp.exceptions import AccessRefused, PreconditionFailed

from bus.errors import BrokerUnavailable, QueueInUse
from bus.topology import GATE
from bus.transport.admin import Link
from bus.transport.rabbitmq.management_api import BindingInfo


@contextmanager
def editing(url: str) -> Iterator[Link]:
    """A connection for one change. Raises BrokerUnavailable."""
    link = Link(url)
    try:
        yield link
    except link.errors as error:
        raise BrokerUnavailable(f"cannot change the topology: {error}") from error
    finally:
        link.close()


@contextmanager
def gate(
    link: Link, bindings: Iterable[BindingInfo], restore: Callable[[], object]
) -> Iterator[None]:
    """What ``bindings`` route is refused until the block has ended.

    Where the change turns out impossible, or is given up, ``restore`` makes the topology whole
    before the gate is opened. The exclusive consumer lets only one change be made at a time, and
    keeps an apply from opening a gate that is in use. Raises QueueInUse.
    """
    channel = link.channel
    channel.queue_declare(GATE.name, durable=True, auto_delete=False, arguments={**GATE.arguments})
    with refused("another apply is at work"):
        channel.basic_consume(GATE.name, exclusive=True)
    bind(link, GATE.name, bindings)
    try:
        yield
    except (QueueInUse, KeyboardInterrupt):
        restore()
        channel.queue_delete(GATE.name)
        raise
    channel.queue_delete(GATE.name)


def open_left_gate(url: str) -> None:
    """Opens the gate of an interrupted change, if there is one, once all else is whole.

    Raises QueueInUse when a change is being made, or BrokerUnavailable.
    """
    with editing(url) as link, refused("another apply is at work"):
        link.channel.queue_delete(GATE.name, if_unused=True)


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """Turns the broker's refusal into QueueInUse; the channel is closed then."""
    try:
        yield
    except (AccessRefused, PreconditionFailed) as error:
        raise QueueInUse(reason) from error


def bind(link: Link, queue: str, bindings: Iterable[BindingInfo]) -> None:
    """Gives ``queue`` the same bindings."""
    for binding in bindings:
        source, key = binding.source, binding.routing_key
        link.channel.queue_bind(queue, source, key, arguments={**binding.arguments})


def unbind(link: Link, bindings: Iterable[BindingInfo]) -> None:
    for binding in bindings:
        source, key = binding.source, binding.routing_key
        link.channel.queue_unbind(binding.destination, source, key, arguments={**binding.arguments})
