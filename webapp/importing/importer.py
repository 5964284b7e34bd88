"""One import: reads the file in chunks, makes people and rooms, publishes what is new."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bus import events
from bus.errors import PermanentError
from bus.message import Message
from bus.runtime.progress_bar import progress_bar
from webapp.accounts.models import User
from webapp.history.selectors import known_ids
from webapp.importing.lines import Line, LineReader, Malformed
from webapp.importing.outbound import Outbound
from webapp.importing.people import People
from webapp.project.broker import publisher

CHUNK = 500


@dataclass
class Counts:
    """What became of the lines of a file."""

    published: int = 0
    known: int = 0
    malformed: int = 0


def import_file(path: Path, *, member: str | None) -> Counts:
    """Imports ``path`` with a progress bar and a closing line.

    Raises PermanentError when ``member`` is nobody's address, BrokerUnavailable when the broker
    stays away; what was published until then is left out by the next run.
    """
    people = People(_account(member) if member else None)
    counts = Counts()
    started = time.monotonic()
    _publish(LineReader(path), people, counts)
    _report(counts, people, time.monotonic() - started)
    return counts


def _account(email: str) -> User:
    try:
        return User.objects.get_by_natural_key(email)
    except User.DoesNotExist:
        raise PermanentError(f"--member: nobody is registered as {email}") from None


def _publish(reader: LineReader, people: People, counts: Counts) -> None:
    outbound = Outbound(publisher)
    with progress_bar("import") as progress:
        lines = _well_formed(reader, counts)
        while chunk := list(islice(lines, CHUNK)):
            people.prepare(chunk)
            outbound.send(_new_messages(chunk, people, counts))
            done = counts.published + counts.known
            progress.update(reader.position / reader.size, done)
        outbound.drain()


def _well_formed(reader: LineReader, counts: Counts) -> Iterator[Line]:
    """The lines to import; the others are reported on standard error."""
    for line in reader:
        if isinstance(line, Malformed):
            counts.malformed += 1
            print(f"line {line.number}: {line.problem}", file=sys.stderr)
        else:
            yield line


def _new_messages(chunk: list[Line], people: People, counts: Counts) -> list[Message]:
    """The messages of ``chunk`` that the history does not have yet."""
    known = known_ids(line.id for line in chunk)
    new = [line for line in chunk if line.id not in known]
    counts.known += len(chunk) - len(new)
    counts.published += len(new)
    return [events.to_message(_event(line, people)) for line in new]


def _event(line: Line, people: People) -> events.MessagePosted:
    return events.make(
        events.MessagePosted,
        event_id=line.id,
        room_id=line.room_id,
        actor=people.person(line.user),
        data=events.PostedData(line.body),
    )


def _report(counts: Counts, people: People, seconds: float) -> None:
    users, rooms = people.counts
    print(
        f"{counts.published:,} messages published, {counts.known:,} were there, "
        f"{counts.malformed:,} lines malformed; {rooms:,} rooms, {users:,} users; "
        f"{seconds:.1f} s, {counts.published / seconds:,.0f} messages/s"
    )
