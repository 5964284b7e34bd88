"""Makes the topology on RabbitMQ match the code without losing a message (``topology_gate``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from bus.admin.empty_queue import held_while_empty
from bus.admin.topology_gate import gate, open_left_gate, refused
from bus.admin.topology_plan import DEFAULT_TYPE, KNOWN, Difference, Layout, layout_of
from bus.consuming import pause
from bus.errors import QueueInUse, QueueMissing
from bus.topology import CONSUMERS, GATE, Queue
from bus.transport.rabbitmq.management_api import BindingInfo, ExchangeInfo, Management, QueueInfo
from bus.transport.rabbitmq.topology_editor import TopologyEditor

DRAIN_SECONDS = 30.0
# A consumer checks once a second whether it is paused, and finishes its batch first.
PAUSE_SECONDS = 20.0
POLL_SECONDS = 0.1


def create(url: str, queues: Sequence[Queue]) -> None:
    """Declares ``queues``, which are all that should exist, and opens a gate that was left closed.

    An event published while a new exchange gets its bindings would reach only some of its queues,
    so the exchange takes nothing before it has all of them. Raises QueueInUse while another apply
    is at work, or BrokerUnavailable.
    """
    with closing(TopologyEditor(url)) as editor:
        layout = layout_of(queues)
        missing = [each for each in layout.exchanges if not editor.has_exchange(each)]
        if missing:
            with gate(editor, (), restore=lambda: editor.declare(queues)):
                for exchange in missing:
                    editor.declare_exchange(exchange)
                editor.add_bindings(GATE.name, layout.bindings)
                editor.declare(queues)
        else:
            editor.declare(queues)
    open_left_gate(url)


def has_exchanges_of(url: str, queue: Queue) -> bool:
    """Whether the broker has every exchange that ``queue`` and its dead letters need."""
    with closing(TopologyEditor(url)) as editor:
        return all(map(editor.has_exchange, layout_of([queue]).exchanges))


def remove(url: str, api: Management, extra: Difference, found: Layout) -> None:
    """Removes what is extra and has a name of chatbus, if nothing is lost with it.

    ``found`` is what the broker was seen to have. Raises QueueInUse or BrokerUnavailable.
    """
    item = extra.item
    if isinstance(item, BindingInfo):
        _remove_binding(url, item)
    elif isinstance(item, ExchangeInfo):
        _remove_exchange(url, item)
    elif item.name == GATE.name:
        open_left_gate(url)
    else:
        _remove_queue(url, api, item, found.bindings_of(item.name))


def recreate(url: str, api: Management, queue: Queue, info: QueueInfo, found: Layout) -> None:
    """Deletes ``queue`` when its consumers have emptied it, and declares it as the code has it.

    ``info`` and ``found`` are what the broker was seen to have. What should reach the queue is
    refused during the change, and its consumers are paused for the moment of the change. Raises
    QueueInUse when they don't empty it within DRAIN_SECONDS, QueueBusy while an operator works on
    its dead letters, which would return past the gate, or BrokerUnavailable.
    """
    bindings = [*found.bindings_of(info.name), *layout_of([queue]).bindings_of(queue.name)]
    with (
        closing(TopologyEditor(url)) as editor,
        editor.queue_lock(queue.dead_letters or queue),
    ):
        _check_can_be_emptied(editor, info)
        with gate(editor, bindings, restore=lambda: editor.declare([queue])):
            _drain_and_replace(url, api, editor, queue, info, bindings)


def _remove_binding(url: str, binding: BindingInfo) -> None:
    if binding.destination not in {queue.name for queue in KNOWN.queues}:
        raise QueueInUse(
            f"{binding.destination} is not ours; unbind it by hand if no program needs it"
        )
    with closing(TopologyEditor(url)) as editor:
        editor.remove_bindings([binding])


def _remove_exchange(url: str, exchange: ExchangeInfo) -> None:
    with closing(TopologyEditor(url)) as editor, refused("something is bound to it"):
        editor.delete_exchange(exchange.name)


def _remove_queue(url: str, api: Management, info: QueueInfo, bindings: list[BindingInfo]) -> None:
    """Deletes a queue that holds no message, taken ones included, and has no consumer."""
    with closing(TopologyEditor(url)) as editor:
        try:
            # Without a gate: no publish need be refused for a queue that is plainly in use.
            _check_unused(editor, info)
        except QueueMissing:
            return  # it expired, or another program deleted it
        with gate(editor, bindings, restore=lambda: editor.add_bindings(info.name, bindings)):
            editor.remove_bindings(bindings)
            with suppress(QueueMissing):
                _delete(url, api, editor, info)


def _drain_and_replace(
    url: str,
    api: Management,
    editor: TopologyEditor,
    queue: Queue,
    info: QueueInfo,
    bindings: list[BindingInfo],
) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        # Again each time: a publisher's guard that cannot see bindings declares them.
        editor.remove_bindings(bindings)
        _wait(lambda: editor.counts(info.name)[0] == 0, deadline - time.monotonic())
        with _paused(url, queue):
            _wait(lambda: editor.counts(info.name)[1] == 0, PAUSE_SECONDS)
            try:
                _delete(url, api, editor, info)
            except QueueInUse:
                # The consumers' unsettled messages returned to the queue.
                if time.monotonic() > deadline:
                    raise
            else:
                return editor.declare([queue])


@contextmanager
def _paused(url: str, queue: Queue) -> Iterator[None]:
    """Pauses the queue's consumers; consumers that were paused before stay paused."""
    ours = queue in CONSUMERS.values() and pause.pause(url, queue, "chatbus topology apply")
    try:
        yield
    finally:
        if ours:
            pause.resume(url, queue)


def _delete(url: str, api: Management, editor: TopologyEditor, info: QueueInfo) -> None:
    _check_unused(editor, info)
    if _type(info) == DEFAULT_TYPE:
        with refused("messages or consumers came just now"):
            editor.delete_queue(info.name, if_unused=True, if_empty=True)
    else:
        # RabbitMQ supports no conditions for quorum queues.
        with held_while_empty(url, info, api):
            editor.delete_queue(info.name)


def _check_can_be_emptied(editor: TopologyEditor, info: QueueInfo) -> None:
    """Raises QueueInUse."""
    _, consumers = editor.counts(info.name)
    if _type(info) == "stream" or not consumers:
        _check_unused(editor, info)


def _check_unused(editor: TopologyEditor, info: QueueInfo) -> None:
    """Raises QueueInUse.

    A connection that has an unsettled message of a quorum queue counts as a consumer. Counts of 0
    prove nothing about a quorum queue; see ``bus.admin.empty_queue``.
    """
    if _type(info) == "stream":
        raise QueueInUse("a stream is a log that others may read; delete it by hand")
    ready, consumers = editor.counts(info.name)
    if ready or consumers:
        raise QueueInUse(f"messages waiting on it: {ready}, consumers: {consumers}")


def _type(info: QueueInfo) -> str:
    return str(info.arguments.get("x-queue-type", DEFAULT_TYPE))


def _wait(done: Callable[[], bool], seconds: float) -> None:
    """Polls, because the broker reports no such change; gives up after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
