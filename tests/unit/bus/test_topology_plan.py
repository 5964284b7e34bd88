"""What `chatbus topology plan` calls a difference."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from bus import topology
from bus.admin.topology_plan import Layout, compare, compare_one, layout_of
from bus.transport.rabbitmq.management_api import BindingInfo, ExchangeInfo, QueueInfo

WHOLE = layout_of(topology.QUEUES)
EVENTS = topology.EVENTS.name


def without(layout: Layout, name: str) -> Layout:
    """As RabbitMQ deletes: the bindings go with what they bind."""
    return Layout(
        tuple(e for e in layout.exchanges if e.name != name),
        tuple(q for q in layout.queues if q.name != name),
        tuple(b for b in layout.bindings if name not in (b.source, b.destination)),
    )


def plus(*, queue: QueueInfo | None = None, binding: BindingInfo | None = None) -> Layout:
    return replace(
        WHOLE,
        queues=(*WHOLE.queues, *([queue] if queue else [])),
        bindings=(*WHOLE.bindings, *([binding] if binding else [])),
    )


def lines(found: Layout) -> list[str]:
    return [f"{d.kind} {d.what} {d.name}" for d in compare(topology.QUEUES, found)]


def test_the_code_does_not_differ_from_itself() -> None:
    assert lines(WHOLE) == []


def test_an_empty_broker_lacks_everything() -> None:
    number = len(WHOLE.exchanges) + len(WHOLE.queues) + len(WHOLE.bindings)
    found = lines(Layout())
    assert len(found) == number
    assert all(line.startswith("missing ") for line in found)


def test_a_missing_queue_lacks_its_bindings_too() -> None:
    assert lines(without(WHOLE, "chat.mongo_writer")) == [
        "missing queue chat.mongo_writer",
        "missing binding chat.events -> chat.mongo_writer (room.*.message.*)",
    ]


def test_other_arguments_are_named_with_both_values() -> None:
    name = topology.MONGO_WRITER.name
    other = QueueInfo(name, True, {**topology.MONGO_WRITER.arguments, "x-max-length": 5, "x-a": 1})
    found = without(WHOLE, name)
    found = replace(found, queues=(*found.queues, other), bindings=WHOLE.bindings)
    (difference,) = compare(topology.QUEUES, found)
    assert (difference.kind, difference.name) == ("different", name)
    assert difference.detail == (
        "x-a is 1, in the code not set, x-max-length is 5, in the code 20000000"
    )


def test_the_default_queue_type_is_no_difference_when_a_broker_writes_it_down() -> None:
    requests = QueueInfo("web.requests", True, {"x-max-priority": 9, "x-queue-type": "classic"})
    found = without(WHOLE, "web.requests")
    assert lines(replace(found, queues=(*found.queues, requests))) == []
    quorum = msgspec.structs.replace(requests, arguments={"x-queue-type": "quorum"})
    assert lines(replace(found, queues=(*found.queues, quorum))) == ["different queue web.requests"]


def test_an_exchange_of_another_type_differs() -> None:
    exchanges = (ExchangeInfo(EVENTS, "fanout", True), *WHOLE.exchanges)
    (difference,) = compare(topology.QUEUES, replace(WHOLE, exchanges=exchanges[:1]))[-1:]
    assert "type is fanout, in the code topic" in difference.detail


def test_a_queue_that_nobody_knows_is_extra_and_its_bindings_go_with_it() -> None:
    binding = BindingInfo(EVENTS, "chat.old", "queue", "#")
    layout = plus(queue=QueueInfo("chat.old", True, {}, False, 1, 2, 3), binding=binding)
    (difference,) = compare(topology.QUEUES, layout)
    assert (difference.kind, difference.name) == ("extra", "chat.old")
    assert difference.detail == "2 ready, 3 unacknowledged, 1 consumers"


@pytest.mark.parametrize(
    "queue", ["web.replies.3f", "chat.mongo_writer.pause", "web.requests.pause", "others"]
)
def test_queues_that_come_and_go_and_those_of_others_are_not_extra(queue: str) -> None:
    assert lines(plus(queue=QueueInfo(queue, True))) == []


def test_bindings_to_our_exchanges_are_extra_whosever_queue_it_is() -> None:
    foreign = BindingInfo(EVENTS, "analytics", "queue", "#")
    assert lines(plus(binding=foreign)) == ["extra binding chat.events -> analytics (#)"]
    default = BindingInfo("", "chat.mongo_writer", "queue", "chat.mongo_writer")
    assert lines(plus(binding=default)) == []


def test_the_archive_may_be_there_where_it_is_not_wanted() -> None:
    wanted = [queue for queue in topology.QUEUES if queue != topology.ARCHIVE]
    assert compare(wanted, WHOLE) == []
    assert compare(wanted, layout_of(wanted)) == []


def test_one_queue_is_compared_with_its_dead_letters_and_without_the_others() -> None:
    found = without(without(WHOLE, "chat.redis_publisher"), "chat.mongo_writer.dead")
    names = [f"{d.kind} {d.name}" for d in compare_one(topology.MONGO_WRITER, found)]
    assert names == [
        "missing chat.mongo_writer.dead",
        "missing chat.dead -> chat.mongo_writer.dead (chat.mongo_writer)",
    ]
    binding = BindingInfo(EVENTS, "chat.mongo_writer", "queue", "room.#")
    names = [
        f"{d.kind} {d.name}" for d in compare_one(topology.MONGO_WRITER, plus(binding=binding))
    ]
    assert names == ["extra chat.events -> chat.mongo_writer (room.#)"]


def test_a_gate_that_was_left_is_seen_whatever_is_compared() -> None:
    found = plus(queue=QueueInfo(topology.GATE.name, True))
    assert [d.name for d in compare_one(topology.MONGO_WRITER, found)] == [topology.GATE.name]
    assert lines(found) == ["extra queue chat.gate"]
