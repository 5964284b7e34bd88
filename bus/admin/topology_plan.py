"""Compares the topology in the code with the one on a broker: data in, data out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from bus.topology import CONSUMERS, GATE, QUEUES, Queue, exchanges_of, pause_queue
from bus.transport.rabbitmq.management_api import BindingInfo, ExchangeInfo, QueueInfo

# A name with one of these prefixes belongs to chatbus.
OUR_PREFIXES = ("chat.", "web.")
REPLIES_PREFIX = "web.replies."
DEFAULT_TYPE = "classic"

Item = ExchangeInfo | QueueInfo | BindingInfo
Named = TypeVar("Named", ExchangeInfo, QueueInfo)
Kind = Literal["missing", "extra", "different"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Exchanges, queues and bindings, wanted or found."""

    exchanges: tuple[ExchangeInfo, ...] = ()
    queues: tuple[QueueInfo, ...] = ()
    bindings: tuple[BindingInfo, ...] = ()

    def bindings_of(self, queue: str) -> list[BindingInfo]:
        """The bindings of ``queue`` without that to the default exchange, which every queue has."""
        return [b for b in self.bindings if b.destination == queue and b.source and _to_queue(b)]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the broker lacks, has in excess, or has with other properties."""

    kind: Kind
    item: Item
    detail: str = ""

    @property
    def what(self) -> str:
        return type(self.item).__name__.removesuffix("Info").lower()

    @property
    def name(self) -> str:
        item = self.item
        if isinstance(item, BindingInfo):
            return f"{item.source} -> {item.destination} ({item.routing_key})"
        return item.name


def layout_of(queues: Iterable[Queue]) -> Layout:
    """What declaring ``queues`` makes, their dead-letter queues included."""
    everything = [part for queue in queues for part in (queue, queue.dead_letters) if part]
    return Layout(
        tuple(ExchangeInfo(e.name, e.type, True, e.arguments) for e in exchanges_of(everything)),
        tuple(QueueInfo(queue.name, True, dict(queue.arguments)) for queue in everything),
        tuple(
            BindingInfo(binding.exchange.name, queue.name, "queue", binding.routing_key)
            for queue in everything
            for binding in queue.bindings
        ),
    )


def compare(queues: Iterable[Queue], found: Layout) -> list[Difference]:
    """How ``found``, a whole broker, differs from ``queues``. A queue that the code knows and does
    not require, such as that of a pause, is no difference."""
    wanted = layout_of(queues)
    return [*_missing(wanted, found), *_different(wanted, found), *_extra(found)]


def compare_one(queue: Queue, found: Layout) -> list[Difference]:
    """How ``queue``, with its bindings and its dead letters, differs from what was ``found``."""
    wanted = layout_of([queue])
    names = {info.name for info in wanted.queues}
    extra = [
        Difference("extra", binding)
        for name in names
        for binding in found.bindings_of(name)
        if binding not in wanted.bindings
    ]
    gate = [d for d in _extra_queues(found) if d.name == GATE.name]
    return [*_missing(wanted, found), *_different(wanted, found), *extra, *gate]


def _missing(wanted: Layout, found: Layout) -> Iterator[Difference]:
    exchanges = {exchange.name for exchange in found.exchanges}
    queues = {queue.name for queue in found.queues}
    yield from (Difference("missing", e) for e in wanted.exchanges if e.name not in exchanges)
    yield from (Difference("missing", q) for q in wanted.queues if q.name not in queues)
    yield from (Difference("missing", b) for b in wanted.bindings if b not in found.bindings)


def _different(wanted: Layout, found: Layout) -> Iterator[Difference]:
    yield from _changed(wanted.exchanges, found.exchanges)
    yield from _changed(wanted.queues, found.queues)


def _changed(wanted: Iterable[Named], found: Iterable[Named]) -> Iterator[Difference]:
    """Those of the same name with other properties."""
    names = {item.name: item for item in found}
    for item in wanted:
        other = names.get(item.name)
        if other and (detail := _detail(_properties(item), _properties(other))):
            yield Difference("different", other, detail)


def _properties(item: ExchangeInfo | QueueInfo) -> dict[str, Any]:
    """The properties in a declaration. A queue without a type has the default one, which newer
    brokers write into its arguments."""
    if isinstance(item, ExchangeInfo):
        return {"type": item.type, "durable": item.durable, **item.arguments}
    return {"durable": item.durable, "x-queue-type": DEFAULT_TYPE, **item.arguments}


def _detail(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} is {there.get(name, 'not set')}, in the code {here.get(name, 'not set')}"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    )


def _extra(found: Layout) -> Iterator[Difference]:
    """What the code does not know. The bindings of an extra queue or exchange go with it, and are
    not listed."""
    extra = [*_extra_exchanges(found), *_extra_queues(found)]
    yield from extra
    names = {difference.name for difference in extra}
    for binding in found.bindings:
        ends = {binding.source, binding.destination}
        ours = binding.source and any(map(is_ours, ends)) and not ends & names
        if ours and binding not in KNOWN.bindings:
            yield Difference("extra", binding)


def _extra_exchanges(found: Layout) -> Iterator[Difference]:
    known = {exchange.name for exchange in KNOWN.exchanges}
    for exchange in found.exchanges:
        if is_ours(exchange.name) and exchange.name not in known:
            yield Difference("extra", exchange)


def _extra_queues(found: Layout) -> Iterator[Difference]:
    known = {queue.name for queue in KNOWN.queues}
    for queue in found.queues:
        if is_ours(queue.name) and queue.name not in known:
            yield Difference("extra", queue, _use(queue))


def is_ours(name: str) -> bool:
    """Whether ``name`` belongs to chatbus. Queues for replies do not count: they come and go with
    their gateways."""
    return name.startswith(OUR_PREFIXES) and not name.startswith(REPLIES_PREFIX)


def _use(queue: QueueInfo) -> str:
    if queue.name == GATE.name:
        return "an apply is at work, or was interrupted: then apply again, events are refused"
    counts = {
        "ready": queue.messages_ready,
        "unacknowledged": queue.messages_unacknowledged,
        "consumers": queue.consumers,
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count is not None)


def _to_queue(binding: BindingInfo) -> bool:
    return binding.destination_type == "queue"


# Everything that may exist, required or not.
KNOWN = layout_of([*QUEUES, *map(pause_queue, CONSUMERS.values())])
