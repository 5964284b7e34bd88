"""Exchanges, queues and bindings, declared once as data: the only place with their names.

The number of queues is fixed: there is never one per room or per user.
Sources: RabbitMQ's pages on quorum queues, streams, alternate exchanges and at-least-once
dead-lettering (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    type: str
    alternate: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        return {"alternate-exchange": self.alternate} if self.alternate else {}


@dataclass(frozen=True, slots=True)
class Binding:
    exchange: Exchange
    routing_key: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, the bindings that fill it, and its dead-letter queue where it has one."""

    name: str
    bindings: tuple[Binding, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    dead_letters: Queue | None = None

    def takes(self, routing_key: str) -> bool:
        """Whether the bindings bring an event with ``routing_key`` to this queue."""
        words = routing_key.split(".")
        return any(_matches(b.routing_key.split("."), words) for b in self.bindings)


def _matches(pattern: list[str], words: list[str]) -> bool:
    """A topic exchange's rule: ``*`` stands for one word, ``#`` for any number of them."""
    if not pattern:
        return not words
    word, rest = pattern[0], pattern[1:]
    if word == "#":
        return any(_matches(rest, words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and word in ("*", words[0]) and _matches(rest, words[1:])


EVENTS = Exchange("chat.events", "topic", alternate="chat.unroutable")
# No queue is bound to it by default: an event without a queue returns to its publisher, which
# then knows. Bind a queue here to look at such events.
UNROUTABLE = Exchange("chat.unroutable", "fanout")
DEAD = Exchange("chat.dead", "direct")
EXCHANGES = (UNROUTABLE, EVENTS, DEAD)


# A command that looks at dead letters, or at a pause, returns them to the queue, and RabbitMQ 4
# counts that towards a limit of 20 unless another limit is set.
_LOOKED_AT = MappingProxyType({"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})


def _event_queue(name: str, *routing_keys: str, single_active_consumer: bool = False) -> Queue:
    """A quorum queue that refuses new messages rather than lose old ones, with dead letters.

    At-least-once dead-lettering works only with ``reject-publish``; with ``drop-head`` it is
    silently at-most-once. The delivery limit matters only for a crash loop.
    """
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1_000,
        "x-max-length": 20_000_000,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": DEAD.name,
        "x-dead-letter-routing-key": name,
        "x-dead-letter-strategy": "at-least-once",
    }
    if single_active_consumer:
        arguments["x-single-active-consumer"] = True
    bindings = tuple(Binding(EVENTS, routing_key) for routing_key in routing_keys)
    dead = Queue(f"{name}.dead", (Binding(DEAD, name),), _LOOKED_AT)
    return Queue(name, bindings, MappingProxyType(arguments), dead)


MONGO_WRITER = _event_queue("chat.mongo_writer", "room.*.message.*")
# Its order is the room's order, and a removal must not be overtaken: one active consumer.
REDIS_PUBLISHER = _event_queue(
    "chat.redis_publisher", "room.#", "user.#", single_active_consumer=True
)
EVENT_QUEUES = (MONGO_WRITER, REDIS_PUBLISHER)

ARCHIVE = Queue(
    "chat.archive",
    (Binding(EVENTS, "#"),),
    MappingProxyType(
        {
            "x-queue-type": "stream",
            "x-max-age": "90D",
            "x-max-length-bytes": 20_000_000_000,
            "x-stream-max-segment-size-bytes": 100_000_000,
        }
    ),
)

MAX_PRIORITY = 9
# Classic, because held requests have priorities and quorum queues before 4.0 do not.
WEB_REQUESTS = Queue(
    "web.requests",
    arguments=MappingProxyType({"x-queue-type": "classic", "x-max-priority": MAX_PRIORITY}),
)


def reply_queue(gateway: str) -> Queue:
    """The queue for the answers to one gateway; it outlives a lost connection by a minute."""
    arguments = {"x-queue-type": "classic", "x-expires": 60_000}
    return Queue(f"web.replies.{gateway}", arguments=MappingProxyType(arguments))


QUEUES = (*EVENT_QUEUES, ARCHIVE, WEB_REQUESTS)

EVENT_CONSUMERS: Mapping[str, Queue] = MappingProxyType(
    {queue.name.removeprefix("chat."): queue for queue in EVENT_QUEUES}
)
CONSUMERS: Mapping[str, Queue] = MappingProxyType(
    {**EVENT_CONSUMERS, "request_worker": WEB_REQUESTS}
)
"""The process that consumes → its queue."""


def pause_queue(queue: Queue) -> Queue:
    """The queue for the pause of ``queue``: its consumers are paused while it holds a message.

    The message outlives every process and a restart of the broker, and reaches every instance.
    """
    arguments = {**_LOOKED_AT, "x-max-length": 1, "x-overflow": "drop-head"}
    return Queue(f"{queue.name}.pause", arguments=MappingProxyType(arguments))


def lock_name(queue: Queue) -> str:
    """The name under which one operator at a time locks ``queue``."""
    return f"{queue.name}.operator"


# It accepts nothing. While it is bound like another queue, the broker confirms no message for that
# queue (``bus.admin.topology_gate``). Classic: a quorum queue keeps to its length only roughly.
GATE = Queue(
    "chat.gate",
    arguments=MappingProxyType(
        {"x-queue-type": "classic", "x-max-length": 0, "x-overflow": "reject-publish"}
    ),
)


def exchanges_of(queues: Iterable[Queue]) -> tuple[Exchange, ...]:
    """The exchanges that ``queues`` are bound to, with the alternates these name."""
    bound = {binding.exchange.name for queue in queues for binding in queue.bindings}
    alternates = {exchange.alternate for exchange in EXCHANGES if exchange.name in bound}
    return tuple(e for e in EXCHANGES if e.name in bound or e.name in alternates)
