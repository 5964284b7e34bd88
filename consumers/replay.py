"""`chatbus replay`: the archive of all events, put again into one consumer's sink.

For a lost database, or after a bug in a consumer. Every sink ignores what it has, so a replay
may be repeated, and run while the consumer works. Nothing is pushed to browsers again.
"""

from __future__ import annotations

import argparse
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bus import events, topology
from bus.broker import is_amqp
from bus.errors import InvalidEvent, SettingError
from bus.events import Event, MessageEvent
from bus.message import Delivery
from bus.progress import progress_bar
from bus.settings import Environment
from bus.stream import read_stream

logger = logging.getLogger(__name__)

# Clocks of the web tier and the broker may differ by this much.
CLOCK_SKEW = timedelta(minutes=1)
# One name for all replays: a second one goes on where the first was interrupted.
REPLAY = "replay"

Store = Callable[[Sequence[Event]], object]


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
    parser.description = "Puts the events of the archive into one consumer's sink again."
    parser.add_argument(
        "--into", required=True, choices=["mongo_writer", "redis_publisher"], help="whose sink"
    )
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
        store = _count if arguments.dry_run else _open_sink(arguments.into, environment, stack)
        counts = _replay(url, selection, arguments.into, store)
    _report(counts, dry_run=arguments.dry_run)
    return 0


def _replay(url: str, selection: Selection, into: str, store: Store) -> Counter[str]:
    """Reads the archive up to now and stores what is selected; how many events of each type."""
    counts: Counter[str] = Counter()
    with progress_bar() as progress:
        task = progress.add_task(f"archive → {into}", total=None)
        for deliveries in read_stream(url, topology.ARCHIVE, _first_chunk(selection.start)):
            wanted = [
                event
                for event in _decode(deliveries)
                if _is_for(into, event) and selection.takes(event)
            ]
            if wanted:
                store(wanted)
            counts.update(event.type for event in wanted)
            progress.update(task, items=counts.total())
    return counts


def _decode(deliveries: list[Delivery]) -> Iterator[Event]:
    """The events; what is none is among the dead letters of each queue already."""
    for delivery in deliveries:
        try:
            yield events.decode(delivery.body)
        except InvalidEvent as error:
            logger.warning("skipped in the archive: %s", error)


def _is_for(into: str, event: Event) -> bool:
    """Whether the consumer's queue is bound to events of this type."""
    return into == "redis_publisher" or isinstance(event, MessageEvent)


def _first_chunk(start: datetime | None) -> datetime | None:
    """Where in the archive to begin: an event is archived after it happened, never before."""
    return start - CLOCK_SKEW if start else None


def _open_sink(name: str, environment: Environment, stack: ExitStack) -> Store:
    """Imports and opens that consumer's sink alone."""
    if name == "mongo_writer":
        from consumers.mongo_writer import MongoWriter, open_messages

        messages = open_messages(environment.mongo_url())
        stack.callback(messages.database.client.close)
        return MongoWriter(messages).store
    from bus.room_log import RoomLogWriter

    log = RoomLogWriter.connect(environment.redis_url())
    stack.callback(log.close)
    return lambda batch: log.append(batch, replay=REPLAY)


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


def _report(counts: Counter[str], *, dry_run: bool) -> None:
    verb = "would be replayed" if dry_run else "replayed"
    print(f"{counts.total():,} events {verb}")
    for kind, number in sorted(counts.items()):
        print(f"  {kind:<24} {number:>10,}")
