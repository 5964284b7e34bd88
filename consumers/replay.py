"""`chatbus replay`: the archive of all events, put again into one consumer's sink.

For a lost database, after a bug in a consumer, or for a new one. Every sink ignores what it has,
so a replay may be repeated, and run while the consumer works. A sink for which events of the past
differ from new ones has a method ``replay`` beside its ``store``.
"""

from __future__ import annotations

import argparse
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module

from bus import events, topology
from bus.consuming.backfill import CLOCK_SKEW
from bus.errors import InvalidEvent, RetryableError, SettingError
from bus.events import Event
from bus.message import Delivery
from bus.runtime.progress_bar import progress_bar
from bus.runtime.settings import Environment
from bus.topology import EVENT_CONSUMERS
from bus.transport.admin import is_amqp
from bus.transport.rabbitmq.stream import read_stream

logger = logging.getLogger(__name__)

Store = Callable[[Sequence[Event]], object]
# The exit code when the sink refused some events: the others were replayed.
REFUSED = 3


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events to replay: ``start`` <= time < ``end``, and of one room if it is given."""

    start: datetime | None
    end: datetime | None
    room_id: uuid.UUID | None

    def takes(self, event: Event) -> bool:
        return (
            (self.start is None or event.time >= self.start)
            and (self.end is None or event.time < self.end)
            and (self.room_id is None or event.room_id == self.room_id)
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Puts the events of the archive into one consumer's sink again. Exit code "
        f"{REFUSED}: the sink refused some for good; the log names each, the others are in."
    )
    parser.add_argument("--into", required=True, choices=list(EVENT_CONSUMERS), help="whose sink")
    parser.add_argument("--from", dest="start", type=_time, help="first event time, ISO 8601")
    parser.add_argument("--to", dest="end", type=_time, help="event time to stop before")
    parser.add_argument("--room", type=uuid.UUID, help="only this room's events")
    parser.add_argument("--dry-run", action="store_true", help="count only, write nothing")


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    url = environment.broker_url()
    if not is_amqp(url):
        raise SettingError("BROKER_URL", "replay reads a RabbitMQ stream; accepted is amqp://…")
    selection = Selection(arguments.start, arguments.end, arguments.room)
    with ExitStack() as stack:
        store = _count if arguments.dry_run else _open_store(arguments.into, environment, stack)
        replayed, refused = replay(url, selection, arguments.into, store)
    _report("would be replayed" if arguments.dry_run else "replayed", replayed)
    if refused:
        _report("refused by the sink; the log tells why", refused)
    return REFUSED if refused else 0


def replay(
    url: str, selection: Selection, into: str, store: Store
) -> tuple[Counter[str], Counter[str]]:
    """Reads the archive up to now and stores what is selected.

    How many events of each type the sink took, and how many it refused for good. Raises a
    RetryableError when the archive or the sink is away: what was stored stays so.
    """
    queue = EVENT_CONSUMERS[into]
    replayed, refused = Counter[str](), Counter[str]()
    with progress_bar() as progress:
        task = progress.add_task(f"archive → {into}", total=None)
        for deliveries in read_stream(url, topology.ARCHIVE, _first_chunk(selection.start)):
            taken = (d for d in deliveries if queue.takes(d.routing_key))
            wanted = [event for event in _decode(taken) if selection.takes(event)]
            without = _put(store, wanted)
            refused.update(event.type for event in without)
            replayed.update(event.type for event in wanted)
            replayed.subtract(event.type for event in without)
            progress.update(task, items=replayed.total())
    return +replayed, refused


def _put(store: Store, batch: list[Event]) -> list[Event]:
    """Stores ``batch``, and returns those that the sink refuses for good; it found them alone."""
    if not batch:
        return []
    try:
        store(batch)
    except RetryableError:
        raise
    except Exception as error:  # noqa: BLE001 - a sink may refuse in any way
        if len(batch) == 1:
            reason = f"{type(error).__name__}: {error}"
            logger.error("refused by the sink: %s", reason, extra={"event_id": str(batch[0].id)})
            return batch
        middle = len(batch) // 2
        return _put(store, batch[:middle]) + _put(store, batch[middle:])
    return []


def _decode(deliveries: Iterable[Delivery]) -> Iterator[Event]:
    """The events; what is none is among the dead letters of each queue already."""
    for delivery in deliveries:
        try:
            yield events.decode(delivery.body)
        except InvalidEvent as error:
            logger.warning("skipped in the archive: %s", error)


def _first_chunk(start: datetime | None) -> datetime | None:
    """Where in the archive to begin: an event is archived after it happened, never before."""
    return start - CLOCK_SKEW if start else None


def _open_store(name: str, environment: Environment, stack: ExitStack) -> Store:
    """Imports that consumer's module alone and opens its sink."""
    sink = import_module(f"consumers.{name}").open_sink(environment, stack)
    store: Store = getattr(sink, "replay", sink.store)
    return store


def _count(batch: Sequence[Event]) -> None:
    """The sink of a dry run."""


def _time(text: str) -> datetime:
    """An ISO 8601 time; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; accepted is ISO 8601, for example 2026-11-21T17:00:00Z"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _report(verb: str, counts: Counter[str]) -> None:
    print(f"{counts.total():,} events {verb}")
    for kind, number in sorted(counts.items()):
        print(f"  {kind:<24} {number:>10,}")
