"""Reads the lines of an import file: ``{"room","at","user","body"}``, one JSON object each."""

from __future__ import annotations

import gzip
import re
import uuid
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import msgspec

from bus.errors import PermanentError
from webapp.accounts.models import MAX_DISPLAY_NAME
from webapp.project.errors import InvalidInput
from webapp.project.text import check_message, clean_name
from webapp.rooms.models import MAX_ROOM_NAME

# The same name always gives the same room, so that an import can be repeated and continued.
_ROOMS = uuid.UUID("6f1f8a0e-5f5b-4c53-9d0c-3c1b8f1d2a70")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A later time may lie in the year 10000 of UTC, which Python cannot write.
_END = datetime(9999, 1, 1, tzinfo=UTC)
_LEAP_SECOND = re.compile(r"(\d\d:\d\d:)60(?:[.,]\d+)?(?=[Z+-])")


class _Raw(msgspec.Struct, frozen=True):
    room: str
    at: str
    user: str
    body: str


_decoder = msgspec.json.Decoder(_Raw)


@dataclass(frozen=True, slots=True)
class Line:
    """A message to import, checked; ``milliseconds`` count from 1970."""

    room: str
    user: str
    body: str
    milliseconds: int

    @property
    def room_id(self) -> uuid.UUID:
        return room_id(self.room)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that the import skips; ``number`` counts from 1."""

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

    @property
    def position(self) -> int:
        return self.size if self._file.closed else self._file.tell()

    def __iter__(self) -> Iterator[Line | Malformed]:
        """Skips blank lines and a byte-order mark. Raises PermanentError for damaged gzip."""
        number = 0
        try:
            with self._file, _unpacked(self._file) as lines:
                for number, text in enumerate(lines, start=1):
                    line = text.removeprefix(BOM_UTF8) if number == 1 else text
                    if line.strip():
                        yield _parsed(number, line)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise PermanentError(f"{self._path} is damaged after line {number}: {error}") from error


def _unpacked(file: BinaryIO) -> BinaryIO | gzip.GzipFile:
    is_gzip = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if is_gzip else file


# Most lines repeat names of earlier ones.
_clean_name = lru_cache(maxsize=10_000)(clean_name)


def _parsed(number: int, text: bytes) -> Line | Malformed:
    try:
        return _checked(_decoder.decode(text))
    except (msgspec.MsgspecError, PermanentError, InvalidInput, ValueError) as error:
        return Malformed(number, str(error))


def _checked(raw: _Raw) -> Line:
    return Line(
        room=_clean_name(raw.room, "room", MAX_ROOM_NAME),
        user=_clean_name(raw.user, "user", MAX_DISPLAY_NAME),
        body=check_message(raw.body),
        milliseconds=_milliseconds(raw.at),
    )


def _milliseconds(text: str) -> int:
    """The time ``text`` in milliseconds since 1970; what is finer is cut off.

    A second 60, which UTC inserts now and then, counts as the last millisecond of the second 59.
    Raises ValueError.
    """
    accepted = "accepted is a time with its zone, 1970 to 9998, such as 2004-12-25T09:14:00Z"
    try:
        at = datetime.fromisoformat(_LEAP_SECOND.sub(r"\g<1>59.999", text.upper()))
    except ValueError:
        raise ValueError(f"“at” is {text!r}; {accepted}") from None
    if at.tzinfo is None or not _EPOCH <= at < _END:
        raise ValueError(f"“at” is {text!r}; {accepted}")
    return (at - _EPOCH) // timedelta(milliseconds=1)
