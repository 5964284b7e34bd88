"""Signals and readiness, the same way in every chatbus process."""

from __future__ import annotations

import _thread
import ctypes
import os
import re
import resource
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

PR_SET_PDEATHSIG = 1
M_MMAP_THRESHOLD = -3
LARGE_BLOCK_BYTES = 256 * 1024


def on_stop_signals(stop: Callable[[], object]) -> None:
    """Calls ``stop`` on the first SIGTERM or SIGINT; a second one ends the process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, _force)
        signal.signal(signal.SIGINT, _force)
        # In another thread, started without a lock: the interrupted one may hold the lock that
        # ``stop`` needs.
        _thread.start_new_thread(stop, ())

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def stop_event() -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets."""
    stop = threading.Event()
    on_stop_signals(stop.set)
    return stop


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A function for a child to run right after its fork.

    The kernel then sends the child signal ``number`` when this process dies, however it dies
    (prctl(2)).
    """
    parent = os.getpid()
    # Before the fork: loading a library takes locks.
    libc = ctypes.CDLL(None, use_errno=True)

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def notify_ready() -> None:
    """Notifies the service manager that the process is ready.

    The protocol is systemd's: a datagram to the socket in NOTIFY_SOCKET
    (https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(b"READY=1", re.sub("^@", "\0", address))


def return_large_blocks() -> None:
    """Has the C library return large blocks of memory to the kernel as soon as they are free.

    Once a large block has been freed, glibc keeps blocks of that size for itself (mallopt(3)), and
    after a few hundred megabytes of answers the process would stay as large as it was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # a function of glibc
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def take_files() -> int:
    """Raises the limit of open files as far as this process may, and returns it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return 2**30 if most == resource.RLIM_INFINITY else most


def _force(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
