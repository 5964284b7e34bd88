"""Lines of an import file: ``{"room","at","user","body"}``, one JSON object each."""

from __future__ import annotations

import gzip
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import msgspec

from bus import events
from bus.errors import PermanentError
from webapp.accounts.models import MAX_DISPLAY_NAME
from webapp.project.errors import InvalidInput
from webapp.project.text import check_message, clean_name
from webapp.rooms.models import MAX_ROOM_NAME

# A name's room is always the same room, so that an import can be repeated and continued.
_ROOMS = uuid.UUID("6f1f8a0e-5f5b-4c53-9d0c-3c1b8f1d2a70")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Later times may not be written in UTC: Python knows no year 10000.
_END = datetime(9999, 1, 1, tzinfo=UTC)


class _Raw(msgspec.Struct, frozen=True):
    room: str
    at: str
    user: str
    body: str


_decoder = msgspec.json.Decoder(_Raw)


@dataclass(frozen=True, slots=True)
class Line:
    """A message to import: checked, and with the id that it always gets."""

    room: str
    user: str
    body: str
    id: uuid.UUID

    @property
    def room_id(self) -> uuid.UUID:
        return room_id(self.room)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is skipped; ``number`` counts from 1."""

    number: int
    problem: str


@lru_cache(maxsize=10_000)
def room_id(name: str) -> uuid.UUID:
    """The id of the imported room ``name``."""
    return uuid.uuid5(_ROOMS, name)


class LineReader:
    """Reads a file, plain or compressed with gzip, line by line.

    ``size`` and ``position``, how far it has read, are in bytes of the file as it lies on disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size
        self._file = path.open("rb")
        self._numbering = _Numbering()

    @property
    def position(self) -> int:
        return self.size if self._file.closed else self._file.tell()

    def __iter__(self) -> Iterator[Line | Malformed]:
        """Blank lines are passed over. Raises PermanentError when the compression is damaged."""
        number = 0
        try:
            with self._file, _unpacked(self._file) as lines:
                for number, text in enumerate(lines, start=1):
                    if text.strip():
                        yield self._parse(number, text)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise PermanentError(f"{self._path} is damaged after line {number}: {error}") from error

    def _parse(self, number: int, text: bytes) -> Line | Malformed:
        try:
            raw = _decoder.decode(text)
            return _checked(raw, self._numbering)
        except (msgspec.MsgspecError, PermanentError, InvalidInput, ValueError) as error:
            return Malformed(number, str(error))


def _unpacked(file: BinaryIO) -> BinaryIO | gzip.GzipFile:
    is_gzip = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if is_gzip else file


class _Numbering:
    """Counts the lines of one room and one millisecond, which keep their order by that number."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[datetime, int]] = {}

    def next(self, room: str, at: datetime) -> int:
        time, number = self._latest.get(room, (None, 0))
        number = number + 1 if time == at else 0
        self._latest[room] = (at, number)
        return number


# The same names come again and again.
_clean_name = lru_cache(maxsize=10_000)(clean_name)


def _checked(raw: _Raw, numbering: _Numbering) -> Line:
    room = _clean_name(raw.room, "room", MAX_ROOM_NAME)
    user = _clean_name(raw.user, "user", MAX_DISPLAY_NAME)
    body = check_message(raw.body)
    at = _time(raw.at)
    return Line(room, user, body, events.derived_id(at, numbering.next(room, at), room, user, body))


def _time(text: str) -> datetime:
    accepted = "accepted is a time with its zone, 1970 to 9998, such as 2004-12-25T09:14:00Z"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"“at” is {text!r}; {accepted}") from None
    if at.tzinfo is None or not _EPOCH <= at < _END:
        raise ValueError(f"“at” is {text!r}; {accepted}")
    return at
