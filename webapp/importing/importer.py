"""One import: reads the file, makes users and rooms, publishes what the history lacks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bus import events
from bus.errors import RetryableError
from bus.events import MessagePosted
from bus.runtime.progress_bar import ProgressBar, progress_bar
from webapp.history.selectors import ids_in_room
from webapp.importing.arrivals import Arrivals
from webapp.importing.ids import Ids, fingerprint
from webapp.importing.lines import Line, LineReader, Malformed
from webapp.importing.outbound import Outbound
from webapp.importing.people import People
from webapp.project.broker import publisher

CHUNK = 500


@dataclass
class Counts:
    """What became of the lines of a file; ``missing`` were published and are not stored."""

    published: int = 0
    missing: int = 0
    known: int = 0
    malformed: int = 0


def import_file(path: Path, people: People) -> Counts:
    """Imports ``path`` with a progress bar and closing lines; returns when all of it is stored.

    Raises RetryableError when a server stays away, or the history does not get everything. The
    next run adds what is missing then.
    """
    started = time.monotonic()
    importing = _Import(people)
    with progress_bar("import") as progress:
        importing.publish(LineReader(path), progress)
    seconds = time.monotonic() - started
    if importing.counts.published:
        with progress_bar("store") as progress:
            importing.wait_until_stored(progress)
    _report(importing.counts, people, seconds)
    return importing.counts


class _Import:
    def __init__(self, people: People) -> None:
        self._people = people
        self._ids = Ids(ids_in_room)
        self._outbound = Outbound(publisher)
        self._arrivals = Arrivals()
        self.counts = Counts()

    def publish(self, reader: LineReader, progress: ProgressBar) -> None:
        """Returns when the broker has confirmed every message."""
        lines = self._well_formed(reader)
        while chunk := list(islice(lines, CHUNK)):
            self._people.prepare(chunk)
            self._send([event for line in chunk if (event := self._new_event(line))])
            done = self.counts.published + self.counts.known
            progress.update(reader.position / reader.size, done)
        self._outbound.drain()

    def wait_until_stored(self, progress: ProgressBar) -> None:
        published = self.counts.published

        def show() -> None:
            stored = published - self._arrivals.missing
            progress.update(stored / published, stored)

        self._arrivals.wait(show)
        self.counts.missing = self._arrivals.missing

    def _well_formed(self, reader: LineReader) -> Iterator[Line]:
        """The lines to import; reports the others on standard error."""
        for line in reader:
            if isinstance(line, Malformed):
                self.counts.malformed += 1
                print(f"line {line.number}: {line.problem}", file=sys.stderr)
            else:
                yield line

    def _new_event(self, line: Line) -> MessagePosted | None:
        """The event of ``line``; None when the history has it."""
        content = fingerprint(line.room, line.user, line.body)
        event_id = self._ids.next(line.room_id, line.milliseconds, content)
        if event_id is None:
            self.counts.known += 1
            return None
        return events.make(
            MessagePosted,
            event_id=event_id,
            room_id=line.room_id,
            actor=self._people.person(line.user),
            data=events.PostedData(line.body),
        )

    def _send(self, posted: list[MessagePosted]) -> None:
        if posted:
            self._outbound.send([events.to_message(event) for event in posted])
            self._arrivals.expect([event.id for event in posted])
            self.counts.published += len(posted)


def _report(counts: Counts, people: People, seconds: float) -> None:
    """Raises RetryableError when something is missing in the history."""
    users, rooms = people.counts
    print(
        f"{counts.published - counts.missing:,} messages stored, {counts.known:,} were there, "
        f"{counts.malformed:,} lines malformed; {rooms:,} rooms, {users:,} users; "
        f"published in {seconds:.1f} s, {counts.published / seconds:,.0f} messages/s"
    )
    without_owner = people.rooms_without_owner()
    if without_owner:
        print(f"rooms without an owner: {without_owner:,}; import again with --owner EMAIL")
    if counts.missing:
        raise RetryableError(
            f"{counts.missing:,} messages are published, but not in the history yet. `chatbus "
            "status` shows whether mongo_writer is behind, paused or has dead letters. Import "
            "the same file again later: what is missing then is added"
        )
