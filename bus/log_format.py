"""How log records are written: JSON lines for programs, one readable line for people.

Both carry the ids by which a message is followed: ``event_id`` and ``room_id`` where the caller
gave them (``extra={…}``), ``trace_id`` also from the work in hand (``bus.trace``).
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from bus import trace

IDS = ("event_id", "room_id", "trace_id")
# One record, one line: what a user typed must not look like another record, nor move the cursor.
_ESCAPES = {
    code: chr(code).encode("unicode_escape").decode() for code in (*range(32), *range(127, 160))
}
_ESCAPES_IN_TRACEBACKS = {code: text for code, text in _ESCAPES.items() if chr(code) != "\n"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line (RFC 8259): time, level, process, logger, message, the ids that are
    known, and ``exception`` with its traceback."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _time(record),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(record),
        }
        if exception := _exception(self, record):
            fields["exception"] = exception
        return json.dumps(fields, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line: time, level, process, message, the ids that are known; a traceback follows it."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname:<7} {self._process}: {record.getMessage()}"
        line += "".join(f" {name}={value}" for name, value in _ids(record).items())
        line = line.translate(_ESCAPES)
        exception = _exception(self, record).translate(_ESCAPES_IN_TRACEBACKS)
        return f"{line}\n{exception}" if exception else line


FORMATS = {"json": JsonFormatter, "text": TextFormatter}
"""LOG_FORMAT → its formatter."""


def _time(record: logging.LogRecord) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ids(record: logging.LogRecord) -> dict[str, str]:
    known = {name: getattr(record, name, None) for name in IDS}
    known["trace_id"] = known["trace_id"] or trace.trace_id()
    return {name: str(value) for name, value in known.items() if value}


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""
