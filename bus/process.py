"""What every chatbus process does the same way: log, listen to signals, say that it is ready."""

from __future__ import annotations

import _thread
import ctypes
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from bus.errors import SettingError
from bus.log_format import FORMATS
from bus.settings import Environment

logger = logging.getLogger(__name__)

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
PR_SET_PDEATHSIG = 1
# DEBUG is for our own records: libraries would print what users wrote, and much else.
OUR_PACKAGES = ("bus", "webapp", "consumers", "bridge", "deploy")

_libc = ctypes.CDLL(None, use_errno=True)


def configure_logging(process: str, environment: Environment) -> None:
    """All records of the process go to standard error, as LOG_LEVEL and LOG_FORMAT say.

    By default the format is text on a terminal, and JSON for whatever else reads it. Raises
    SettingError.
    """
    level = _choice(environment, "LOG_LEVEL", "INFO", LOG_LEVELS, str.upper)
    default_format = "text" if sys.stderr.isatty() else "json"
    log_format = _choice(environment, "LOG_FORMAT", default_format, tuple(FORMATS), str.lower)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[log_format](process))
    logging.basicConfig(level="INFO" if level == "DEBUG" else level, handlers=[handler], force=True)
    for package in OUR_PACKAGES:
        logging.getLogger(package).setLevel(level)
    # pika reports every broken connection with a traceback; ours says it in one line.
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


def on_stop_signals(stop: Callable[[], object]) -> None:
    """Calls ``stop`` on the first SIGTERM or SIGINT; a second one ends the process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, _force)
        signal.signal(signal.SIGINT, _force)
        # In a thread of its own, made without a lock: the one that was interrupted may hold the
        # lock that ``stop`` needs.
        _thread.start_new_thread(stop, ())

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def stop_event() -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets."""
    stop = threading.Event()
    on_stop_signals(stop.set)
    return stop


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """To run in a child right after its fork: the kernel then sends it signal ``number`` when this
    process dies, however that dies (prctl(2))."""
    parent = os.getpid()

    def arrange() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def notify_ready() -> None:
    """Tells the service manager that the process does its work now.

    The protocol is systemd's: a datagram to the socket in NOTIFY_SOCKET
    (https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(b"READY=1", re.sub("^@", "\0", address))


def _force(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
