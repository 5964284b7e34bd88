"""Logging: where records go, and their form: JSON lines for programs, text for people.

Both carry the ids that follow a message: ``event_id`` and ``room_id`` if the caller gives them
(``extra={…}``), and ``trace_id``, by default that of the current work (``bus.runtime.trace``). JSON
has also what the caller gives as ``audit``, an object of texts and numbers.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from bus.errors import SettingError
from bus.runtime import trace
from bus.runtime.settings import Environment

logger = logging.getLogger(__name__)

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
# DEBUG is for records of chatbus: libraries would print what users wrote, and much else.
OUR_PACKAGES = ("bus", "webapp", "consumers", "bridge", "deploy")

IDS = ("event_id", "room_id", "trace_id")
# One record, one line: a user's text must not look like another record, or move the cursor.
_ESCAPES = {
    code: chr(code).encode("unicode_escape").decode() for code in (*range(32), *range(127, 160))
}
_ESCAPES_IN_TRACEBACKS = {code: text for code, text in _ESCAPES.items() if chr(code) != "\n"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line (RFC 8259): time, level, process, logger, message, the known ids,
    and ``exception`` with its traceback."""

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
        if audit := getattr(record, "audit", None):
            fields["audit"] = audit
        if exception := _exception(self, record):
            fields["exception"] = exception
        return json.dumps(fields, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line: time, level, process, message, the known ids; then the traceback, if any."""

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


def configure_logging(process: str, environment: Environment) -> None:
    """Sends all records of the process to standard error, by LOG_LEVEL and LOG_FORMAT.

    The default format is text on a terminal, and JSON elsewhere. Raises SettingError.
    """
    level = _choice(environment, "LOG_LEVEL", "INFO", LOG_LEVELS, str.upper)
    default_format = "text" if sys.stderr.isatty() else "json"
    log_format = _choice(environment, "LOG_FORMAT", default_format, tuple(FORMATS), str.lower)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[log_format](process))
    logging.basicConfig(level="INFO" if level == "DEBUG" else level, handlers=[handler], force=True)
    for package in OUR_PACKAGES:
        logging.getLogger(package).setLevel(level)
    # pika reports every broken connection with a traceback; chatbus logs it in one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _choice(
    environment: Environment,
    name: str,
    default: str,
    accepted: tuple[str, ...],
    spelling: Callable[[str], str],
) -> str:
    value = spelling(environment.text(name, default))
    if value not in accepted:
        raise SettingError(name, f"{value!r}; accepted are {', '.join(accepted)}")
    return value


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logger.critical("ended by an error: %r", error, exc_info=(kind, error, trace))


def _log_uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value and failed.exc_type is not SystemExit:
        name = failed.thread.name if failed.thread else "?"
        details = (failed.exc_type, failed.exc_value, failed.exc_traceback)
        logger.error("thread %s ended by %r", name, failed.exc_value, exc_info=details)


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
