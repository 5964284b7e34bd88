"""A gate around a change to the topology on RabbitMQ, so that it loses no message.

RabbitMQ deletes a quorum queue whatever is on it, and cannot replace a queue or a binding in one
step. The gate is a queue with the same bindings that takes nothing. While it is bound, a publish
that should reach the changed queue is refused, however far the change has come, and publishers
try again. An interrupted change leaves the gate closed; the next apply repairs the rest and opens
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

from bus.errors import BrokerRefused, QueueInUse
from bus.topology import GATE
from bus.transport.rabbitmq.management_api import BindingInfo
from bus.transport.rabbitmq.topology_editor import TopologyEditor


@contextmanager
def gate(
    editor: TopologyEditor, bindings: Iterable[BindingInfo], restore: Callable[[], object]
) -> Iterator[None]:
    """The broker refuses whatever ``bindings`` route until the block has ended.

    When the change proves impossible, or is given up, ``restore`` makes the topology whole before
    the gate opens. The exclusive consumer allows one change at a time, and keeps an apply from
    opening a gate that is in use. Raises QueueInUse.
    """
    editor.declare([GATE])
    with refused("another apply is at work"):
        editor.consume_exclusively(GATE.name)
    editor.add_bindings(GATE.name, bindings)
    try:
        yield
    except (QueueInUse, KeyboardInterrupt):
        restore()
        editor.delete_consumed(GATE.name)
        raise
    editor.delete_consumed(GATE.name)


def open_left_gate(url: str) -> None:
    """Opens the gate of an interrupted change, if there is one, once all else is whole.

    Raises QueueInUse while a change is being made, or BrokerUnavailable.
    """
    with closing(TopologyEditor(url)) as editor, refused("another apply is at work"):
        editor.delete_queue(GATE.name, if_unused=True)


@contextmanager
def refused(text: str) -> Iterator[None]:
    """Turns the broker's refusal into QueueInUse with ``text``."""
    try:
        yield
    except BrokerRefused as error:
        raise QueueInUse(text) from error
