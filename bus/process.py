"""What every chatbus process does the same way: log, listen to signals, say that it is ready."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType


def configure_logging(process: str, level: str = "INFO") -> None:
    """One line a record on standard error: time, level, process, text."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)-7s {process}: %(message)s",
        force=True,
    )
    # pika reports every broken connection with a traceback; ours says it in one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def on_stop_signals(stop: Callable[[], object]) -> None:
    """Calls ``stop`` on the first SIGTERM or SIGINT; a second one ends the process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, _force)
        signal.signal(signal.SIGINT, _force)
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def stop_event() -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets."""
    stop = threading.Event()
    on_stop_signals(stop.set)
    return stop


def notify_ready() -> None:
    """Tells the service manager that the process does its work now.

    The protocol is systemd's: a datagram to the socket in NOTIFY_SOCKET
    (https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(b"READY=1", address.replace("@", "\0", 1))


def _force(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
