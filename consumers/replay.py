"""``chatbus replay``: reads the archive of all events into one consumer's sink again.

It restores a lost database, repairs what a bug in a consumer did, and fills a new consumer's
store. Every sink ignores what it has, so a replay can be repeated, and can run beside the
consumer. A sink that treats past events differently has a method ``replay`` beside ``store``.
"""

from __future__ import annotations

import argparse
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module

from bus import events
from bus.admin.queue_names import queue_named, short_name
from bus.consuming.backfill import CLOCK_SKEW
from bus.errors import InvalidEvent, PermanentError, RetryableError, SettingError
from bus.events import Event
from bus.message import Delivery
from bus.runtime.process import stop_event
from bus.runtime.progress_bar import progress_bar
from bus.runtime.settings import Environment
from bus.topology import ARCHIVE, EVENT_CONSUMERS, EVENT_QUEUES
from bus.transport import has_streams
from bus.transport.rabbitmq.stream import BATCH, TURN_SECONDS, StreamFeed, first_of, offset_of

logger = logging.getLogger(__name__)

Store = Callable[[Sequence[Event]], object]
REFUSED = 3
"""The exit code when the sink refused some events; it has the others."""
STOPPED = 130
"""The exit code after SIGTERM or SIGINT, as shells have it for SIGINT."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events to replay: ``start`` <= time < ``end``, and of one room if it is given.

    ``archived`` is where in the archive to begin, whatever the events' own times: an import
    publishes old events, and the archive has them at the time of the import.
    """

    start: datetime | None = None
    end: datetime | None = None
    room_id: uuid.UUID | None = None
    archived: datetime | None = None

    def takes(self, event: Event) -> bool:
        return (
            (self.start is None or event.time >= self.start)
            and (self.end is None or event.time < self.end)
            and (self.room_id is None or event.channel_id == self.room_id)
        )

    @property
    def first_chunk(self) -> datetime | None:
        """When the first chunk to read was stored: an event is archived after it happened."""
        start = self.start - CLOCK_SKEW if self.start else None
        return max((time for time in (start, self.archived) if time), default=None)

    @property
    def has_window(self) -> bool:
        return bool(self.start or self.end or self.archived)


@dataclass
class Outcome:
    """How many events of each type the sink took, and how many it refused for good.

    ``is_whole``: the archive was read to its end.
    """

    replayed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    is_whole: bool = False

    def add(self, batch: Sequence[Event], refused: Sequence[Event]) -> None:
        """Counts a batch, the refused events among it."""
        taken = Counter(event.type for event in batch)
        without = Counter(event.type for event in refused)
        self.replayed += taken - without
        self.refused += without


class NothingSelected(PermanentError):
    """The archive holds none of the events that were asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Puts the events of the archive into one consumer's sink again. Exit code 1: the archive "
        f"begins after --to, or has no event of --room; {REFUSED}: the sink refused some events "
        f"for good, which the log names, and has the others; {STOPPED}: stopped before the end of "
        "the archive."
    )
    names = f"{', '.join(EVENT_CONSUMERS)}, or the queue's name"
    parser.add_argument("--into", required=True, metavar="NAME", help=f"whose sink: {names}")
    parser.add_argument("--from", dest="start", type=_time, help="first event time, ISO 8601")
    parser.add_argument("--to", dest="end", type=_time, help="event time to stop before")
    parser.add_argument(
        "--archived-from",
        type=_time,
        metavar="TIME",
        help="begin where the archive was at TIME, also with older events that came later, such "
        "as imported ones",
    )
    parser.add_argument("--room", type=uuid.UUID, help="only this room's events")
    parser.add_argument("--dry-run", action="store_true", help="count only, write nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Replays until the end of the archive, or until SIGTERM or SIGINT.

    Raises SettingError for a window that holds no time, NothingSelected, or what ``replay``
    raises.
    """
    url = environment.broker_url()
    if not has_streams(url):
        raise SettingError("BROKER_URL", "replay reads a RabbitMQ stream; accepted is amqp://…")
    selection = _selection(arguments)
    into = short_name(queue_named("--into", arguments.into, EVENT_QUEUES, "has no sink"))
    stop = stop_event()
    with ExitStack() as stack:
        store = _count if arguments.dry_run else _open_store(into, environment, stack)
        outcome = replay(url, selection, into, store, stop)
    if outcome.is_whole and not (outcome.replayed or outcome.refused):
        _explain_nothing(url, selection, into)
    _report("would be replayed" if arguments.dry_run else "replayed", outcome.replayed)
    if outcome.refused:
        _report("refused by the sink; the log says why", outcome.refused)
    if not outcome.is_whole:
        print("stopped before the end of the archive; run it again to replay the rest")
        return STOPPED
    return REFUSED if outcome.refused else 0


def replay(
    url: str, selection: Selection, into: str, store: Store, stop: threading.Event
) -> Outcome:
    """Reads the archive up to now, or until ``stop`` is set, and stores what is selected.

    Raises a RetryableError when the archive or the sink is away: what was stored stays so.
    """
    queue, outcome = EVENT_CONSUMERS[into], Outcome()
    feed = StreamFeed(url, ARCHIVE, selection.first_chunk, BATCH)
    with closing(feed), progress_bar(f"archive into {into}") as progress:
        while not (feed.is_at_end or stop.is_set()):
            if deliveries := feed.receive(BATCH, TURN_SECONDS):
                taken = (d for d in deliveries if queue.takes(d.routing_key))
                wanted = [event for event in _decode(taken) if selection.takes(event)]
                outcome.add(wanted, _put(store, wanted))
                feed.ack(deliveries)
                progress.update(feed.fraction, outcome.replayed.total())
        outcome.is_whole = feed.is_at_end
    return outcome


def _put(store: Store, batch: list[Event]) -> list[Event]:
    """Stores ``batch``; the events that the sink refuses for good, each tried alone."""
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
    """The events; what is not an event is among the dead letters of each queue already."""
    for delivery in deliveries:
        try:
            yield events.decode(delivery.body)
        except InvalidEvent as error:
            logger.warning(
                "skipped offset %d of the archive, id %s: %s",
                offset_of(delivery),
                delivery.message_id,
                error,
            )


def _selection(arguments: argparse.Namespace) -> Selection:
    """Raises SettingError for a window that holds no time."""
    start, end = arguments.start, arguments.end
    if start and end and start >= end:
        raise SettingError("--from", f"{_iso(start)} is not before --to {_iso(end)}")
    archived = arguments.archived_from
    for flag, time in (("--from", start), ("--archived-from", archived)):
        if time and time > datetime.now(UTC) + CLOCK_SKEW:
            raise SettingError(flag, f"{_iso(time)} is in the future")
    return Selection(start, end, arguments.room, archived)


def _explain_nothing(url: str, selection: Selection, into: str) -> None:
    """Says how far back the archive goes.

    Raises NothingSelected where that, or the room, is why no event was selected.
    """
    oldest = first_of(url, ARCHIVE)
    if oldest is None:
        print("the archive is empty")
        return
    begins = datetime.fromtimestamp(oldest.timestamp or 0, UTC)
    covers = f"the archive begins with an event of {_iso(begins)}"
    if selection.end and selection.end <= begins:
        raise NothingSelected(f"nothing to replay before --to {_iso(selection.end)}: {covers}")
    if selection.room_id and not selection.has_window:
        raise NothingSelected(
            f"nothing to replay: the archive has no event of --room {selection.room_id} for {into}"
        )
    print(covers)


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


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
            f"{text!r} is not a time; accepted is ISO 8601, for example 2026-11-21T17:00:00Z"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _report(verb: str, counts: Counter[str]) -> None:
    print(f"{counts.total():,} events {verb}")
    for kind, number in sorted(counts.items()):
        print(f"  {kind:<24} {number:>10,}")
